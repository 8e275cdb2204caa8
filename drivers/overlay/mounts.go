package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Mounts describes the one overlay mount of a layer. It also makes the mount possible
// where something stands in its way: it makes a missing merged directory, and takes away
// the mark of a volatile mount that ended in a crash. So it must not be called for a
// writable mount of a layer that is mounted.
func (d *Driver) Mounts(ctx context.Context, id string, opts drivers.MountOptions) (_ []mount.Spec, err error) {
	defer drivers.Describe(&err, Name)
	spec, err := d.mountSpec(ctx, id, opts)
	if err != nil {
		return nil, err
	}
	return []mount.Spec{spec}, nil
}

func (d *Driver) mountSpec(ctx context.Context, id string, opts drivers.MountOptions) (mount.Spec, error) {
	find := d.homes.FindOwn
	if opts.ReadOnly {
		find = d.homes.Find
	}
	dir, home, err := find(id)
	if err != nil {
		return mount.Spec{}, err
	}
	diff := filepath.Join(dir, "diff")
	content, err := d.homes.Content(dir)
	if err != nil {
		return mount.Spec{}, fmt.Errorf("layer %s: %w", id, err)
	}
	opts.ReadOnly = opts.ReadOnly || content != diff // nobody can write to another store's layer
	spec := mount.Spec{Type: "overlay", Source: "overlay", Target: d.mountPoint(dir, home)}
	if spec.Attr, spec.Data, err = d.options(ctx, opts); err != nil {
		return mount.Spec{}, fmt.Errorf("layer %s: %w", id, err)
	}
	if spec.Lower, err = d.homes.Lowers(ctx, dir); err != nil {
		return mount.Spec{}, err
	}
	if len(spec.Lower) == 0 {
		if err := openat.IsDir(home, id+"/empty"); err != nil {
			return mount.Spec{}, fmt.Errorf("layer %s: %w", id, err)
		}
		spec.Lower = []string{filepath.Join(dir, "empty")}
	}
	if spec.ReadOnly() {
		spec.Lower = slices.Insert(spec.Lower, 0, diff)
	} else {
		spec.Upper, spec.Work = diff, filepath.Join(dir, "work")
		// overlayfs refuses to mount over what a volatile mount left when it wasn't
		// unmounted, since its upper may be torn
		// (Documentation/filesystems/overlayfs.rst, Volatile mount). The container asked
		// for that risk. The look for the mark also makes sure that work is no link.
		if err := removeMark(ctx, spec.Work); err != nil {
			return mount.Spec{}, err
		}
	}
	if len(spec.Lower) > mount.MaxLower {
		return mount.Spec{}, fmt.Errorf("layer %s: %w: %d lower directories, and the kernel takes %d", id,
			errdefs.ErrInvalid, len(spec.Lower), mount.MaxLower)
	}
	if !opts.IDMap.IsIdentity() {
		if err := d.shift(ctx, &spec, opts); err != nil {
			return mount.Spec{}, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	if d.opts.MountProgram != "" {
		d.byProgram(&spec)
	}
	switch {
	case spec.Target != filepath.Join(dir, "merged"):
		return spec, os.MkdirAll(spec.Target, 0o700)
	case slices.Contains(d.homes.Others, home):
		return spec, nil // whoever looks at the layer has a place of their own for that
	}
	return spec, makeMerged(ctx, home, dir, spec.Target)
}

// removeMark removes the mark of a volatile mount from a work directory, a directory that
// is missing as a rule, and empty otherwise.
func removeMark(ctx context.Context, work string) error {
	home, id := filepath.Split(filepath.Dir(work))
	fd, err := openat.Open(home, filepath.Join(id, "work/work/incompat"), unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlinkat(fd, "volatile", unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
		return nil
	}
	return fsat.RemoveAll(ctx, openat.ProcPath(fd)+"/volatile")
}

// options decides about the mount's flags and the file system's options. The caller's own
// replace mountopt, except that metacopy=on stays: a kernel without it doesn't follow the
// metacopies that earlier mounts have made.
func (d *Driver) options(ctx context.Context, opts drivers.MountOptions) (attr uint64, data []string, err error) {
	const metacopy = "metacopy=on"
	given := opts.Options
	if len(given) == 0 {
		given = d.opts.MountOptions
	}
	attr, data, err = mount.ParseOptions(given)
	if err != nil {
		return 0, nil, err
	}
	if slices.Contains(d.opts.MountOptions, metacopy) && !slices.Contains(data, metacopy) {
		data = append(data, metacopy)
	}
	if slices.Contains(data, metacopy) {
		works, err := d.metacopy(ctx)
		if err != nil {
			return 0, nil, err
		}
		if !works {
			data = slices.DeleteFunc(data, func(o string) bool { return o == metacopy })
		}
	}
	if d.opts.MountProgram == "" && d.UserXattr() && !slices.Contains(data, "userxattr") {
		data = append(data, "userxattr")
	}
	if opts.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if attr&unix.MOUNT_ATTR_RDONLY != 0 {
		// Without an upper directory there is nothing to sync.
		data = slices.DeleteFunc(data, func(o string) bool { return o == "volatile" })
	} else if opts.Volatile && !slices.Contains(data, "volatile") {
		works, err := d.volatile(ctx)
		if err != nil {
			return 0, nil, err
		}
		if works {
			data = append(data, "volatile")
		}
	}
	if opts.Label != "" {
		if strings.ContainsAny(opts.Label, "\"\x00") {
			return 0, nil, fmt.Errorf("mount label %q: %w", opts.Label, errdefs.ErrInvalid)
		}
		data = append(data, "context="+opts.Label)
	}
	return attr, data, nil
}

// makeMerged makes the mount point if it is missing, owned as work is. What isn't a
// directory gives way to it.
func makeMerged(ctx context.Context, home, dir, merged string) error {
	if info, err := os.Lstat(merged); err == nil {
		if info.IsDir() {
			return nil
		}
		if err := os.Remove(merged); err != nil {
			return err
		}
	}
	err := makeDirWithin(ctx, home, merged, ownerOf(filepath.Join(dir, "work")))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// ownerOf gives a directory's owner, root's where it can't be told, with mode 0700.
func ownerOf(path string) attributes {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return attributes{mode: 0o700}
	}
	return attributes{uid: st.Uid, gid: st.Gid, mode: 0o700}
}

// MountPoint is where a layer is mounted.
func (d *Driver) MountPoint(id string) (_ string, err error) {
	defer drivers.Describe(&err, Name)
	dir, home, err := d.homes.Find(id)
	return d.mountPoint(dir, home), err
}

// mountPoint is where the layer in dir is mounted: for one of another store, in which
// nothing is changed, in the run root, where containers/storage has it too.
func (d *Driver) mountPoint(dir, home string) string {
	if slices.Contains(d.homes.Others, home) && d.opts.RunRoot != "" {
		return filepath.Join(d.opts.RunRoot, Name, filepath.Base(dir), "merged")
	}
	return filepath.Join(dir, "merged")
}

// Unmounted puts a fresh directory in the place of the layer's mount point. A rename over
// a directory on which other mount namespaces still have the layer mounted detaches it
// there (Linux 3.18), so that nothing keeps a deleted container's files alive; and the
// mount point is never missing. What somebody has written there while the layer wasn't
// mounted is nobody's, and is deleted. On a file system that is read-only or full
// everything stays as it is.
func (d *Driver) Unmounted(ctx context.Context, id string) (err error) {
	defer drivers.Describe(&err, Name)
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, home, err := d.homes.Find(id)
	if err != nil {
		return err
	}
	if slices.Contains(d.homes.Others, home) {
		if at := d.mountPoint(dir, home); at != filepath.Join(dir, "merged") {
			_ = unix.Rmdir(at) // it is made anew when it is needed
			_ = unix.Rmdir(filepath.Dir(at))
		}
		return nil
	}
	merged, fresh := filepath.Join(dir, "merged"), filepath.Join(dir, "merged.1")
	err = makeDirWithin(ctx, home, fresh, ownerOf(merged))
	if errors.Is(err, unix.EROFS) || isFull(err) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	err = unix.Rename(fresh, merged)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		if terr := throwAway(ctx, home, merged); terr != nil {
			return fmt.Errorf("layer %s: %w", id, terr)
		}
		err = unix.Rename(fresh, merged)
	}
	if err != nil {
		_ = unix.Rmdir(fresh)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%w: still mounted: %w", errdefs.ErrBusy, err)
		}
		return fmt.Errorf("renew the mount point %s: %w", merged, err)
	}
	return nil
}

// throwAway deletes a file or directory in a layer's directory, so that it is gone at
// once or, after a crash, when somebody recovers.
func throwAway(ctx context.Context, home, path string) error {
	temp, err := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return err
	}
	return errors.Join(temp.Take(path), temp.Remove(ctx))
}
