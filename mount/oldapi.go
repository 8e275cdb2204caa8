package mount

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// classic mounts with mount(2).
func classic(s Spec) error {
	if s.Type == "bind" {
		return classicBind(s)
	}
	flags, data := classicFlags(s.Attr), s.classicData(lowerList(s.Lower))
	for _, option := range s.Data {
		if f, ok := superblockFlag(option); ok {
			flags |= f
		}
	}
	if len(data) < os.Getpagesize() {
		if err := unix.Mount(s.Source, s.Target, s.Type, flags, data); err != nil {
			return fmt.Errorf("mount(2) with %q: %w", data, err)
		}
		return nil
	}
	return mountFromDescriptors(s, flags)
}

// classicData is the last argument of mount(2): the options that aren't flags, joined.
func (s Spec) classicData(lower string) string {
	return strings.Join(s.options(lower, func(o string) bool { _, isFlag := superblockFlag(o); return isFlag }), ",")
}

// mountFromDescriptors opens the lower directories and mounts from /proc/self/fd, where a
// lower directory's name is just a number.
//
// A working directory belongs to the thread here, not to the process: Go's threads share
// theirs, so one thread leaves that sharing (unshare(CLONE_FS)), does the work and, still
// locked to its goroutine, ends with it.
func mountFromDescriptors(s Spec, flags uintptr) error {
	fds := make([]int, 0, len(s.Lower))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	names := make([]string, 0, len(s.Lower))
	for _, dir := range s.Lower {
		fd, err := openPath(dir, 0)
		if err != nil {
			return fmt.Errorf("lower directory: %w", err)
		}
		fds, names = append(fds, fd), append(names, strconv.Itoa(fd))
	}
	data := s.classicData(strings.Join(names, ":"))
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf(
			"%w: %d lower directories and the other options take %d bytes, and mount(2) takes one page (%d); Linux "+
				"6.8 and later have no such limit",
			errdefs.ErrUnsupported, len(s.Lower), len(data), os.Getpagesize())
	}
	return onThrowawayThread(func() error { return mountInDir("/proc/self/fd", s, flags, data) })
}

// onThrowawayThread runs do on a thread that ends with it. The first thread of the
// process is never taken: /proc/<pid>/cwd is that thread's.
func onThrowawayThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread must not serve other goroutines afterwards
		if unix.Gettid() != unix.Getpid() {
			done <- do()
			return
		}
		err := onThrowawayThread(do) // on another thread, since this goroutine keeps the first one
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

func mountInDir(dir string, s Spec, flags uintptr, data string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare a thread's working directory: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("chdir %s: %w", dir, err)
	}
	if err := unix.Mount(s.Source, s.Target, s.Type, flags, data); err != nil {
		return fmt.Errorf("mount(2) with %q: %w", data, err)
	}
	return nil
}
