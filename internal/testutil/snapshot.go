package testutil

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Snapshot describes a tree wholly: a line for each path below dir ("." is dir itself),
// with type, mode, owner, size, time of modification to the nanosecond, device numbers,
// link target, extended attributes, the first path of its hard-link group and the SHA-256
// of the content. Two trees are equal when their snapshots are. A directory's size and
// link count are the file system's own affair and left out.
func Snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree, err := ReadTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// ReadTree is Snapshot for where there is no testing.TB.
func ReadTree(dir string) (map[string]string, error) {
	tree := map[string]string{}
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	// WalkDir goes in lexical order, so the path that stands for a hard-link group is
	// always the same.
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		line, err := describe(path, &st)
		if err != nil {
			return err
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{uint64(st.Dev), st.Ino}
			if _, seen := first[id]; !seen {
				first[id] = name
			}
			line += " links=" + first[id]
		}
		tree[name] = line
		return nil
	})
	return tree, err
}

func describe(path string, st *unix.Stat_t) (string, error) {
	var b strings.Builder
	kind := map[uint32]string{
		unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
		unix.S_IFCHR: "char", unix.S_IFBLK: "block", unix.S_IFSOCK: "socket",
	}[st.Mode&unix.S_IFMT]
	fmt.Fprintf(&b, "%s mode=%04o owner=%d:%d mtime=%d.%09d", kind, st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec,
		st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer file.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " size=%d sha256=%x", st.Size, sum.Sum(nil)[:12])
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " target=%q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " device=%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	attrs, err := xattrs(path)
	if err != nil {
		return "", fmt.Errorf("extended attributes of %s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		fmt.Fprintf(&b, " %s=%q", name, attrs[name])
	}
	return b.String(), nil
}

// xattrs reads all extended attributes of a path, of a symbolic link itself and not of
// what it points to.
func xattrs(path string) (map[string]string, error) {
	// the kernel's limit for a list of names and for a value (XATTR_LIST_MAX,
	// XATTR_SIZE_MAX)
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil || n == 0 {
		return nil, err
	}
	attrs := map[string]string{}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if name == "trusted.SGI_ACL_FILE" || name == "trusted.SGI_ACL_DEFAULT" {
			continue // XFS lists ACLs twice, here in its own form, whose IDs no ID-mapped mount translates
		}
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		attrs[name] = string(value[:size])
	}
	return attrs, nil
}

// Diff says in which paths two snapshots differ, a line each, sorted; none when they are
// equal.
func Diff(want, got map[string]string) []string {
	var lines []string
	for path, line := range want {
		if other, there := got[path]; !there {
			lines = append(lines, fmt.Sprintf("%s: missing: want %s", path, line))
		} else if other != line {
			lines = append(lines, fmt.Sprintf("%s:\n\twant %s\n\tgot  %s", path, line, other))
		}
	}
	for path, line := range got {
		if _, there := want[path]; !there {
			lines = append(lines, fmt.Sprintf("%s: unexpected: got %s", path, line))
		}
	}
	slices.Sort(lines)
	return lines
}

// SameTree fails the test when two snapshots differ, showing the first twenty
// differences.
func SameTree(t testing.TB, want, got map[string]string) {
	t.Helper()
	lines := Diff(want, got)
	if len(lines) == 0 {
		return
	}
	more := ""
	if len(lines) > 20 {
		lines, more = lines[:20], fmt.Sprintf("\n… and %d more", len(lines)-20)
	}
	t.Errorf("trees differ (%d paths wanted, %d got):\n%s%s", len(want), len(got), strings.Join(lines, "\n"), more)
}

// Without drops a field ("mtime", "owner", "security.capability") from every line of a
// snapshot, for trees that are meant to differ in it. The snapshot itself stays as it is.
func Without(tree map[string]string, field string) map[string]string {
	rest := make(map[string]string, len(tree))
	for path, line := range tree {
		rest[path] = dropField(line, field)
	}
	return rest
}

func dropField(line, field string) string {
	before, value, found := strings.Cut(line, " "+field+"=")
	if !found {
		return line
	}
	if strings.HasPrefix(value, `"`) { // quoted values may hold blanks
		end := 1
		for end < len(value) && value[end] != '"' {
			if value[end] == '\\' {
				end++
			}
			end++
		}
		return before + value[min(end+1, len(value)):]
	}
	_, after, more := strings.Cut(value, " ")
	if !more {
		return before
	}
	return before + " " + after
}
