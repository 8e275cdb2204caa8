package mount

import (
	"fmt"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// atimeMask covers the three ways of keeping access times, of which a mount has exactly
// one (mount_setattr(2)).
const atimeMask = unix.MOUNT_ATTR__ATIME

// attrOption is an option of mount(8) that belongs to the mount rather than to the file
// system: MOUNT_ATTR_* bits that it clears and sets, and the MS_* flag of mount(2) for
// what it sets.
type attrOption struct {
	name       string
	clear, set uint64
	flag       uintptr
}

// attrOptions lists every such option. Where two undo each other, the later of the two in
// an option list wins.
func attrOptions() []attrOption {
	return []attrOption{
		{"ro", 0, unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{"rw", unix.MOUNT_ATTR_RDONLY, 0, 0},
		{"nosuid", 0, unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{"suid", unix.MOUNT_ATTR_NOSUID, 0, 0},
		{"nodev", 0, unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{"dev", unix.MOUNT_ATTR_NODEV, 0, 0},
		{"noexec", 0, unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{"exec", unix.MOUNT_ATTR_NOEXEC, 0, 0},
		{"nodiratime", 0, unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME},
		{"diratime", unix.MOUNT_ATTR_NODIRATIME, 0, 0},
		{"nosymfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW},
		{"symfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0, 0},
		{"noatime", atimeMask, unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
		{"strictatime", atimeMask, unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
		{"relatime", atimeMask, unix.MOUNT_ATTR_RELATIME, 0},
		{"atime", unix.MOUNT_ATTR_NOATIME, 0, 0},
		{"norelatime", 0, 0, 0}, // relatime is what every kernel since 2.6.30 does unless told otherwise
		{"nostrictatime", unix.MOUNT_ATTR_STRICTATIME, 0, 0},
		{"defaults", 0, 0, 0},
	}
}

// ParseOptions splits mount options as people and storage.conf write them into the
// mount's flags (MOUNT_ATTR_*) and the file system's own options. An option may itself be
// a list with commas. A security label (context="…") may hold commas when it is in double
// quotes, which are taken off; quotes elsewhere are errdefs.ErrInvalid. Options that
// would make something other than one plain mount ("bind", "remount", "shared",
// "lowerdir=…") are errdefs.ErrInvalid; whether the file system knows the others is for
// the kernel to say.
func ParseOptions(options []string) (attr uint64, data []string, err error) {
	known := attrOptions()
next:
	for _, option := range splitOptions(strings.Join(options, ",")) {
		if option == "" {
			continue
		}
		if option, err = unquote(option); err != nil {
			return 0, nil, err
		}
		for _, o := range known {
			if o.name == option {
				attr = attr&^o.clear | o.set
				continue next
			}
		}
		if key, _, _ := strings.Cut(option, "="); isReserved(key) {
			return 0, nil, fmt.Errorf("mount option %q: %w: it can't be chosen for a layer", option, errdefs.ErrInvalid)
		}
		data = append(data, option)
	}
	return attr, data, nil
}

// splitOptions splits at the commas that aren't in quotes.
func splitOptions(list string) []string {
	var options []string
	quoted, start := false, 0
	for i := range len(list) {
		switch list[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				options, start = append(options, list[start:i]), i+1
			}
		}
	}
	return append(options, list[start:])
}

// unquote takes the quotes off a label.
func unquote(option string) (string, error) {
	if !strings.Contains(option, `"`) {
		return option, nil
	}
	key, value, _ := strings.Cut(option, "=")
	inner, ok := strings.CutPrefix(value, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if !isLabelKey(key) || !ok || !closed || strings.Contains(inner, `"`) {
		return "", fmt.Errorf("mount option %q: %w: quotes are for security labels, as in context=\"…\"", option,
			errdefs.ErrInvalid)
	}
	return key + "=" + inner, nil
}

// isReserved reports whether an option is not the caller's to set: the layers' own
// directories, and what makes mount(2) do another job.
func isReserved(key string) bool {
	switch key {
	case "lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "source",
		"bind", "rbind", "remount", "move",
		"shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
		return true
	}
	return false
}

// attrNames is the way back from flags to options.
func attrNames(attr uint64) []string {
	var names []string
	for _, o := range attrOptions() {
		if o.set != 0 && attr&o.set == o.set {
			names = append(names, o.name)
		}
	}
	return names
}

// classicFlags translates MOUNT_ATTR_* to the MS_* flags of mount(2).
func classicFlags(attr uint64) uintptr {
	var flags uintptr
	for _, o := range attrOptions() {
		if o.set != 0 && attr&o.set == o.set {
			flags |= o.flag
		}
	}
	return flags
}

// superblockFlag gives the MS_* flag of an option that is an option of every file system:
// fsconfig(2) takes it as a word, mount(2) as a flag.
func superblockFlag(option string) (uintptr, bool) {
	switch option {
	case "sync":
		return unix.MS_SYNCHRONOUS, true
	case "dirsync":
		return unix.MS_DIRSYNC, true
	case "mand":
		return unix.MS_MANDLOCK, true
	case "lazytime":
		return unix.MS_LAZYTIME, true
	}
	return 0, false
}
