package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where the demo works and how.
type place struct {
	directory string
	driver    string   // overlay, or vfs where overlayfs can't be mounted
	notes     []string // what a person should know about the choice
	xattrs    bool     // user.* attributes can be set there
	ids       bool     // files can be given to another user: more than one ID is mapped
}

// choosePlace takes the first directory that overlayfs accepts as an upper layer.
// Overlayfs itself isn't one, so that inside a container the usual places may all fail;
// then a tmpfs of our own will do, and where nothing can be mounted, plain copies.
func choosePlace(directories []string, driver string) (place, error) {
	var p place
	for _, directory := range directories {
		if directory == "" {
			continue
		}
		if driver == "vfs" {
			return place{directory: directory, driver: driver}.probe(), nil
		}
		err := tryOverlay(directory)
		if err == nil {
			p.directory, p.driver = directory, "overlay"
			return p.probe(), nil
		}
		p.notes = append(p.notes, fmt.Sprintf("%s: overlayfs can't have its upper layer there (%v)",
			filepath.Dir(directory), err))
		if p.directory == "" {
			p.directory = directory
		}
	}
	if p.directory == "" {
		return p, errors.New("no directory to work in")
	}
	if err := unix.Mount("tmpfs", p.directory, "tmpfs", unix.MS_NOSUID, "mode=0700"); err == nil {
		if err := tryOverlay(p.directory); err == nil {
			p.driver = "overlay"
			p.notes = append(p.notes, "working in memory instead")
			return p.probe(), nil
		}
		unix.Unmount(p.directory, unix.MNT_DETACH)
	}
	if driver == "overlay" {
		return p, fmt.Errorf("overlayfs can't be mounted: %s", strings.Join(p.notes, "; "))
	}
	p.driver = "vfs"
	p.notes = append(p.notes,
		"working with the vfs driver instead, which copies whole trees: slower and larger, but it runs anywhere")
	return p.probe(), nil
}

// tryOverlay mounts a small overlay file system with its upper layer in directory, as the
// overlay driver would.
func tryOverlay(directory string) error {
	trial := filepath.Join(directory, "trial")
	defer os.RemoveAll(trial)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(trial, name), 0o755); err != nil {
			return err
		}
	}
	if strings.ContainsAny(trial, ",:\\") {
		return errors.New("its path has a character that mount options can't hold")
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", trial)
	merged := filepath.Join(trial, "merged")
	err := unix.Mount("overlay", merged, "overlay", 0, options+",userxattr")
	if err != nil && inInitialNamespace() {
		err = unix.Mount("overlay", merged, "overlay", 0, options)
	}
	if err != nil {
		return err
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	// A mount may succeed and refuse changes afterwards.
	return os.WriteFile(filepath.Join(merged, "file"), nil, 0o644)
}

func inInitialNamespace() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}

// probe finds out what the file system and the namespace allow the changes to be.
func (p place) probe() place {
	file := filepath.Join(p.directory, "probe")
	defer os.Remove(file)
	if os.WriteFile(file, nil, 0o644) != nil {
		return p
	}
	p.xattrs = unix.Setxattr(file, "user.demo", []byte("x"), 0) == nil
	p.ids = os.Lchown(file, 1, 1) == nil
	return p
}

// mountsBelow lists the mount points below a directory, the deepest first.
func mountsBelow(directory string) []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], directory+"/") {
			found = append(found, fields[4])
		}
	}
	slices.Reverse(found)
	return found
}

// free is how many bytes an ordinary user can still write to a directory's file system.
func free(directory string) int64 {
	var stat syscall.Statfs_t
	if syscall.Statfs(directory, &stat) != nil {
		return 0
	}
	return int64(stat.Bavail) * stat.Bsize
}
