package testutil

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// VMDiskPrefix begins the names of the variables that name a disk's device in the
	// virtual machine of tests/vm.
	VMDiskPrefix = "SHALE_VM_"
	// VMMissing is the variable that tells a test binary what the host lacks for that
	// machine.
	VMMissing = "SHALE_VM_MISSING"
	// VMPolicy names the SELinux policy that the machine has, VMNoPolicy says why it has
	// none.
	VMPolicy   = "SHALE_VM_POLICY"
	VMNoPolicy = "SHALE_VM_NO_POLICY"
)

// InVM reports whether this is the virtual machine of tests/vm.
func InVM() bool { return os.Getenv(VMDiskPrefix+"EXT4") != "" }

// VM skips the test where it doesn't run in the virtual machine of tests/vm, whose kernel
// is known.
func VM(t testing.TB) {
	t.Helper()
	if InVM() {
		return
	}
	if missing := os.Getenv(VMMissing); missing != "" {
		t.Skipf("needs the virtual machine of make test-vm, which needs %s", missing)
	}
	t.Skip("needs the virtual machine: make test-vm")
}

// SELinux makes sure that a policy is in force: one that knows container_t and
// container_file_t, permissive, loaded in the virtual machine when the first test asks.
// From then on all tests of the binary have it, so tests that ask stand in a package of
// their own, and ask first: what looks earlier whether SELinux is on may remember that it
// isn't.
func SELinux(t testing.TB) {
	t.Helper()
	VM(t)
	const current = "/proc/thread-self/attr/current"
	label, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	if string(bytes.TrimRight(label, "\x00\n")) != "kernel" {
		return // loaded: the first process has a full label then
	}
	if reason := os.Getenv(VMNoPolicy); reason != "" {
		t.Skip("needs ", reason)
	}
	policy, err := os.ReadFile(os.Getenv(VMPolicy))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/fs/selinux/load", policy, 0); err != nil {
		t.Fatal(err)
	}
}

// QuotaFS mounts a file system with project quotas, and on ext4 fs-verity: kind is "ext4"
// or "xfs". Outside the virtual machine of tests/vm, whose kernel has quotas, it skips
// the test. It is mounted anew for each test and emptied when the test ends.
func QuotaFS(t testing.TB, kind string) *VMDisk {
	t.Helper()
	return MountVMDisk(t, kind, "prjquota")
}

// VMDisk is a disk of the virtual machine, mounted. Not safe for concurrent use.
type VMDisk struct {
	Dir     string // where it is mounted
	Device  string // such as /dev/vdb
	kind    string
	options string
}

// MountVMDisk mounts the virtual machine's disk of a kind, "ext4", "xfs" or "btrfs", with
// options of its own. Outside the virtual machine it skips the test. When the test ends,
// what is on the disk is removed.
func MountVMDisk(t testing.TB, kind, options string) *VMDisk {
	t.Helper()
	VM(t)
	d := &VMDisk{Dir: t.TempDir(), Device: os.Getenv(VMDiskPrefix + strings.ToUpper(kind)), kind: kind,
		options: options}
	if d.Device == "" {
		t.Fatalf("the virtual machine has no disk with %s", kind)
	}
	t.Cleanup(func() {
		if err := errors.Join(UnmountBelow(d.Dir), d.empty(), d.Unmount()); err != nil {
			t.Error(err)
		}
	})
	if err := d.Mount(); err != nil {
		t.Fatal(err)
	}
	return d
}

// Mount mounts the disk again, after Unmount.
func (d *VMDisk) Mount() error {
	if err := unix.Mount(d.Device, d.Dir, d.kind, unix.MS_NOATIME, d.options); err != nil {
		return &os.PathError{Op: "mount " + d.kind + " with " + d.options, Path: d.Device, Err: err}
	}
	return os.Chmod(d.Dir, 0o777|os.ModeSticky)
}

// Unmount unmounts the disk for good, with everything mounted below it.
func (d *VMDisk) Unmount() error {
	return (&Loop{Dir: d.Dir}).Unmount()
}

// empty removes what a test left, but lost+found.
func (d *VMDisk) empty() error {
	entries, err := os.ReadDir(d.Dir)
	for _, e := range entries {
		if e.Name() != "lost+found" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.Dir, e.Name())))
		}
	}
	return err
}
