package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// guestName is what this program is called where it is the guest's first process.
const guestName = "init"

// guest is that first process: it makes the machine ready, runs the job and turns the
// machine off. It never returns. What goes wrong before the job can be seen on the
// console, which is where the kernel has opened its streams.
func guest() {
	err := func() error {
		if err := prepare(); err != nil {
			return err
		}
		return runJob()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm guest:", err)
	}
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintln(os.Stderr, "vm guest: still here:", err)
	for {
		_ = unix.Pause()
	}
}

// prepare loads the modules, enters the root disk and mounts what a system has.
func prepare() error {
	for _, fs := range []string{"proc", "sys", "dev"} {
		if err := mountAt("/" + fs); err != nil {
			return err
		}
	}
	modules, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	device, err := deviceOf(rootDisk)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, "/root", "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	// The first root can't be unmounted, only covered: switch_root(8).
	for _, step := range []func() error{
		func() error { return os.Chdir("/root") },
		func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return os.Chdir("/") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("enter the root: %w", err)
		}
	}
	for _, fs := range guestMounts {
		if err := mountAt(fs.dir); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1",
		"/dev/stderr": "fd/2"} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

var guestMounts = []struct{ dir, kind, data string }{
	{"/proc", "proc", ""},
	{"/sys", "sysfs", ""},
	{"/dev", "devtmpfs", ""},
	{"/dev/pts", "devpts", "ptmxmode=0666"},
	{"/dev/shm", "tmpfs", "mode=1777"},
	{"/run", "tmpfs", "mode=0755"},
	{"/sys/fs/cgroup", "cgroup2", ""},
	{"/sys/kernel/security", "securityfs", ""},
	{"/sys/fs/selinux", "selinuxfs", ""},
}

// mountAt mounts what belongs at a directory.
func mountAt(dir string) error {
	for _, fs := range guestMounts {
		if fs.dir == dir {
			if strings.HasPrefix(dir, "/dev/") {
				_ = os.Mkdir(dir, 0o755) // the mount says what is wrong
			}
			if err := unix.Mount(fs.kind, dir, fs.kind, 0, fs.data); err != nil {
				return fmt.Errorf("mount %s: %w", dir, err)
			}
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EEXIST) {
		return nil // the processor lacks what it drives; or it is built in
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// deviceOf finds a disk by its name.
func deviceOf(name string) (string, error) {
	serials, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, path := range serials {
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(path)), nil
		}
	}
	return "", fmt.Errorf("no disk %s", name)
}

// openPort opens a port of the virtio console by its name.
func openPort(name string) (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, path := range names {
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == name {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(path)), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("no port %s", name)
}

// runJob runs the program, and tells the host how it ended.
func runJob() error {
	data, err := os.ReadFile(guestJobPath)
	if err != nil {
		return err
	}
	var job guestJob
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	state, err := openPort(statePort)
	if err != nil {
		return err
	}
	output, err := openPort(outputPort)
	if err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("shale-vm")); err != nil {
		return err
	}
	cmd := exec.Command(job.Args[0], job.Args[1:]...)
	cmd.Dir = job.Dir
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		"TMPDIR=/tmp", "PWD=" + job.Dir}, job.Env...)
	for _, d := range disks {
		device, err := deviceOf(d.name)
		if err != nil {
			return err
		}
		if d.name != rootDisk {
			cmd.Env = append(cmd.Env, testutil.VMDiskPrefix+strings.ToUpper(d.name)+"="+device)
		}
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(state, "started"); err != nil {
		return err
	}
	err = cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if code < 0 {
		fmt.Fprintln(output, "vm guest:", err) // a signal
		code = 2
	}
	output.Close()
	_, err = fmt.Fprintln(state, "exit", code)
	return err
}
