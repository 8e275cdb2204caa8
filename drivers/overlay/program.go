package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/mount"
)

// A mount program takes the kernel's place: fuse-overlayfs, for file systems and users
// that overlayfs can't serve. It has whiteouts of its own, files with the prefix .wh. as
// in a layer's tar, so a store that has seen one is none for overlayfs any more.

// programFlag is the file in the home that says "true" once layers were made for a mount
// program (format, section 7).
const programFlag = ".has-mount-program"

func checkProgram(program string) error {
	if program == "" {
		return nil
	}
	if !filepath.IsAbs(program) {
		return fmt.Errorf("setting mount_program: %w: %q is no absolute path", errdefs.ErrInvalid, program)
	}
	info, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("setting mount_program: %w: %w", errdefs.ErrInvalid, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("setting mount_program: %w: %s is no executable file", errdefs.ErrInvalid, program)
	}
	return nil
}

// findProgram takes the host's mount program, if there is one.
func (d *Driver) findProgram() error {
	found := ""
	if d.opts.FindProgram != nil {
		found = d.opts.FindProgram()
	}
	if found == "" {
		return fmt.Errorf("mount program: %w on this host", errdefs.ErrNotFound)
	}
	if err := checkProgram(found); err != nil {
		return err
	}
	d.opts.MountProgram = found
	return nil
}

// MountProgram is the program that mounts in the kernel's stead; "" when the kernel does.
// Layers are then made with whiteouts for such programs.
func (d *Driver) MountProgram() string { return d.opts.MountProgram }

// ForceMask is the mode that everything in a layer gets on disk, the true owner and mode
// going into an xattr; nil for none. It is that of the Options or, without one, 0700 for
// an ordinary user with a mount program on a network file system: the server knows
// nothing of the user's namespace and refuses other owners.
func (d *Driver) ForceMask() *fs.FileMode { return d.opts.ForceMask }

func (d *Driver) maskOnNetwork() {
	d.network = d.opts.MountProgram != "" && isNetwork(fileSystemOf(d.homes.Own[0])) && d.UserXattr()
	if d.network && d.opts.ForceMask == nil {
		private := fs.FileMode(0o700)
		d.opts.ForceMask = &private
	}
}

// rememberProgram writes down that the store's layers are made for a mount program, or
// refuses to read such layers without one.
func (d *Driver) rememberProgram() error {
	path := filepath.Join(d.homes.Own[0], programFlag)
	said, err := files.ReadSmall(path, 16)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seen := string(said) == "true"
	switch {
	case d.opts.MountProgram == "" && seen && d.findProgram() != nil:
		return errdefs.Unsupported{What: d.homes.Own[0],
			By: "without the setting mount_program: the store's layers were " +
				"made for a mount program, and overlayfs doesn't know its whiteouts",
			Cure: `set mount_program = "/usr/bin/fuse-overlayfs" in storage.conf`}
	case d.opts.MountProgram != "" && !seen:
		return atomicfile.Write(path, 0o600, false, []byte("true"))
	}
	return nil
}

// byProgram turns a mount into one that the program makes.
func (d *Driver) byProgram(spec *mount.Spec) {
	spec.Program, spec.Start = d.opts.MountProgram, d.opts.StartProgram
	if d.opts.ForceMask != nil {
		// true owners and modes are in user.containers.override_stat, for what is
		// written, too
		spec.Data = append(spec.Data, "xattr_permissions=2")
	}
	if d.network && !slices.Contains(spec.Data, "noacl") {
		// NFS 4 has no POSIX ACLs and says EOPNOTSUPP, which the kernel passes on to
		// whoever opens a file that isn't theirs (fuse_get_acl in fs/fuse/acl.c).
		spec.Data = append(spec.Data, "noacl")
	}
}
