package testutil

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Tree makes files below dir from short descriptions, one each, in order:
//
//	a/                  a directory
//	a/f=text            a file with a content; quote it as in Go when it has blanks: a/f="two words"
//	a/f*4096            a file of that many bytes, random but the same in every run
//	a/l->../target      a symbolic link
//	a/h=>a/f            a hard link to what is already there, its path given from dir
//	a/p|                a FIFO
//	a/c%0:0             a character device; a/b%%7:0 a block device
//
// After a blank may follow, in any order: a mode (0644, 04755), an owner (1000:1000), a
// time of modification in seconds since 1970 (@1700000000.25, @-1.5), and extended
// attributes (user.k=v, the value quoted as in Go if need be). Without a mode directories
// are 0755 and all else 0644. Missing parents are made. A directory's time comes last of
// all, so that making its entries does not spoil it.
//
// In a user namespace, where the kernel keeps devices, trusted attributes and most owners
// to the host, Tree skips a test that describes such.
func Tree(t testing.TB, dir string, specs ...string) {
	t.Helper()
	if err := MakeTree(dir, specs...); err != nil {
		if (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) && !OnHost() {
			t.Skip("needs the host's root: ", err)
		}
		t.Fatal(err)
	}
}

// MakeTree is Tree for where there is no testing.TB.
func MakeTree(dir string, specs ...string) error {
	var late []func() error
	for _, spec := range specs {
		fields, err := splitSpec(spec)
		if err != nil {
			return fmt.Errorf("tree %q: %w", spec, err)
		}
		path, isDir, err := makeNode(dir, fields[0])
		if err != nil {
			return fmt.Errorf("tree %q: %w", spec, err)
		}
		for _, field := range fields[1:] {
			set, isTime, err := attribute(path, field)
			if err == nil && isTime && isDir {
				late = append(late, set)
			} else if err == nil {
				err = set()
			}
			if err != nil {
				return fmt.Errorf("tree %q: %s: %w", spec, field, err)
			}
		}
	}
	for _, set := range late {
		if err := set(); err != nil {
			return err
		}
	}
	return nil
}

// makeNode makes the file that the first field of a description names.
func makeNode(dir, node string) (path string, isDir bool, err error) {
	at := func(name string) string {
		path = filepath.Join(dir, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		return path
	}
	do := func(op func() error) {
		if err == nil {
			err = op()
		}
	}
	device := func(name, numbers string, kind uint32) {
		major, minor, _ := strings.Cut(numbers, ":")
		ma, e1 := strconv.ParseUint(major, 10, 32)
		mi, e2 := strconv.ParseUint(minor, 10, 32)
		if e1 != nil || e2 != nil {
			err = fmt.Errorf("device numbers %q", numbers)
			return
		}
		at(name)
		do(func() error { return unix.Mknod(path, kind|0o644, int(unix.Mkdev(uint32(ma), uint32(mi)))) })
	}
	if name, target, ok := strings.Cut(node, "->"); ok {
		at(name)
		do(func() error { return os.Symlink(target, path) })
	} else if name, target, ok := strings.Cut(node, "=>"); ok {
		at(name)
		do(func() error { return os.Link(filepath.Join(dir, target), path) })
	} else if name, content, ok := strings.Cut(node, "="); ok {
		if strings.HasPrefix(content, `"`) {
			content, err = strconv.Unquote(content)
		}
		at(name)
		do(func() error { return os.WriteFile(path, []byte(content), 0o644) })
	} else if name, size, ok := strings.Cut(node, "*"); ok {
		n, e := strconv.Atoi(size)
		err = e
		at(name)
		do(func() error { return os.WriteFile(path, Noise(name, n), 0o644) })
	} else if name, numbers, ok := strings.Cut(node, "%%"); ok {
		device(name, numbers, unix.S_IFBLK)
	} else if name, numbers, ok := strings.Cut(node, "%"); ok {
		device(name, numbers, unix.S_IFCHR)
	} else if name, ok := strings.CutSuffix(node, "|"); ok {
		at(name)
		do(func() error { return unix.Mkfifo(path, 0o644) })
	} else if name, ok := strings.CutSuffix(node, "/"); ok {
		at(name)
		isDir = true
		do(func() error { return os.MkdirAll(path, 0o755) })
	} else {
		err = fmt.Errorf("neither directory, content, link nor device")
	}
	return path, isDir, err
}

// attribute turns one field behind the first into the call that sets it.
func attribute(path, field string) (set func() error, isTime bool, err error) {
	if seconds, ok := strings.CutPrefix(field, "@"); ok {
		at, err := parseTime(seconds)
		return func() error { return setTime(path, at) }, true, err
	}
	if name, value, ok := strings.Cut(field, "="); ok {
		if strings.HasPrefix(value, `"`) {
			value, err = strconv.Unquote(value)
		}
		return func() error { return unix.Lsetxattr(path, name, []byte(value), 0) }, false, err
	}
	if user, group, ok := strings.Cut(field, ":"); ok {
		uid, e1 := strconv.Atoi(user)
		gid, e2 := strconv.Atoi(group)
		if e1 != nil || e2 != nil {
			return nil, false, fmt.Errorf("owner is not uid:gid")
		}
		return func() error { return os.Lchown(path, uid, gid) }, false, nil
	}
	mode, err := strconv.ParseUint(field, 8, 12)
	return func() error { return unix.Chmod(path, uint32(mode)) }, false, err
}

// splitSpec splits a description at blanks that are not inside quotes.
func splitSpec(spec string) ([]string, error) {
	var fields []string
	for rest := strings.TrimSpace(spec); rest != ""; rest = strings.TrimLeft(rest, " ") {
		end := strings.IndexByte(rest, ' ')
		if quote := strings.Index(rest, `="`); quote >= 0 && (end < 0 || quote < end) {
			quoted, err := strconv.QuotedPrefix(rest[quote+1:])
			if err != nil {
				return nil, err
			}
			end = quote + 1 + len(quoted)
		}
		if end < 0 {
			end = len(rest)
		}
		fields, rest = append(fields, rest[:end]), rest[end:]
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("empty")
	}
	return fields, nil
}

func parseTime(text string) (unix.Timespec, error) {
	negative := strings.HasPrefix(text, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return unix.Timespec{}, err
	}
	nsec, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if negative {
		sec, nsec = -sec, -nsec
	}
	if nsec < 0 { // the kernel wants nanoseconds counted upwards: -1.5 s is -2 s and half a second
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	return unix.Timespec{Sec: sec, Nsec: nsec}, err
}

func setTime(path string, at unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// Noise returns n bytes that depend on the seed alone, do not compress and are cheap to
// make.
func Noise(seed string, n int) []byte {
	var key [32]byte
	copy(key[:], seed)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data) // it never fails
	return data
}

// WriteFile writes a file, its parents made, and fails the test when it can't.
func WriteFile(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}
