package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/internal/xattr"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// UserXattr reports whether overlayfs must keep its attributes in user.overlay.* (option
// userxattr, Linux 5.11): it must where trusted.* is closed to us, that is without
// CAP_SYS_ADMIN in the initial user namespace. Replacing an attribute that doesn't exist
// tells, and changes nothing: who may not is told EPERM before the kernel looks whether
// it exists.
func (d *Driver) UserXattr() bool {
	d.facts.userXattr.Do(func() {
		err := xattr.Path(d.homes.Own[0]).Set("trusted.overlay.shale", nil, unix.XATTR_REPLACE)
		d.facts.userXattrs = errors.Is(err, unix.EPERM)
	})
	return d.facts.userXattrs
}

// xattr is the full name of one of overlayfs' attributes.
func (d *Driver) xattr(name string) string {
	if d.UserXattr() {
		return "user.overlay." + name
	}
	return "trusted.overlay." + name
}

// NativeDiff reports whether a layer's diff alone tells what the layer changes. It
// doesn't when the kernel copies the opaque mark of a directory up (before Linux 4.8),
// when it records renamed directories as redirects, or when it leaves data behind
// (metacopy); and a mount program has marks of its own.
func (d *Driver) NativeDiff(ctx context.Context) (bool, error) {
	if d.opts.MountProgram != "" {
		return false, nil
	}
	return d.learn(ctx, &d.facts.nativeDiff, d.withOptions("native-diff"), d.tryNativeDiff)
}

// metacopy reports whether a mount with the store's mountopt changes a file's attributes
// without copying its data.
func (d *Driver) metacopy(ctx context.Context) (bool, error) {
	if d.opts.MountProgram != "" {
		return false, nil
	}
	return d.learn(ctx, &d.facts.metacopy, d.withOptions("metacopy"), d.tryMetacopy)
}

// volatile reports whether the kernel has mounts that are never synced (Linux 5.10).
func (d *Driver) volatile(ctx context.Context) (bool, error) {
	if d.opts.MountProgram != "" {
		return true, nil
	}
	return d.learn(ctx, &d.facts.volatile, "volatile", d.tryVolatile)
}

// supported returns errdefs.ErrUnsupported, with the reason, when overlayfs can't work in
// a home.
func (d *Driver) supported(ctx context.Context, home string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(home, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", home, err)
	}
	switch fs.Type {
	case unix.OVERLAYFS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC:
		return errdefs.Unsupported{What: home, By: "on " + backingName(home) + ", which overlayfs can't write on",
			Cure: `put the graph root on another file system, or set driver = "vfs" in storage.conf`}
	}
	if isNetwork(int64(fs.Type)) && d.UserXattr() {
		return errdefs.Unsupported{What: home,
			By:   "on a network file system, where overlayfs can't write in a user namespace",
			Cure: `set mount_program = "/usr/bin/fuse-overlayfs" in storage.conf`}
	}
	switch ok, err := supportsDType(home); {
	case err != nil:
		return err
	case !ok:
		return errdefs.Unsupported{What: home,
			By:   "on a file system that doesn't tell the types of directory entries (d_type)",
			Cure: "an XFS needs ftype=1, an ext4 filetype"}
	}
	err := d.try(ctx, home, nil, func(p probe) error {
		if err := unix.Mknod(filepath.Join(p.upper, "whiteout"), unix.S_IFCHR, 0); err != nil {
			return fmt.Errorf("make a whiteout: %w", err)
		}
		return os.Mkdir(filepath.Join(p.lower[1], "dir"), 0o755)
	}, func(p probe) error {
		return os.Remove(filepath.Join(p.merged, "dir"))
	})
	switch {
	case err == nil:
		d.record("overlay", true, "")
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS), ctx.Err() != nil:
		return err // says nothing about overlayfs
	case errors.Is(err, errdefs.ErrUnsupported):
		return err
	}
	return fmt.Errorf("%w: overlayfs can't be used in %s: %w", errdefs.ErrUnsupported, home, err)
}

func (d *Driver) tryMetacopy(ctx context.Context) (yes bool, why string, err error) {
	data, err := d.mountData()
	if err != nil {
		return false, "", err
	}
	err = d.try(ctx, d.homes.Own[0], data, func(p probe) error {
		return os.WriteFile(filepath.Join(p.lower[0], "f"), []byte{1}, 0o700)
	}, func(p probe) error {
		if err := os.Chmod(filepath.Join(p.merged, "f"), 0o600); err != nil {
			return err
		}
		yes = hasXattr(filepath.Join(p.upper, "f"), d.xattr("metacopy"))
		return nil
	})
	if errors.Is(err, unix.EINVAL) {
		return false, "", nil // the kernel doesn't know the option, or not together with the others
	}
	return yes, "", err
}

