package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// treeOf describes everything below root that a layer keeps: per path one line with type,
// mode, owner, time, size, target, hard links, attributes and the digest of the content.
// Times are in whole seconds, which is what a layer archive carries.
func treeOf(ctx context.Context, root string) (map[string]string, error) {
	tree := map[string]string{}
	firstOf := map[uint64]string{} // by inode: the first path of a file with several names
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		relative, _ := filepath.Rel(root, name)
		if relative == "." {
			return nil // a layer archive has no entry for the root of the tree
		}
		line, err := describe(name, relative, firstOf)
		if err != nil {
			return err
		}
		tree[relative] = line
		return nil
	})
	return tree, err
}

func describe(name, relative string, firstOf map[uint64]string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	stat := info.Sys().(*syscall.Stat_t)
	var line strings.Builder
	fmt.Fprintf(&line, "%s %d:%d %s", info.Mode(), stat.Uid, stat.Gid,
		info.ModTime().UTC().Format("2006-01-02T15:04:05"))
	switch {
	case info.Mode().IsRegular():
		sum, err := contentOf(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&line, " %d bytes %x", info.Size(), sum[:8])
		if stat.Nlink > 1 {
			if firstOf[stat.Ino] == "" {
				firstOf[stat.Ino] = relative
			}
			fmt.Fprintf(&line, " same file as %s", firstOf[stat.Ino])
		}
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&line, " -> %s", target)
	case info.Mode().Type()&fs.ModeDevice != 0:
		fmt.Fprintf(&line, " device %d", stat.Rdev)
	}
	attributes, err := attributesOf(name)
	if err != nil {
		return "", err
	}
	line.WriteString(attributes)
	return line.String(), nil
}

func contentOf(name string) (sum [sha256.Size]byte, err error) {
	file, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

func attributesOf(name string) (string, error) {
	buffer := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(name, buffer)
	if err == unix.ENOTSUP {
		return "", nil
	}
	if err != nil {
		return "", &fs.PathError{Op: "llistxattr", Path: name, Err: err}
	}
	keys := strings.FieldsFunc(string(buffer[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(keys)
	text := ""
	for _, key := range keys {
		if key == "security.selinux" || strings.Contains(key, ".overlay.") {
			continue // the host's label for the place, and overlayfs's own notes
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			return "", &fs.PathError{Op: "lgetxattr", Path: name, Err: err}
		}
		text += fmt.Sprintf(" %s=%q", key, value[:n])
	}
	return text, nil
}

// differences lists what two trees don't have in common, at most ten of it.
func differences(a, b map[string]string) []string {
	var found []string
	for path, line := range a {
		switch other, exists := b[path]; {
		case !exists:
			found = append(found, path+": missing in the second")
		case other != line:
			found = append(found, fmt.Sprintf("%s:\n      %s\n      %s", path, line, other))
		}
	}
	for path := range b {
		if _, exists := a[path]; !exists {
			found = append(found, path+": only in the second")
		}
	}
	slices.Sort(found)
	if len(found) > 10 {
		found = append(found[:10], fmt.Sprintf("and %d more", len(found)-10))
	}
	return found
}
