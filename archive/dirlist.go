package archive

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dirent is one name of a directory, as getdents64(2) gives it.
type dirent struct {
	name string
	ino  uint64
	typ  uint8 // unix.DT_*; DT_UNKNOWN on file systems that don't say
}

// listDir reads the names of an open directory, sorted by bytes. The directory's position
// is where it was before: at the start.
func listDir(fd int) ([]dirent, error) {
	var (
		buf  [32768]byte
		list []dirent
	)
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		list = parseDirents(list, buf[:n])
	}
	slices.SortFunc(list, func(a, b dirent) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// parseDirents appends the records of a getdents64(2) buffer to list: ino u64, off u64,
// reclen u16, type u8, name up to a NUL. The names of one buffer share one allocation.
func parseDirents(list []dirent, buf []byte) []dirent {
	all := string(buf)
	for len(buf) >= 19 {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < 19 || size > len(buf) {
			break
		}
		name := all[19:size]
		if end := strings.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		ino := binary.NativeEndian.Uint64(buf)
		if ino != 0 && name != "." && name != ".." && name != "" {
			list = append(list, dirent{name: name, ino: ino, typ: buf[18]})
		}
		buf, all = buf[size:], all[size:]
	}
	return list
}