func (d *Driver) tryVolatile(ctx context.Context) (yes bool, why string, err error) {
	err = d.try(ctx, d.homes.Own[0], []string{"volatile"}, nil, func(probe) error { return nil })
	if errors.Is(err, unix.EINVAL) {
		return false, "", nil
	}
	return err == nil, "", err
}

func (d *Driver) tryNativeDiff(ctx context.Context) (yes bool, why string, err error) {
	_, data, err := d.options(ctx, drivers.MountOptions{})
	if err != nil {
		return false, "", err
	}
	err = d.try(ctx, d.homes.Own[0], data, func(p probe) error {
		for _, dir := range []string{p.lower[1] + "/opaque", p.lower[1] + "/renamed", p.lower[0] + "/opaque"} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(p.lower[1], "f"), []byte{1}, 0o700); err != nil {
			return err
		}
		return xattr.Path(filepath.Join(p.lower[0], "opaque")).Set(d.xattr("opaque"), []byte("y"), 0)
	}, func(p probe) error {
		// A file made in the opaque directory copies it up. The copy isn't opaque itself:
		// the directory below is, already.
		if err := os.WriteFile(filepath.Join(p.merged, "opaque", "f"), nil, 0o644); err != nil {
			return err
		}
		if hasXattr(filepath.Join(p.upper, "opaque"), d.xattr("opaque")) {
			why = "the kernel copies the mark of opaque directories up"
		}
		// Renaming a directory of a lower layer is EXDEV, after which programs copy it,
		// unless the kernel makes a redirect.
		if err := os.Rename(filepath.Join(p.merged, "renamed"), filepath.Join(p.merged, "new")); err == nil {
			if hasXattr(filepath.Join(p.upper, "new"), d.xattr("redirect")) {
				why = "the kernel redirects renamed directories (redirect_dir)"
			}
		} else if !errors.Is(err, unix.EXDEV) {
			return err
		}
		if err := os.Chmod(filepath.Join(p.merged, "f"), 0o600); err != nil {
			return err
		}
		if hasXattr(filepath.Join(p.upper, "f"), d.xattr("metacopy")) {
			why = "the kernel leaves the data of files whose attributes change behind (metacopy)"
		}
		return nil
	})
	return why == "", why, err
}

func hasXattr(path, name string) bool {
	_, err := xattr.Path(path).Size(name)
	return err == nil
}

// probe is a set of directories to try an overlay mount in.
type probe struct {
	lower               []string // two
	upper, work, merged string
}

// mountData is the part of mountopt that concerns the file system.
func (d *Driver) mountData() ([]string, error) {
	_, data, err := mount.ParseOptions(d.opts.MountOptions)
	if err != nil {
		return nil, fmt.Errorf("setting mountopt: %w", err)
	}
	return data, nil
}

// try makes an overlay mount in a temporary directory, lets check look at it and cleans
// up. prepare may be nil.
func (d *Driver) try(ctx context.Context, home string, data []string, prepare, check func(probe) error) error {
	return d.trySpec(ctx, home, mount.Spec{Data: data}, prepare, check)
}

// trySpec is try with more than options; the directories in spec are set here.
func (d *Driver) trySpec(ctx context.Context, home string, spec mount.Spec, prepare,
	check func(probe) error) (err error) {
	temp, err := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := temp.Close(); err == nil {
			err = cerr
		}
	}()
	path := temp.Addition()
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	// By its descriptor the directory is the same one when another process mounts the
	// home on itself meanwhile (PrepareHome). Through the path, the mount couldn't be
	// reached any more to be taken away.
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	at := func(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name) }
	p := probe{lower: []string{at("lower1"), at("lower2")}, upper: at("upper"), work: at("work"), merged: at("merged")}
	for _, path := range append([]string{p.upper, p.work, p.merged}, p.lower...) {
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
	}
	if prepare != nil {
		if err := prepare(p); err != nil {
			return err
		}
	}
	if d.UserXattr() && !slices.Contains(spec.Data, "userxattr") {
		spec.Data = append(spec.Data[:len(spec.Data):len(spec.Data)], "userxattr")
	}
	spec.Type, spec.Source, spec.Target = "overlay", "overlay", p.merged
	spec.Lower, spec.Upper, spec.Work, spec.MapDir = p.lower, p.upper, p.work, at("mapped")
	if err := mount.Perform(ctx, spec); err != nil {
		return err
	}
	err = check(p)
	if uerr := mount.Unmount(p.merged); err == nil {
		err = uerr
	}
	return err
}
