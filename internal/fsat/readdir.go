package fsat

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

var direntBuffers = sync.Pool{New: func() any { b := make([]byte, direntSpace); return &b }}

// readDir calls fn for every entry but "." and "..", from the descriptor's position on,
// with its type as in the directory: a DT_ constant, DT_UNKNOWN on some file systems. It
// stops at fn's first error.
func readDir(fd int, fn func(name string, typ uint8) error) error {
	for {
		n, err := readSome(fd, fn)
		if err != nil || n == 0 {
			return err
		}
	}
}

// direntSpace is how much of a directory is read at once.
const direntSpace = 32 << 10

// readSome is readDir of as much as one system call reads: so many bytes, 0 at the end.
func readSome(fd int, fn func(name string, typ uint8) error) (n int, err error) {
	buf := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(buf)
	err = retry(func() (err error) {
		n, err = unix.Getdents(fd, *buf)
		return err
	})
	if err != nil {
		return 0, err
	}
	for rest := (*buf)[:n]; len(rest) > 0; {
		// struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name ending in
		// NUL
		size := int(binary.NativeEndian.Uint16(rest[16:]))
		typ, name := rest[18], rest[19:size]
		rest = rest[size:]
		name = name[:bytes.IndexByte(name, 0)]
		if s := string(name); s != "." && s != ".." {
			if err := fn(s, typ); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// fdPath is a path for the system calls that have no *at form; nothing in it but the last
// name can be a symlink of the tree.
func fdPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

func openAt(dir int, name string, flags int) (int, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}
