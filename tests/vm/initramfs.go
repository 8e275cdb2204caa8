package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// writeInitramfs makes what the kernel starts from: this very program as /init, and the
// modules, numbered in the order to load them.
func writeInitramfs(dir string, k kernel) (*os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "initramfs"))
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriter(file)
	c := cpio{w: buffered}
	for _, d := range []string{"modules", "dev", "proc", "sys", "root"} {
		c.add(d, modeDir|0o755, nil, 0)
	}
	c.addFile(guestName, 0o755, self)
	for i, module := range k.modules {
		c.addFile(path.Join("modules", fmt.Sprintf("%03d-%s", i, filepath.Base(module))), 0o644, module)
	}
	c.add("TRAILER!!!", 0, nil, 0)
	return file, errors.Join(c.err, buffered.Flush())
}

// Modes of cpio, from stat(2).
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
)

// cpio writes an archive in the newc format:
// Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
type cpio struct {
	w       io.Writer
	written int64
	inode   int
	err     error // the first; later writes are dropped
}

func (c *cpio) add(name string, mode int, content io.Reader, size int64) {
	c.inode++
	c.printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	c.pad()
	if c.err == nil && size > 0 {
		var n int64
		n, c.err = io.CopyN(c.w, content, size)
		c.written += n
	}
	c.pad()
}

func (c *cpio) addFile(name string, mode int, from string) {
	f, err := os.Open(from)
	if err == nil {
		defer f.Close()
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			c.add(name, modeRegular|mode, f, info.Size())
		}
	}
	if c.err == nil {
		c.err = err
	}
}

func (c *cpio) printf(format string, args ...any) {
	if c.err == nil {
		var n int
		n, c.err = fmt.Fprintf(c.w, format, args...)
		c.written += int64(n)
	}
}

// pad fills up to the next multiple of four.
func (c *cpio) pad() { c.printf("%s", "\x00\x00\x00"[:(4-c.written%4)%4]) }
