package overlay

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// supportsDType reports whether the entries of a directory, which has at least one, carry
// their type. overlayfs depends on it to see whiteouts.
func supportsDType(dir string) (bool, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", dir, err)
	}
	// struct linux_dirent64 (getdents64(2)): the type is one byte, after the inode, the
	// offset and the record's length.
	const lengthAt, typeAt = unsafe.Offsetof(unix.Dirent{}.Reclen), unsafe.Offsetof(unix.Dirent{}.Type)
	for entries := buf[:n]; len(entries) > int(typeAt); {
		if entries[typeAt] == unix.DT_UNKNOWN {
			return false, nil
		}
		length := int(binary.NativeEndian.Uint16(entries[lengthAt:]))
		if length == 0 || length > len(entries) {
			break
		}
		entries = entries[length:]
	}
	return true, nil
}
