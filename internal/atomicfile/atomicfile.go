// Package atomicfile replaces whole files, so that a reader or a crash finds the old content or the new one.
package atomicfile

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/internal/fsat"
	"golang.org/x/sys/unix"
)

// Write replaces the file at path, or creates it, with the concatenation of chunks. The content goes to a file named
// `.tmp-<base><random>` beside it, which is then renamed over it and so is never seen half written; on failure that file
// is removed again.
//
// With sync the new content survives a power cut once Write has returned: the data is on disk (fdatasync) before the
// rename, and the directory after it. Without, the old or the new content is there after a crash of the process, but after a
// power cut it may be neither. The error of a sync is final: the kernel has dropped what it could not write, so trying
// the sync again would prove nothing.
//
// An error after the rename (the directory's sync) leaves the new content in place, with no promise about a power cut.
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

// WriteFrom is Write for content that fill writes piece by piece. When fill returns an error the file at path stays as it was.
func WriteFrom(path string, perm fs.FileMode, sync bool, fill func(w *bufio.Writer) error) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	tmp, err := os.CreateTemp(dir, ".tmp-"+base)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := complete(tmp, perm, sync, fill); err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := tmp.Close(); err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	if !sync {
		return nil
	}
	if err := fsat.SyncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// complete fills the temporary file and makes it ready to be renamed.
func complete(f *os.File, perm fs.FileMode, sync bool, fill func(w *bufio.Writer) error) error {
	w := bufio.NewWriterSize(f, 64<<10) // large pieces pass it by, small ones share a write
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
