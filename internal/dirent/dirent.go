// Package dirent reads directories that are open, without opening anything else.
package dirent

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/shalestore/shale/internal/eintr"
	"golang.org/x/sys/unix"
)

// Entry is one name of a directory, as getdents64(2) gives it.
type Entry struct {
	Name string
	Ino  uint64
	Type uint8 // unix.DT_*; DT_UNKNOWN on file systems that don't say
}

// IsDir reports whether it is known to be a directory.
func (e Entry) IsDir() bool { return e.Type == unix.DT_DIR }

// Size is how many bytes of a directory Read asks for at once.
const Size = 32 << 10

var buffers = sync.Pool{New: func() any { return new([Size]byte) }}

// Read appends to list what one system call reads from the descriptor's position on,
// without "." and "..". It also returns how many bytes that were; 0 at the end.
func Read(fd int, list []Entry) ([]Entry, int, error) {
	buf := buffers.Get().(*[Size]byte)
	defer buffers.Put(buf)
	n := 0
	err := eintr.Again(func() (err error) {
		n, err = unix.Getdents(fd, buf[:])
		return err
	})
	if err != nil {
		return list, 0, err
	}
	return parse(list, buf[:n]), n, nil
}

// parse takes apart struct linux_dirent64: ino u64, off s64, reclen u16, type u8, a name
// ending in NUL. The names of one buffer share one allocation.
func parse(list []Entry, buf []byte) []Entry {
	const lengthAt, typeAt, nameAt = 16, 18, 19
	for all := string(buf); len(buf) > nameAt; {
		size := int(binary.NativeEndian.Uint16(buf[lengthAt:]))
		if size <= nameAt || size > len(buf) {
			break
		}
		name, _, _ := strings.Cut(all[nameAt:size], "\x00")
		if name != "." && name != ".." {
			list = append(list, Entry{name, binary.NativeEndian.Uint64(buf), buf[typeAt]})
		}
		buf, all = buf[size:], all[size:]
	}
	return list
}

// List reads a directory from its start, sorted by the bytes of the names.
func List(fd int) ([]Entry, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var list []Entry
	for {
		var n int
		var err error
		if list, n, err = Read(fd, list); err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Empty reports whether nothing is in a directory.
func Empty(fd int) (bool, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return false, err
	}
	for {
		if list, n, err := Read(fd, nil); err != nil || n == 0 || len(list) > 0 {
			return err == nil && n == 0, err
		}
	}
}
