package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/internal/testutil"
)

// disk is an image, sparse, with a file system.
type disk struct {
	name    string // its serial number in the guest too
	sizeMiB int64
	mkfs    []string // and the image
	pkg     string   // Debian's, that has the program
}

const rootDisk = "root"

var disks = []disk{
	{rootDisk, 3072, []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", "-m", "0", "-d", "root"},
		"e2fsprogs"},
	{"ext4", 1024, []string{"mkfs.ext4", "-q", "-F", "-b", "4096", "-E",
		"lazy_itable_init=0,nodiscard,quotatype=prjquota", "-m", "0", "-O", "quota,project,verity"}, "e2fsprogs"},
	{"xfs", 1024, []string{"mkfs.xfs", "-q", "-K"}, "xfsprogs"},
	{"btrfs", 1024, []string{"mkfs.btrfs", "-q", "-K"}, "btrfs-progs"},
}

// guestTools are the host's programs that the guest has too, where the host has them,
// with the libraries they need.
var guestTools = []string{"mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "xfs_quota", "mount", "umount", "setfattr", "getfattr",
	"ldconfig", "fuse-overlayfs"}

// guestJob is what the guest reads of a job.
type guestJob struct {
	Args []string
	Dir  string
	Env  []string
}

const (
	guestJobPath = "/job.json"
	guestBinDir  = "/job"
)

// files is what a machine is made of, already without names.
type files struct {
	kernel, initramfs *os.File
	disks             map[string]*os.File
}

func (f *files) close() {
	for _, file := range f.disks {
		file.Close()
	}
	for _, file := range []*os.File{f.kernel, f.initramfs} {
		if file != nil {
			file.Close()
		}
	}
}

// makeFiles makes a machine's files. Their names are gone when it returns, so that they
// end with their last user.
func makeFiles(ctx context.Context, k kernel, j job) (_ *files, err error) {
	work, err := os.MkdirTemp("", "shale-vm-")
	if err != nil {
		return nil, err
	}
	f := &files{disks: map[string]*os.File{}}
	defer func() {
		if err = errors.Join(err, os.RemoveAll(work)); err != nil {
			f.close()
		}
	}()
	if f.kernel, err = os.Open(k.image); err != nil {
		return nil, err
	}
	if f.initramfs, err = writeInitramfs(work, k); err != nil {
		return nil, err
	}
	if err := fillRoot(ctx, filepath.Join(work, "root"), j); err != nil {
		return nil, err
	}
	for _, d := range disks {
		image, err := os.Create(filepath.Join(work, d.name+".img"))
		if err != nil {
			return nil, err
		}
		f.disks[d.name] = image
		if err := image.Truncate(d.sizeMiB << 20); err != nil {
			return nil, err
		}
		mkfs, err := tool(d.mkfs[0], d.pkg)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, mkfs, append(d.mkfs[1:len(d.mkfs):len(d.mkfs)], image.Name())...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	return f, nil
}

// fillRoot makes the tree of the guest's root.
func fillRoot(ctx context.Context, root string, j job) error {
	t := tree{root: root, libraries: map[string]bool{}}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc", "bin", guestBinDir, j.Dir} {
		t.mkdir(dir)
	}
	t.fillEtc()
	t.addBusybox()
	for _, name := range guestTools {
		if path, err := tool(name, ""); err == nil {
			t.addProgram(path, path)
		}
	}
	guest := guestJob{Args: append([]string{filepath.Join(guestBinDir, filepath.Base(j.Args[0]))}, j.Args[1:]...),
		Dir: j.Dir}
	t.addProgram(guest.Args[0], j.Args[0])
	for _, variable := range j.Env {
		name, value, _ := strings.Cut(variable, "=")
		if info, err := os.Stat(value); err == nil && filepath.IsAbs(value) && info.Mode().IsRegular() {
			value = filepath.Join(guestBinDir, name)
			t.addProgram(value, variable[len(name)+1:])
		}
		guest.Env = append(guest.Env, name+"="+value)
	}
	t.addTestdata(j.Dir)
	t.addPolicy(ctx, &guest)
	data, err := json.Marshal(guest)
	t.write(guestJobPath, string(data))
	return errors.Join(t.err, err)
}

// tree makes files below a root. The first error stays; what follows it is not done.
type tree struct {
	root      string
	libraries map[string]bool // those that are there already
	err       error
}

func (t *tree) do(op func() error) {
	if t.err == nil {
		t.err = op()
	}
}

func (t *tree) mkdir(dir string) {
	t.do(func() error { return os.MkdirAll(filepath.Join(t.root, dir), 0o755) })
}

func (t *tree) write(path, text string) {
	t.mkdir(filepath.Dir(path))
	t.do(func() error { return os.WriteFile(filepath.Join(t.root, path), []byte(text), 0o644) })
}

func (t *tree) fillEtc() {
	t.do(func() error { return os.Chmod(filepath.Join(t.root, "tmp"), 0o777|os.ModeSticky) })
	t.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n")
	t.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")
	t.write("etc/subuid", "root:100000:65536\n")
	t.write("etc/subgid", "root:100000:65536\n")
	t.do(func() error { return os.Symlink("/proc/self/mounts", filepath.Join(t.root, "etc/mtab")) })
}

// addBusybox gives the guest a shell and what belongs to it. The host's own programs,
// added later, take their places.
func (t *tree) addBusybox() {
	t.do(func() error {
		path, err := tool("busybox", "busybox-static")
		if err != nil {
			return err
		}
		t.addProgram("bin/busybox", path)
		list, err := exec.Command(path, "--list").Output()
		for name := range strings.FieldsSeq(string(list)) {
			if name != "busybox" && err == nil {
				err = os.Symlink("busybox", filepath.Join(t.root, "bin", name))
			}
		}
		return err
	})
}

// addProgram copies a program, and the libraries and the loader it needs to the places
// they have on the host.
func (t *tree) addProgram(path, from string) {
	t.addFile(path, from)
	// For a static program ldd ends in error, and says so where we don't look.
	out, _ := exec.Command("ldd", from).Output()
	for line := range strings.Lines(string(out)) {
		for word := range strings.FieldsSeq(line) {
			if filepath.IsAbs(word) && !t.libraries[word] {
				t.libraries[word] = true
				t.addFile(word, word)
			}
		}
	}
}

// addTestdata copies what a test of a package reads of its source: the testdata, and
// go.mod, by which it finds the module.
func (t *tree) addTestdata(dir string) {
	t.do(func() error {
		data := filepath.Join(dir, "testdata")
		if _, err := os.Stat(data); err == nil {
			if err := os.CopyFS(filepath.Join(t.root, data), os.DirFS(data)); err != nil {
				return err
			}
		}
		module, err := testutil.ModuleRoot()
		if err != nil {
			return nil // not a test of ours
		}
		path := filepath.Join(module, "go.mod")
		t.addFile(path, path)
		return nil
	})
}

func (t *tree) addFile(path, from string) {
	t.mkdir(filepath.Dir(path))
	t.do(func() error {
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer in.Close()
		target := filepath.Join(t.root, path)
		if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}

// tool finds a program, also where Debian keeps an administrator's.
func tool(name, pkg string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", missingError(fmt.Sprintf("%s: apt-get install %s", name, pkg))
}
