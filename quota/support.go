package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Supported returns nil where directories beneath dir can have limits, and otherwise
// errdefs.ErrUnsupported with what to mount or to format differently. dir need not exist
// yet: its file system is that of the nearest directory above. Nothing is changed. On
// kernels before 5.14 nothing can be learnt that way, and nil means only that Open will
// know.
func Supported(dir string) error {
	f, err := nearest(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	err = control{dir: f}.supported()
	if errors.Is(err, errNoNode) {
		return nil
	}
	return err
}

// nearest opens dir, or what of the way to it exists.
func nearest(dir string) (*os.File, error) {
	for {
		f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return f, err
		}
		dir = filepath.Dir(dir)
	}
}

// supported explains why not.
func (c control) supported() error {
	counts, enforces, err := c.state()
	if err != nil {
		return fmt.Errorf("%s: %w", c.dir.Name(), err)
	}
	if !counts || !enforces {
		return errdefs.Unsupported{What: "project quotas at " + c.dir.Name(), Cure: c.missing(counts)}
	}
	// Whoever may not read a quota may not set one either.
	if _, err := c.get(anyProject); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return errdefs.Unsupported{What: "project quotas at " + c.dir.Name(),
			Cure: "setting them takes CAP_SYS_ADMIN outside of user namespaces"}
	} else if err != nil {
		return fmt.Errorf("%s: %w", c.dir.Name(), err)
	}
	return nil
}

// anyProject is one that Home never gives away.
const anyProject = 1

// missing says what has to be done about a file system without quotas.
func (c control) missing(counts bool) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(c.dir.Fd()), &st); err != nil {
		return err.Error()
	}
	switch st.Type {
	case unix.XFS_SUPER_MAGIC:
		if counts {
			return "this XFS counts and doesn't enforce: mount it with the option prjquota instead of pqnoenforce"
		}
		return "mount this XFS with the option prjquota (a root file system: rootflags=prjquota on the kernel's command line)"
	case unix.EXT4_SUPER_MAGIC:
		if counts {
			return "mount this ext4 with the option prjquota (a root file system: rootflags=prjquota on the kernel's command line)"
		}
		return "this ext4 lacks the features quota and project: make it with mkfs.ext4 -O quota,project, or give it them unmounted " +
			"with tune2fs -O quota,project -Q prjquota, and mount it with the option prjquota"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs has none (its quotas are those of subvolumes); XFS and ext4 do"
	}
	return "this file system has none; XFS and ext4 do"
}
