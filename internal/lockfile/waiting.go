package lockfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Waiting tells of a lock that is waited for.
type Waiting struct {
	Path  string
	Since time.Time
	// PID is the process that holds the lock, and Program its name; 0 and "" where that
	// can't be found out: an ordinary user sees their own processes alone.
	PID     int
	Program string
}

// Patience is how long somebody waits for a lock before OnWait's function is called.
const Patience = time.Second

type waitKey struct{}

// OnWait has fn called, from another goroutine, when a lock has been waited for with this
// context for as long as Patience, once for each such lock.
func OnWait(ctx context.Context, fn func(Waiting)) context.Context {
	return context.WithValue(ctx, waitKey{}, fn)
}

// watch calls what OnWait has asked for, unless the returned function is called before.
func (l *Lock) watch(ctx context.Context) (stop func()) {
	fn, _ := ctx.Value(waitKey{}).(func(Waiting))
	if fn == nil {
		return func() {}
	}
	since := time.Now()
	probe := Lock{path: l.path, start: l.start, length: l.length}
	timer := time.AfterFunc(Patience, func() {
		pid := probe.holder()
		name, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		fn(Waiting{Path: probe.path, Since: since, PID: pid, Program: string(bytes.TrimSpace(name))})
	})
	return func() { timer.Stop() }
}

// holder is the process that keeps the lock from being taken; 0 when it isn't known. The
// kernel tells it of classic locks only (fcntl(2), F_OFD_GETLK). An open file description
// is found by those who have a descriptor of it: /proc/PID/fdinfo lists a lock as theirs.
func (l *Lock) holder() int {
	fd, err := openat.Open(filepath.Dir(l.path), filepath.Base(l.path), unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	what := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: l.start, Len: l.length}
	if unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &what) == nil && what.Pid > 0 {
		return int(what.Pid)
	}
	var ours, theirs unix.Stat_t
	if unix.Fstat(fd, &ours) != nil {
		return 0
	}
	open, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, path := range open {
		if unix.Stat(path, &theirs) != nil || theirs.Ino != ours.Ino || theirs.Dev != ours.Dev {
			continue
		}
		process := filepath.Dir(filepath.Dir(path))
		info, err := os.ReadFile(filepath.Join(process, "fdinfo", filepath.Base(path)))
		if err == nil && bytes.Contains(info, []byte("\nlock:")) && !bytes.Contains(info, []byte("-> ")) {
			pid, _ := strconv.Atoi(filepath.Base(process))
			return pid
		}
	}
	return 0
}
