package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// MaxLower is how many lower directories overlayfs takes (OVL_MAX_STACK in the kernel's
// fs/overlayfs/params.h).
const MaxLower = 500

// errNoContextAPI says that this kernel, or the seccomp filter around us, lacks what the
// new mount API needs for the job.
var errNoContextAPI = errors.New("no usable fsopen")

// Perform makes the mount. It goes through the new mount API (fsopen, fsconfig, fsmount,
// move_mount), where each lower directory is an option of its own (lowerdir+, Linux 6.8)
// and long paths go as descriptors (Linux 6.13), so that neither the number of lowers nor
// the length and spelling of their paths matters; where the kernel lacks that it falls
// back to mount(2), as PerformClassic does.
//
// The error wraps the kernel's errno, and errdefs.ErrUnsupported or errdefs.ErrInvalid
// where one applies, and says what the kernel said. Nothing is mounted when there is an
// error. The calling goroutine's context decides only before the work starts: a mount
// takes milliseconds.
func Perform(ctx context.Context, s Spec) error {
	if err := check(ctx, s); err != nil {
		return err
	}
	if s.Program != "" {
		return describe(s, byProgram(ctx, s))
	}
	if s.IDMap != nil {
		return describe(s, withIDMap(s))
	}
	var err error
	if s.Type == "bind" {
		err = bind(s)
	} else {
		err = byContext(s, false)
	}
	switch {
	case errors.Is(err, errNoContextAPI):
		err = classic(s)
	case errors.Is(err, unix.EINVAL):
		// Before Linux 6.5 overlayfs lets fsconfig collect any option, and refuses
		// lowerdir+ only when all is put together. If it wasn't that, mount(2) won't do
		// either, and has less to say.
		if classic(s) == nil {
			err = nil
		}
	}
	return describe(s, err)
}

// Detached makes a mount that has no place in the tree, and returns its root: what it
// holds is reached beneath the open directory, and it goes when that is closed, by a
// crash as well. s.Target isn't read. It is errdefs.ErrUnsupported where the kernel's new
// mount API can't do it (before Linux 6.8), and for a Spec with IDMap or Program.
func Detached(ctx context.Context, s Spec) (*os.File, error) {
	s.Target = "/"
	if err := check(ctx, s); err != nil {
		return nil, err
	}
	if s.IDMap != nil || s.Type == "bind" || s.Program != "" {
		return nil, fmt.Errorf("detached mount: %w for a bind mount, with an ID map or by a mount program",
			errdefs.ErrUnsupported)
	}
	mnt, err := detached(s, false, nil)
	if errors.Is(err, errNoContextAPI) || errors.Is(err, unix.EINVAL) { // as for Perform
		err = fmt.Errorf("%w: %w", errdefs.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", s.Type, err)
	}
	return os.NewFile(uintptr(mnt), s.Type+" mount"), nil
}

// PerformClassic makes the mount with mount(2) alone, as on kernels that lack the new
// API: all options together must be shorter than a page of memory (4096 bytes on most
// machines). When the lower directories' paths don't fit, their descriptors' numbers in
// /proc/self/fd stand in for them, which makes room for about 800; the mount table then
// shows numbers. What still doesn't fit is errdefs.ErrUnsupported.
func PerformClassic(ctx context.Context, s Spec) error {
	if err := check(ctx, s); err != nil {
		return err
	}
	return describe(s, classic(s))
}

func check(ctx context.Context, s Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !filepath.IsAbs(s.Target) {
		return fmt.Errorf("mount on %q: %w: the path is not absolute", s.Target, errdefs.ErrInvalid)
	}
	if len(s.Lower) > MaxLower {
		return fmt.Errorf("mount on %s: %w: %d lower directories, and the kernel takes %d", s.Target,
			errdefs.ErrInvalid, len(s.Lower), MaxLower)
	}
	if s.IDMap != nil && (s.Type != "overlay" || s.Unmapped > len(s.Lower)) {
		return fmt.Errorf("mount on %s: %w: an ID map is for the lower directories of an overlay", s.Target,
			errdefs.ErrInvalid)
	}
	if (s.Upper == "") != (s.Work == "") {
		return fmt.Errorf("mount on %s: %w: an upper directory needs a work directory, and the other way round",
			s.Target, errdefs.ErrInvalid)
	}
	return nil
}

func describe(s Spec, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount %s on %s: %w: this kernel has no file system of that type: %w", s.Type, s.Target,
			errdefs.ErrUnsupported, err)
	}
	if missing := s.missing(); missing != "" && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mount %s on %s: %s is missing: %w", s.Type, s.Target, missing, err)
	}
	return fmt.Errorf("mount %s on %s: %w", s.Type, s.Target, err)
}

// missing is the first of the directories to be mounted that isn't there.
func (s Spec) missing() string {
	for _, dir := range slices.Concat(s.Lower, []string{s.Upper, s.Work}) {
		if dir != "" && unix.Access(dir, unix.F_OK) == unix.ENOENT {
			return dir
		}
	}
	return ""
}

// openPath opens a directory for use as a place, without reading it.
func openPath(path string, flags int) (int, error) {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY|flags)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}
