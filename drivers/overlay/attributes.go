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
func makeDir(path string, a attributes) error {
	_, err := makeDirLike(path, a, false)
	return err
}

// makeDirLike is makeDir, and reports whether mkdir(2) alone has given the directory its
// attributes. plain says that it did so for one with the same attributes beside or above
// this one: what could change them, the umask, a default ACL and the directory's group,
// is the same for both, and nobody has to look again.
func makeDirLike(path string, a attributes, plain bool) (bool, error) {
	if err := os.Mkdir(path, os.FileMode(a.mode&0o777)); err != nil || plain {
		return plain, err
	}
	return a.settle(path)
}

// settle gives a new directory the attributes, and reports whether it has them already.
func (a attributes) settle(path string) (plain bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	chown := st.Uid != a.uid || st.Gid != a.gid
	if !chown && st.Mode&0o7777 == a.mode {
		return true, nil
	}
	if chown {
		if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
			return false, err
		}
	}
	if err := unix.Chmod(path, a.mode); err != nil { // after chown, which may clear setuid and setgid
		return false, &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return false, nil
}
