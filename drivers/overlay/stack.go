package overlay

import (
	"context"
	"fmt"
	"os"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// What overlayfs shows of a layer doesn't depend on what is beneath it while the layer is
// filled, so a layer can be staged on one that isn't in place yet: all it needs to know
// is that one's ID, short name and parents.

// StageOn is Stage on top of a layer that isn't in place yet.
func (d *Driver) StageOn(ctx context.Context, lower drivers.Staged, parent string,
	opts drivers.StageOptions) (drivers.Staged, error) {
	under, ok := lower.(*staged)
	if !ok || under.driver != d {
		return nil, fmt.Errorf("overlay: stage a layer: %w: not a layer staged by this driver is beneath it",
			errdefs.ErrInvalid)
	}
	s, err := d.stage(ctx, parent, under, opts)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// findLower learns what the layer lies on, and returns the parent's root directory.
func (s *staged) findLower(ctx context.Context) (root string, err error) {
	if p := s.stagedParent; p != nil {
		s.lower = files.Chain{IDs: append([]string{s.parent}, p.lower.IDs...),
			Links: append([]string{p.link}, p.lower.Links...)}
		return p.Content(), nil
	}
	dir, _, err := s.driver.homes.Find(s.parent)
	if err != nil {
		return "", fmt.Errorf("parent %w", err)
	}
	if s.lower, err = s.driver.homes.ChainOf(ctx, s.parent, dir); err != nil {
		return "", err
	}
	return s.driver.homes.Content(dir)
}

// TakeRoot gives the root directory the owner and mode of the staged parent's.
func (s *staged) TakeRoot() (err error) {
	defer drivers.Describe(&err, "overlay: root directory of a staged layer")
	if s.stagedParent == nil {
		return nil
	}
	root, err := rootAttributes(s.stagedParent.Content())
	if err != nil {
		return err
	}
	if s.driver.opts.ForceMask != nil {
		return root.override(s.Content())
	}
	if err := os.Lchown(s.Content(), int(root.uid), int(root.gid)); err != nil {
		return err
	}
	if err := unix.Chmod(s.Content(), root.mode); err != nil { // after chown, which may clear setuid and setgid
		return &os.PathError{Op: "chmod", Path: s.Content(), Err: err}
	}
	return nil
}
