// Package diskusage counts what a directory tree holds.
package diskusage

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/shalestore/shale/internal/layerdir"
	"golang.org/x/sys/unix"
)

// Tree is what a directory tree holds. What has several names counts once.
type Tree struct {
	Size      int64 // the sum in bytes of the sizes of everything but directories: what is to be read
	Allocated int64 // the bytes of disk that everything takes, directories included: what df counts
	Inodes    int64
}

// Count measures a tree, dir itself included. Nothing beneath dir is reached through a
// path, no symlink is followed and nothing that is mounted in the tree is entered.
//
// The tree may change meanwhile: what vanishes isn't counted. dir itself may be a
// symlink.
func Count(ctx context.Context, dir string) (t Tree, err error) {
	root, err := layerdir.OpenRoot(dir)
	if err != nil {
		return t, err
	}
	defer root.Release()
	var top unix.Stat_t
	if err := unix.Fstat(root.FD, &top); err != nil {
		return t, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	w, err := layerdir.NewWalk(root)
	if err != nil {
		return t, fmt.Errorf("count %s: %w", dir, err)
	}
	defer w.Close()
	w.Nameless = true
	t.add(&top)
	seen := map[uint64]bool{} // inodes with several names
	for w.Next(ctx) {
		if err := w.Stat(); layerdir.Absent(err) {
			continue
		} else if err != nil {
			return Tree{}, fmt.Errorf("count %s: %w", dir, err)
		}
		switch {
		case layerdir.IsDir(&w.St) && w.St.Dev != top.Dev:
			t.Inodes++ // what covers the directory has sizes of its own
			continue
		case layerdir.IsDir(&w.St):
			w.Descend()
		case w.St.Nlink > 1 && seen[w.St.Ino]:
			continue
		case w.St.Nlink > 1:
			seen[w.St.Ino] = true
		}
		t.add(&w.St)
	}
	if w.Err != nil && !errors.Is(w.Err, layerdir.ErrMoved) {
		return Tree{}, fmt.Errorf("count %s: %w", dir, w.Err)
	}
	return t, nil
}

func (t *Tree) add(st *unix.Stat_t) {
	t.Inodes++
	t.Allocated += Allocated(st)
	if !layerdir.IsDir(st) {
		t.Size += st.Size
	}
}

// Allocated is how many bytes of disk a file takes. st_blocks is in units of 512 bytes
// whatever the file system's block is (stat(2)).
func Allocated(st *unix.Stat_t) int64 { return st.Blocks * 512 }
