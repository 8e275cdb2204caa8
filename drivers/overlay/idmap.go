package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Layers keep the container's IDs on disk where the kernel translates them while
// mounting. Then a container costs nothing but its mount, and its upper directory alone
// holds the host's IDs. Where the kernel doesn't, a layer is copied with other owners,
// once for each mapping.

// SupportsShifting reports whether layers can be mounted with a mapping: the kernel must
// take ID-mapped mounts as lower directories (Linux 5.19), the file system must have
// them, and we must be root of the initial user namespace. A mount program takes any
// mapping of one unbroken range.
func (d *Driver) SupportsShifting(ctx context.Context, m idtools.Mapping) (bool, error) {
	if m.Validate() != nil || d.opts.MountProgram != "" && !m.IsOneRange() {
		return false, nil
	}
	return d.shifting(ctx)
}

// ShiftsLayer looks for symlinks into additional layer stores: FUSE mounts take a mapping
// only from daemons that ask for it (Linux 6.12).
func (d *Driver) ShiftsLayer(ctx context.Context, id string) (_ bool, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return false, err
	}
	parents, err := d.homes.Parents(ctx, dir)
	if err != nil {
		return false, err
	}
	for {
		if _, err := openat.Readlink(dir, "diff"); err == nil {
			return false, nil
		}
		if len(parents) == 0 {
			return true, nil
		}
		if dir, _, err = d.homes.Find(parents[0]); err != nil {
			return false, err
		}
		parents = parents[1:]
	}
}

func (d *Driver) shifting(ctx context.Context) (bool, error) {
	if d.opts.DisableIDMap {
		return false, nil
	}
	if d.opts.MountProgram != "" {
		return true, nil
	}
	if os.Geteuid() != 0 {
		return false, nil
	}
	return d.learn(ctx, &d.facts.shifting, "idmapped-lower-dir", d.tryShifting)
}

func (d *Driver) tryShifting(ctx context.Context) (yes bool, why string, err error) {
	const hostID = 1
	spec := mount.Spec{IDMap: &idtools.Mapping{
		UIDs: []idtools.Map{{ContainerID: 0, HostID: hostID, Size: 1}},
		GIDs: []idtools.Map{{ContainerID: 0, HostID: hostID, Size: 1}},
	}}
	err = d.trySpec(ctx, d.homes.Own[0], spec, func(p probe) error {
		return os.WriteFile(filepath.Join(p.lower[0], "f"), nil, 0o600)
	}, func(p probe) error {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(p.merged, "f"), &st); err != nil {
			return err
		}
		if yes = st.Uid == hostID && st.Gid == hostID; !yes {
			why = "owners come out untranslated"
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS), ctx.Err() != nil:
		return false, "", err // says nothing about mappings
	case err != nil:
		return false, err.Error(), nil
	}
	return yes, why, nil
}

// shift adds a mapping to the mount of a layer. A container's own diff has the
// host's IDs, also when it is mounted read-only.
func (d *Driver) shift(ctx context.Context, spec *mount.Spec, opts drivers.MountOptions) error {
	ok, err := d.SupportsShifting(ctx, opts.IDMap)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("mount with an ID map: %w by this kernel, file system or setting", errdefs.ErrUnsupported)
	}
	spec.IDMap = &opts.IDMap
	if d.opts.MountProgram != "" {
		return nil
	}
	if spec.ReadOnly() && !opts.MapOwn {
		spec.Unmapped = 1
	}
	spec.MapDir = filepath.Join(filepath.Dir(spec.Target), "mapped")
	return nil
}

// Remap translates the owners of all that the staged layer shows: it is mounted, so that
// whatever gets another owner is copied up, and what is then in its diff becomes its
// older generation diff1. That is how containers/storage does it, and so it reads the
// result.
//
// The mount is a detached one that nobody else sees, and volatile, since otherwise the
// kernel syncs every file that it copies up; the caller's syncfs covers the result.
func (s *staged) Remap(ctx context.Context, from, to idtools.Mapping) (err error) {
	defer drivers.Describe(&err, "overlay: change owners")
	spec, err := s.remapSpec(ctx)
	if err != nil {
		return err
	}
	if err := chownMounted(ctx, spec, from, to); err != nil {
		return err
	}
	step.Reached(ctx, "overlay: owners changed")
	work := filepath.Join(s.Path(), "work")
	owner := ownerOf(work)
	if err := fsat.RemoveAll(ctx, work); err != nil { // it may refer to the old upper, and is marked volatile
		return err
	}
	if owner.uid, owner.gid, err = to.RootPair(); err != nil {
		return err
	}
	for _, dir := range []string{s.Path(), filepath.Join(s.Path(), "merged")} {
		if err := os.Lchown(dir, int(owner.uid), int(owner.gid)); err != nil {
			return err
		}
	}
	if err := makeDir(work, owner); err != nil {
		return err
	}
	root, err := rootAttributes(s.Content())
	if err != nil {
		return err
	}
	if err := drivers.Rename(s.Content(), s.Content()+"1"); err != nil {
		return err
	}
	return makeDir(s.Content(), root)
}

// remapSpec describes how the staged layer is mounted to change its owners.
func (s *staged) remapSpec(ctx context.Context) (mount.Spec, error) {
	d := s.driver
	spec := mount.Spec{
		Type: "overlay", Source: "overlay",
		Target: filepath.Join(s.Path(), "merged"), Upper: s.Content(), Work: filepath.Join(s.Path(), "work"),
	}
	if d.opts.ForceMask != nil && d.opts.MountProgram == "" {
		return spec, fmt.Errorf("setting force_mask: %w together with another ID map than the parent has",
			errdefs.ErrUnsupported)
	}
	var err error
	if spec.Attr, spec.Data, err = d.options(ctx, drivers.MountOptions{Volatile: true}); err != nil {
		return spec, err
	}
	spec.Lower, err = d.homes.Lowers(ctx, s.Path())
	if len(spec.Lower) == 0 {
		spec.Lower = []string{filepath.Join(s.Path(), "empty")}
	}
	if d.opts.MountProgram != "" {
		d.byProgram(&spec)
	}
	return spec, err
}

func chownMounted(ctx context.Context, spec mount.Spec, from, to idtools.Mapping) (err error) {
	root, err := mount.Detached(ctx, spec)
	if err == nil {
		defer root.Close()
		return idtools.ChownTree(ctx, fmt.Sprintf("/proc/self/fd/%d", root.Fd()), from, to)
	}
	if !errors.Is(err, errdefs.ErrUnsupported) {
		return err
	}
	if err := mount.Perform(ctx, spec); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount(spec.Target)) }()
	return idtools.ChownTree(ctx, spec.Target, from, to)
}
