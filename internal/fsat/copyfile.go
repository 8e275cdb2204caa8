package fsat

import (
	"errors"
	"io"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// copyStep is how much is copied between two looks at the context.
const copyStep = 16 << 20

// regular copies a file: by sharing its extents, else within the kernel, else through a
// buffer.
func (c *copier) regular(from, to int, name string, st *unix.Stat_t) error {
	in, err := openat.Regular(from, name, unix.O_RDONLY|unix.O_NOATIME, nil)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := openat.Create(to, name, unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if st.Size > 0 {
		if err := c.data(in, out, st.Size); err != nil {
			return err
		}
	}
	return c.setAttributes(out, in, st)
}

func (c *copier) data(in, out int, size int64) error {
	if c.canClone {
		err := unix.IoctlFileClone(out, in)
		if err == nil {
			return nil
		}
		if !isUnsupported(err) {
			return err
		}
		c.canClone = false
	}
	if err := unix.Ftruncate(out, size); err != nil {
		return err
	}
	for pos := int64(0); pos < size; {
		start, err := unix.Seek(in, pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // nothing but a hole from here on
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(in, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := c.extent(in, out, start, min(end, size)); err != nil {
			return err
		}
		pos = end
	}
	return nil
}

// extent copies the bytes from start to end, which have no hole in between.
func (c *copier) extent(in, out int, start, end int64) error {
	for pos := start; pos < end; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		roff, woff := pos, pos
		n, err := unix.CopyFileRange(in, &roff, out, &woff, int(min(end-pos, copyStep)), 0)
		switch {
		case err == unix.EINTR:
		case isUnsupported(err), err == nil && n == 0:
			return c.extentByBuffer(in, out, pos, end)
		case err != nil:
			return err
		default:
			pos += int64(n)
		}
	}
	return nil
}

func (c *copier) extentByBuffer(in, out int, start, end int64) error {
	buf := make([]byte, 256<<10)
	for pos := start; pos < end; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Pread(in, buf[:min(int64(len(buf)), end-pos)], pos)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF // the file has shrunk while being copied
		}
		for done := 0; done < n; {
			m, err := unix.Pwrite(out, buf[done:n], pos+int64(done))
			if err != nil && err != unix.EINTR {
				return err
			}
			done += max(m, 0)
		}
		pos += int64(n)
	}
	return nil
}

// isUnsupported is about copying by sharing or within the kernel: the file systems
// differ, or can't do it.
func isUnsupported(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EXDEV, unix.EINVAL, unix.EPERM,
		unix.ETXTBSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
