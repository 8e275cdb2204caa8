package dedupe_test

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fiemap returns the physical place of a file's first extent. struct fiemap has 32 bytes before its extents, struct fiemap_extent
// has its physical offset behind its logical one (linux/fiemap.h).
func fiemap(file *os.File) (uint64, error) {
	const request = 0xC020660B // FS_IOC_FIEMAP
	buffer := make([]byte, 32+56)
	binary.NativeEndian.PutUint64(buffer[8:], ^uint64(0)) // fm_length
	binary.NativeEndian.PutUint32(buffer[24:], 1)         // fm_extent_count
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		return 0, errno
	}
	return binary.NativeEndian.Uint64(buffer[32+8:]), nil
}
