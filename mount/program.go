package mount

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// byProgram has s.Program make the mount: it is called as "PROGRAM -o OPTIONS TARGET",
// the form of mount helpers (mount(8), external helpers), and ends when the mount is
// there, while a child of its own serves it.
func byProgram(ctx context.Context, s Spec) error {
	options, err := programOptions(s)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.Program, "-o", options, s.Target)
	cmd.Dir = "/"
	said := &firstWords{}
	cmd.Stderr = said
	cmd.WaitDelay = 5 * time.Second // for one that hands our pipe to the child that serves the mount
	start := s.Start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err = start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("mount program %s: %w (it says: %q)", s.Program, err, strings.TrimSpace(string(said.text)))
	}
	if mounted, err := IsMountPoint(s.Target); err != nil || mounted {
		return err
	}
	return fmt.Errorf("mount program %s: it ended well and has mounted nothing (it says: %q)", s.Program,
		strings.TrimSpace(string(said.text)))
}

// programOptions joins the options of a mount program. How it would want a separator
// within a path escaped is its own affair, so there must be none.
func programOptions(s Spec) (string, error) {
	for _, path := range append([]string{s.Upper, s.Work}, s.Lower...) {
		if strings.ContainsAny(path, `:,\`) {
			return "",
				fmt.Errorf("directory %q: %w with a mount program: its path holds a colon, a comma or a backslash",
					path, errdefs.ErrUnsupported)
		}
	}
	options := s.Options()
	if s.IDMap != nil {
		options = append(options, programMap("uid", s.IDMap.UIDs), programMap("gid", s.IDMap.GIDs))
	}
	return strings.Join(options, ","), nil
}

// programMap is a mapping as fuse-overlayfs takes it: the lines of uid_map
// (user_namespaces(7)) joined by colons. A single ID has an option of its own, which
// gives every file that owner.
func programMap(kind string, maps []idtools.Map) string {
	if len(maps) == 1 && maps[0].Size == 1 {
		return fmt.Sprintf("squash_to_%s=%d", kind, maps[0].HostID)
	}
	lines := make([]string, len(maps))
	for i, m := range maps {
		lines[i] = m.String()
	}
	return kind + "mapping=" + strings.Join(lines, ":")
}

// firstWords keeps the beginning of what is written to it.
type firstWords struct{ text []byte }

func (w *firstWords) Write(p []byte) (int, error) {
	w.text = append(w.text, p[:min(len(p), 4096-len(w.text))]...)
	return len(p), nil
}

// IsDead reports whether target is a mount point whose serving program is gone, so that
// every access ends in ENOTCONN.
func IsDead(target string) bool {
	var st unix.Statfs_t
	return unix.Statfs(target, &st) == unix.ENOTCONN
}

// flushServed has the kernel hand what it holds back for a mount program over to it. What
// can't be flushed is lost with any other way of unmounting, too.
func flushServed(target string) {
	var st unix.Statfs_t
	if unix.Statfs(target, &st) != nil || st.Type != unix.FUSE_SUPER_MAGIC {
		return
	}
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Syncfs(fd)
}
