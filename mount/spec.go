// Package mount turns a description of a mount into a mount.
//
// Drivers return a Spec, which is data; the layers package performs it and the containerd
// adapter sends it over the wire.
package mount

import (
	"os/exec"
	"strings"

	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// Spec describes one mount. It does nothing by itself and can be printed, compared and
// sent.
type Spec struct {
	// Type is a file system type as /proc/filesystems names it, or "bind".
	Type string
	// Source is the directory to bind, or the text that the mount table shows as the
	// source.
	Source string
	// Target is the absolute path to mount on. It must exist, as a directory that is no
	// symlink.
	Target string
	// Lower holds overlay's lower directories as absolute paths, the nearest first, none
	// escaped. The kernel takes at most 500.
	Lower []string
	// Upper and Work are overlay's upper and work directory; both empty for a read-only
	// overlay.
	Upper, Work string
	// Data holds the file system's own options, each "key" or "key=value", unescaped and
	// unquoted. Lower, Upper and Work aren't among them.
	Data []string
	// Attr holds MOUNT_ATTR_* flags of mount_setattr(2): MOUNT_ATTR_RDONLY,
	// MOUNT_ATTR_NODEV and so on.
	Attr uint64
	// IDMap, when not nil, translates the owners of what lies in Lower: the container's
	// IDs on disk appear as the host's. Upper is not translated. It isn't among Options:
	// mount(8) has no such option for overlay's directories.
	IDMap *idtools.Mapping
	// Unmapped is how many of the first Lower keep the owners they have in spite of
	// IDMap.
	Unmapped int
	// Program, when not "", is the absolute path of a program that mounts in the kernel's
	// stead, as fuse-overlayfs does. IDMap then is for Upper as well, which holds the
	// container's IDs too.
	Program string
	// Start starts Program, which may outlive this process, instead of (*exec.Cmd).Start:
	// with the scheduling or the control group that the caller wants it to have.
	Start func(*exec.Cmd) error
	// MapDir is a directory, made when missing, in which mounts for IDMap appear for a
	// moment on kernels whose overlayfs refuses detached ones.
	MapDir string
}

// Options gives everything but type, source and target as options for mount(8) -o, in the
// order lowerdir, upperdir, workdir, Data, Attr. Each is escaped so that joining them
// with commas is safe: overlayfs takes a backslash before a comma, a colon and a
// backslash.
func (s Spec) Options() []string {
	return append(s.options(lowerList(s.Lower), func(string) bool { return false }), attrNames(s.Attr)...)
}

// options are those of the file system, with such a list of lower directories, unless
// they are to be left out.
func (s Spec) options(lower string, leaveOut func(option string) bool) (options []string) {
	if lower != "" {
		options = append(options, "lowerdir="+lower)
	}
	if s.Upper != "" {
		options = append(options, "upperdir="+escapeOption(s.Upper), "workdir="+escapeOption(s.Work))
	}
	for _, d := range s.Data {
		if !leaveOut(d) {
			options = append(options, formatData(d))
		}
	}
	return options
}

// lowerList joins directories the way the lowerdir option wants them.
func lowerList(dirs []string) string {
	escaped := make([]string, len(dirs))
	for i, dir := range dirs {
		escaped[i] = strings.ReplaceAll(escapeOption(dir), ":", `\:`)
	}
	return strings.Join(escaped, ":")
}

func escapeOption(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(path, `\`, `\\`), `,`, `\,`)
}

// formatData gives one option of Data its outer form. Security labels hold commas and go
// in double quotes, which is the kernel's form for them (security_sb_eat_lsm_opts);
// everything else is escaped.
func formatData(option string) string {
	key, value, found := strings.Cut(option, "=")
	if found && isLabelKey(key) {
		return key + `="` + value + `"`
	}
	return escapeOption(option)
}

func isLabelKey(key string) bool {
	switch key {
	case "context", "fscontext", "defcontext", "rootcontext":
		return true
	}
	return false
}

// ReadOnly reports whether nothing can be written through the mount.
func (s Spec) ReadOnly() bool { return s.Attr&unix.MOUNT_ATTR_RDONLY != 0 }
