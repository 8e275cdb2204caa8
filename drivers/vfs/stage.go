package vfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/fsat"
	"golang.org/x/sys/unix"
)

// Stage copies the parent into a directory of tempdirs. With opts.Content it copies that
// layer instead, which holds its own parents' files already.
func (d *Driver) Stage(ctx context.Context, parent string, opts drivers.StageOptions) (_ drivers.Staged, err error) {
	defer drivers.Describe(&err, Name)
	if opts.Limits.Any() {
		return nil, errdefs.Unsupported{What: "limits", By: "by the vfs driver"}
	}
	home := d.homes.For(opts.Writable)
	aside, err := drivers.NewAside(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return nil, err
	}
	s := &staged{Aside: aside, driver: d, home: home, parent: parent}
	if err := s.build(ctx, opts); err != nil {
		_ = s.Discard()
		return nil, fmt.Errorf("stage a layer: %w", err)
	}
	return s, nil
}

// staged is a layer's directory in tempdirs.
type staged struct {
	*drivers.Aside
	driver *Driver
	home   string

	parent   string
	parentIs identity // proves at Commit that parent is still the same layer
}

// Content is the staged directory.
func (s *staged) Content() string { return s.Path() }

func (s *staged) build(ctx context.Context, opts drivers.StageOptions) error {
	uid, gid, err := opts.IDMap.RootPair()
	if err != nil {
		return err
	}
	from := ""
	if s.parent != "" {
		dir, _, err := s.driver.homes.Find(s.parent)
		if err != nil {
			return fmt.Errorf("parent %w", err)
		}
		if s.parentIs, err = identify(dir); err != nil {
			return err
		}
		from = dir
	}
	if opts.Content != "" {
		if from, _, err = s.driver.homes.Find(opts.Content); err != nil {
			return fmt.Errorf("content of %w", err)
		}
	}
	if err := shareLabel(s.Path()); err != nil {
		return err
	}
	if from != "" {
		return fsat.CopyTree(ctx, from, s.Path())
	}
	if err := os.Lchown(s.Path(), int(uid), int(gid)); err != nil {
		return err
	}
	return os.Chmod(s.Path(), 0o555)
}

// Remap changes the owners of the copy.
func (s *staged) Remap(ctx context.Context, from, to idtools.Mapping) (err error) {
	defer drivers.Describe(&err, Name)
	return idtools.ChownTree(ctx, s.Path(), from, to)
}

// TakeRoot has nothing to do: the driver is no Stacker.
func (s *staged) TakeRoot() error { return nil }

// Commit renames the staged directory in. A crash before that leaves a stale temporary
// directory, one after it a whole layer without a record.
func (s *staged) Commit(ctx context.Context, id string) (err error) {
	defer drivers.Describe(&err, "vfs: commit layer %s", id)
	if err := s.ready(ctx, id); err != nil {
		return err
	}
	if err := s.MakeRoom(ctx, s.driver, id); err != nil {
		return err
	}
	layers := filepath.Join(s.home, layerDir)
	return s.Place(ctx, s.driver, id, filepath.Join(layers, id), layers)
}

// ready refuses what can't be committed whatever is at the target.
func (s *staged) ready(ctx context.Context, id string) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	if err := drivers.ValidateID(id); err != nil {
		return err
	}
	if s.parent != "" {
		dir, _, err := s.driver.homes.Find(s.parent)
		if err != nil {
			return fmt.Errorf("parent %w", err)
		}
		if is, err := identify(dir); err != nil || is != s.parentIs {
			return fmt.Errorf("parent layer %s: %w: it was deleted and made anew, or replaced, meanwhile", s.parent,
				errdefs.ErrNotFound)
		}
	}
	return nil
}

// Replace exchanges the staged directory with the layer's, in one step.
func (s *staged) Replace(ctx context.Context, id string) (_ drivers.Trash, err error) {
	defer drivers.Describe(&err, "vfs: replace the content of layer %s", id)
	if err := s.ready(ctx, id); err != nil {
		return nil, err
	}
	dir, home, err := s.driver.homes.Find(id)
	if err != nil {
		return nil, err
	}
	if home != s.home {
		return nil, fmt.Errorf("%w: the layer lies in %s and was staged for %s", errdefs.ErrInvalid, home, s.home)
	}
	return s.Exchange(ctx, s.driver, s.Path(), dir)
}

// identity tells a directory from another one made later under its name. The file system
// may use its inode again, so the time of its making counts as well, where the file
// system keeps that.
type identity struct {
	inode uint64
	born  unix.StatxTimestamp
}

func identify(dir string) (identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME,
		&st); err != nil {
		return identity{}, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	return identity{inode: st.Ino, born: st.Btime}, nil
}
