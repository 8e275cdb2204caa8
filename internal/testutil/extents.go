package testutil

import (
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FirstBlock asks the kernel at which byte of the device a file's first extent lies.
// Files that share it have the same answer.
func FirstBlock(t testing.TB, path string) uint64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// struct fiemap has 32 bytes before its extents, struct fiemap_extent has its
	// physical offset behind its logical one (linux/fiemap.h).
	const request = 0xC020660B // FS_IOC_FIEMAP
	buffer := make([]byte, 32+56)
	binary.NativeEndian.PutUint64(buffer[8:], ^uint64(0)) // fm_length
	// fm_flags: FIEMAP_FLAG_SYNC, as what isn't written yet lies nowhere
	binary.NativeEndian.PutUint32(buffer[16:], 1)
	binary.NativeEndian.PutUint32(buffer[24:], 1) // fm_extent_count
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request,
		uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		t.Fatalf("where %s lies: %v", path, errno)
	}
	return binary.NativeEndian.Uint64(buffer[32+8:])
}
