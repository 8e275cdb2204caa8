// Package atomicfile replaces whole files, so that a reader or a crash finds the old
// content or the new one.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Write replaces the file at path, or creates it, with the concatenation of chunks. The
// content goes to a file named `.tmp-<base><random>` beside it, which is then renamed
// over it and so is never seen half written; on failure that file is removed again.
//
// With sync the new content survives a power cut once Write has returned: the data is on
// disk (fdatasync) before the rename, and the directory after it. Without, the old or the
// new content is there after a crash of the process, but after a power cut it may be
// neither. The error of a sync is final: the kernel has dropped what it could not write,
// so trying the sync again would prove nothing.
//
// An error after the rename (the directory's sync) leaves the new content in place, with
// no promise about a power cut.
func Write(path string, perm fs.FileMode, sync bool, chunks ...[]byte) error {
	return WriteFrom(path, perm, sync, func(w *bufio.Writer) error {
		for _, c := range chunks {
			if _, err := w.Write(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteFrom is Write for content that fill writes piece by piece. When fill returns an
// error the file at path stays as it was.
func WriteFrom(path string, perm fs.FileMode, sync bool, fill func(w *bufio.Writer) error) error {
	next, err := Prepare(path, perm, fill)
	if err != nil {
		return err
	}
	if sync {
		err = next.Sync()
	}
	if err == nil {
		err = next.Rename()
	}
	if cerr := next.Close(); err == nil {
		err = cerr
	}
	if err != nil || !sync {
		return err
	}
	if err := fsat.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Next is the next content of a file, complete and not in its place yet. Write takes the
// same steps for one file; whoever changes several at once takes them for all together.
type Next struct {
	path  string
	aside string // "" once it is in place or discarded
	fd    int    // -1 once it is closed
	st    unix.Stat_t
	// reserve tells that aside isn't a file made for this content, but the path's
	// reserve.
	reserve bool
}

// Prepare writes the content that path shall have to a file beside it.
func Prepare(path string, perm fs.FileMode, fill func(w *bufio.Writer) error) (*Next, error) {
	next, err := create(path, perm)
	if err == nil {
		if err = next.complete(perm, fill); err != nil {
			_ = next.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return next, nil
}

func create(path string, perm fs.FileMode) (*Next, error) {
	dir, base := filepath.Split(path)
	for range 10_000 {
		aside := dir + ".tmp-" + base + strconv.FormatUint(uint64(rand.Uint32()), 10)
		fd, err := openat.Create(unix.AT_FDCWD, aside, unix.O_RDWR, uint32(perm))
		switch {
		case err == nil:
			return &Next{path: path, aside: aside, fd: fd}, nil
		case errors.Is(err, unix.EEXIST):
		default:
			return nil, &os.PathError{Op: "open", Path: aside, Err: err}
		}
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: unix.EEXIST}
}

// buffers are lent to fill: large pieces pass them by, small ones share a write. A
// store's records are written so often that making one each time would keep the garbage
// collector busy.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

func (n *Next) complete(perm fs.FileMode, fill func(w *bufio.Writer) error) error {
	w := buffers.Get().(*bufio.Writer)
	w.Reset(n)
	defer func() {
		w.Reset(nil)
		buffers.Put(w)
	}()
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if n.reserve { // a save that failed has left what it had written
		if end, err := unix.Seek(n.fd, 0, io.SeekCurrent); err != nil {
			return &os.PathError{Op: "seek", Path: n.aside, Err: err}
		} else if err := unix.Ftruncate(n.fd, end); err != nil {
			return &os.PathError{Op: "truncate", Path: n.aside, Err: err}
		}
	}
	if err := unix.Fstat(n.fd, &n.st); err != nil {
		return &os.PathError{Op: "stat", Path: n.aside, Err: err}
	}
	if n.st.Mode&0o777 == uint32(perm) {
		return nil
	}
	if err := unix.Fchmod(n.fd, uint32(perm)); err != nil { // the umask took something away
		return &os.PathError{Op: "chmod", Path: n.aside, Err: err}
	}
	return nil
}

// Stat is what stat(2) says of the content: its size, its time and which file it is are
// those that the path shall have.
func (n *Next) Stat() *unix.Stat_t { return &n.st }

// AddTo has the content synced with others. Then the Next isn't to be closed before the
// Barrier is done with.
func (n *Next) AddTo(b *fsat.Barrier) { b.AddFile(n.aside, n.fd, &n.st, n.Sync) }

// Write is for the buffer that fill writes to.
func (n *Next) Write(p []byte) (int, error) {
	done, err := eintr.WriteAll(p, func(p []byte) (int, error) { return unix.Write(n.fd, p) })
	if err != nil {
		return done, &os.PathError{Op: "write", Path: n.aside, Err: err}
	}
	return done, nil
}

// Sync has the content on disk when it returns. Where a whole file system is synced
// before Rename it isn't needed.
func (n *Next) Sync() error {
	if err := eintr.Again(func() error { return unix.Fdatasync(n.fd) }); err != nil {
		return fmt.Errorf("write %s: %w", n.path, &os.PathError{Op: "fdatasync", Path: n.aside, Err: err})
	}
	return nil
}

// Rename puts the content in its place. That the name is there after a power cut takes a
// sync of the directory.
func (n *Next) Rename() error {
	if n.reserve && unix.Renameat2(unix.AT_FDCWD, n.aside, unix.AT_FDCWD, n.path, unix.RENAME_EXCHANGE) == nil {
		return nil
	}
	if err := unix.Rename(n.aside, n.path); err != nil {
		return fmt.Errorf("write %s: %w", n.path, &os.LinkError{Op: "rename", Old: n.aside, New: n.path, Err: err})
	}
	n.aside = ""
	return nil
}

// Close removes the content if Rename hasn't put it in its place. It can be called twice.
func (n *Next) Close() error {
	if n.aside != "" && !n.reserve {
		_ = unix.Unlink(n.aside) // what stays is named by its prefix, and goes with the next collection
		n.aside = ""
	}
	fd := n.fd
	n.fd = -1
	if fd < 0 {
		return nil
	}
	if err := unix.Close(fd); err != nil { // a network file system can tell here that it didn't write
		return fmt.Errorf("write %s: %w", n.path, err)
	}
	return nil
}
