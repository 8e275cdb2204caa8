package layerdir

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dirent is one name of a directory, as getdents64(2) gives it.
type Dirent struct {
	Name string
	Ino  uint64
	Typ  uint8 // unix.DT_*; DT_UNKNOWN on file systems that don't say
}

// List reads the names of an open directory, sorted by bytes. The directory's position
// is where it was before: at the start.
func List(fd int) ([]Dirent, error) {
	var (
		buf  [32768]byte
		list []Dirent
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
	slices.SortFunc(list, func(a, b Dirent) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// parseDirents appends the records of a getdents64(2) buffer to list: ino u64, off u64,
// reclen u16, type u8, name up to a NUL. The names of one buffer share one allocation.
func parseDirents(list []Dirent, buf []byte) []Dirent {
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
			list = append(list, Dirent{Name: name, Ino: ino, Typ: buf[18]})
		}
		buf, all = buf[size:], all[size:]
	}
	return list
}
