package overlay

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// overrideXattr holds a file's true owner, mode and type where force_mask put others in
// their place: "uid:gid:mode:type", the mode in octal.
const overrideXattr = "user.containers.override_stat"

// attributes are what the root directory of a layer has: permission bits with setuid,
// setgid and sticky, and the owner.
type attributes struct {
	uid, gid uint32
	mode     uint32
}

// rootAttributes reads what a layer's root directory has, or should have where force_mask
// hides it.
func rootAttributes(diff string) (attributes, error) {
	if a, ok := readOverride(diff); ok {
		return a, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(diff, &st); err != nil {
		return attributes{}, fmt.Errorf("stat %s: %w", diff, err)
	}
	return attributes{uid: st.Uid, gid: st.Gid, mode: st.Mode & 0o7777}, nil
}

func readOverride(path string) (attributes, bool) {
	value, there, err := xattr.NewReader().Get(xattr.Path(path), overrideXattr)
	if err != nil || !there {
		return attributes{}, false
	}
	fields := strings.Split(string(value), ":")
	if len(fields) < 3 {
		return attributes{}, false
	}
	uid, err1 := strconv.ParseUint(fields[0], 10, 32)
	gid, err2 := strconv.ParseUint(fields[1], 10, 32)
	mode, err3 := strconv.ParseUint(fields[2], 8, 32)
	return attributes{uid: uint32(uid), gid: uint32(gid), mode: uint32(mode) & 0o7777}, err1 == nil && err2 == nil &&
		err3 == nil
}

// override writes a into the xattr of a directory.
func (a attributes) override(path string) error {
	value := fmt.Sprintf("%d:%d:%04o:dir", a.uid, a.gid, a.mode)
	if err := xattr.Path(path).Set(overrideXattr, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s on %s: %w", overrideXattr, path, err)
	}
	return nil
}

// makeDir makes a directory with exactly these attributes, whatever the umask.
func makeDir(path string, a attributes) error { return makeDirs(a, path) }

// makeDirs is makeDir of several in the same place. When the first comes as it should be,
// so do the others: what could change them, the umask, a default ACL and the directory's
// group, is the same for all.
func makeDirs(a attributes, paths ...string) error {
	differs := false
	for i, path := range paths {
		if err := os.Mkdir(path, os.FileMode(a.mode&0o777)); err != nil {
			return err
		}
		if i > 0 && !differs {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if st.Uid == a.uid && st.Gid == a.gid && st.Mode&0o7777 == a.mode {
			continue
		}
		differs = true
		if err := a.give(path, &st); err != nil {
			return err
		}
	}
	return nil
}

// give gives a directory the attributes, of which it has others.
func (a attributes) give(path string, st *unix.Stat_t) error {
	chown := st.Uid != a.uid || st.Gid != a.gid
	if chown {
		if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
			return err
		}
	}
	if chown || st.Mode&0o7777 != a.mode { // chown may have cleared setuid and setgid
		if err := unix.Chmod(path, a.mode); err != nil {
			return &os.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	return nil
}
