package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Settle gives a layer that Tar has made, with whiteouts in overlay's form, the whiteouts
// that its lowers call for: the parents' content directories, nearest first, which must
// be whole by now. It changes nothing where the layer has no whiteouts.
//
//   - A whiteout of what no lower has goes. In a directory that only this layer has the
//     kernel would show it, as a name that can't be looked up.
//   - Overlay pays no heed to the attribute of an opaque directory on the root of a
//     layer. What a layer with an opaque root hides gets a whiteout for each name.
func Settle(ctx context.Context, dir string, lowers []string, form archive.WhiteoutForm, result Result) error {
	opaque := opaqueAttr(form)
	if opaque == "" || result.Whiteouts == 0 && !result.OpaqueRoot {
		return nil
	}
	low, err := layerdir.OpenLowers(lowers)
	if err != nil {
		return err
	}
	defer low.Close()
	root, err := layerdir.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Release()
	if result.OpaqueRoot {
		if err := hideRoot(root.FD, low, opaque); err != nil {
			return err
		}
	}
	return removeGhosts(ctx, root, low, opaque)
}

// hideRoot hides all that the lowers have.
func hideRoot(root int, low *layerdir.Lowers, opaque string) error {
	names, err := low.Names("", opaque)
	if err != nil {
		return err
	}
	return keepTimes(root, func() error {
		for _, name := range names {
			err := unix.Mknodat(root, name, unix.S_IFCHR, 0)
			if errors.Is(err, unix.EEXIST) { // what this layer has hides it, if it is no directory
				var fd int
				if fd, err = openat.Dir(root, name); layerdir.Absent(err) {
					continue
				} else if err == nil {
					err = xattr.Open(fd).Set(opaque, []byte("y"), 0)
					unix.Close(fd)
				}
			}
			if err != nil {
				return fmt.Errorf("hide %s: %w", shown(name), err)
			}
		}
		return nil
	})
}

// removeGhosts removes the whiteouts that hide nothing.
func removeGhosts(ctx context.Context, root *layerdir.Dir, low *layerdir.Lowers, opaque string) error {
	w, err := layerdir.NewWalk(root)
	if err != nil {
		return err
	}
	defer w.Close()
	hidden := []bool{false} // for each directory on the way down: whether it shows this layer's files alone
	for w.Next(ctx) {
		hidden = hidden[:w.Depth()+1]
		switch alone := hidden[w.Depth()]; w.Type {
		case unix.DT_DIR:
			n, _ := xattr.At(w.Dir.FD, w.Name).Size(opaque)
			hidden = append(hidden, alone || n == len("y"))
			w.Descend()
		case unix.DT_CHR:
			if err := w.Stat(); err != nil || !layerdir.IsWhiteout(&w.St) {
				continue
			}
			if !alone {
				shows, err := low.Shows(strings.TrimSuffix(w.Parent(), "/"), w.Name, opaque)
				if err != nil {
					return err
				}
				if shows {
					continue
				}
			}
			err := keepTimes(w.Dir.FD, func() error { return unix.Unlinkat(w.Dir.FD, w.Name, 0) })
			if err != nil {
				return fmt.Errorf("remove whiteout %s: %w", shown(w.Path), err)
			}
		}
	}
	return w.Err
}

// keepTimes does something to a directory that its times tell nothing of.
func keepTimes(dir int, change func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return futimens(dir, &[2]unix.Timespec{st.Atim, st.Mtim})
}
