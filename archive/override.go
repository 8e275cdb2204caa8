package archive

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/layerdir"
	"golang.org/x/sys/unix"
)

// OverrideStatXattr is where a store with a force mask keeps what a file really is:
// "uid:gid:mode:type", the mode octal, the type one of file, dir, pipe, char-MAJOR-MINOR
// and block-MAJOR-MINOR and, in old stores, missing. The owner is the host's.
const OverrideStatXattr = "user.containers.override_stat"

// ApplyOverride puts what an override attribute says into st.
func ApplyOverride(st *unix.Stat_t, value string) error {
	fields := strings.Split(value, ":")
	if len(fields) < 3 {
		return fmt.Errorf("%w: attribute %s: %.80q has less than three fields", errdefs.ErrInvalid, OverrideStatXattr,
			value)
	}
	uid, errUID := strconv.ParseUint(fields[0], 10, 32)
	gid, errGID := strconv.ParseUint(fields[1], 10, 32)
	mode, errMode := strconv.ParseUint(fields[2], 8, 32)
	if errUID != nil || errGID != nil || errMode != nil {
		return fmt.Errorf("%w: attribute %s: bad number in %.80q", errdefs.ErrInvalid, OverrideStatXattr, value)
	}
	kind, rdev := st.Mode&unix.S_IFMT, uint64(0)
	if len(fields) > 3 {
		var ok bool
		if kind, rdev, ok = overrideType(fields[3]); !ok || (kind == unix.S_IFDIR) != layerdir.IsDir(st) {
			return fmt.Errorf("%w: attribute %s: type in %.80q", errdefs.ErrInvalid, OverrideStatXattr, value)
		}
	}
	st.Uid, st.Gid, st.Mode, st.Rdev = uint32(uid), uint32(gid), kind|uint32(mode)&0o7777, rdev
	return nil
}

func overrideType(s string) (kind uint32, rdev uint64, ok bool) {
	parts := strings.Split(s, "-")
	switch parts[0] {
	case "file":
		return unix.S_IFREG, 0, true
	case "dir":
		return unix.S_IFDIR, 0, true
	case "pipe":
		return unix.S_IFIFO, 0, true
	case "char":
		kind = unix.S_IFCHR
	case "block":
		kind = unix.S_IFBLK
	default:
		return 0, 0, false
	}
	if len(parts) < 3 {
		return 0, 0, false
	}
	major, errMajor := strconv.ParseUint(parts[1], 10, 32)
	minor, errMinor := strconv.ParseUint(parts[2], 10, 32)
	return kind, unix.Mkdev(uint32(major), uint32(minor)), errMajor == nil && errMinor == nil
}
