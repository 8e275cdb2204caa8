package quota

import (
	"errors"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

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
		return "mount this XFS with the option prjquota (a root file system: rootflags=prjquota on the kernel's " +
			"command line)"
	case unix.EXT4_SUPER_MAGIC:
		if counts {
			return "mount this ext4 with the option prjquota (a root file system: rootflags=prjquota on the " +
				"kernel's command line)"
		}
		return "this ext4 lacks the features quota and project: make it with mkfs.ext4 -O quota,project, or give " +
			"it them unmounted " +
			"with tune2fs -O quota,project -Q prjquota, and mount it with the option prjquota"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs has none (its quotas are those of subvolumes); XFS and ext4 do"
	}
	return "this file system has none; XFS and ext4 do"
}
