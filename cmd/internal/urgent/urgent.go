// Package urgent gets a process its turn on a processor at once.
package urgent

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// nice is the weight asked for: ten times that of a process which asks for none.
	nice = -10
	// turn is how long a thread wants to run at a time, in nanoseconds: the least that
	// the kernel grants. Whoever asks for short turns gets them soon: a thread that wakes
	// up interrupts one with longer turns (EEVDF; sched_setattr(2), sched_runtime, Linux
	// 6.12, before which it is ignored).
	turn = 100_000
)

// Process lets all threads of this process, and those that they will start, run before
// others: for a command that is over in milliseconds, that somebody waits for, and that
// holds locks for which others wait. Beside programs that keep all processors busy it
// would else wait for its turn as long as it works, at a lock as well.
//
// It takes what the caller could have taken for itself and no more: the weight that
// CAP_SYS_NICE or RLIMIT_NICE grants (setpriority(2)), and without either only a shorter
// turn. A process that was started with a weight or a policy of its own keeps it.
func Process() {
	now, err := unix.SchedGetAttr(0, 0)
	if err != nil || now.Policy != unix.SCHED_NORMAL || now.Nice != 0 {
		return
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NICE, &limit); err != nil {
		return
	}
	// A thread that isn't listed yet is started by one that is: twice is enough for all.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				continue
			}
			if errors.Is(set(tid, nice), unix.EPERM) {
				_ = set(tid, granted(limit.Cur))
			}
		}
	}
}

// granted is the weight that RLIMIT_NICE lets a process without CAP_SYS_NICE take: the
// limit is 20 minus the lowest nice value (getrlimit(2)).
func granted(limit uint64) int32 { return max(nice, min(0, 20-int32(min(limit, 40)))) }

// Start starts a program that outlives this process, with the ordinary weight.
func Start(cmd *exec.Cmd) error {
	runtime.LockOSThread() // a child has what the thread has that starts it
	defer runtime.UnlockOSThread()
	now, err := unix.SchedGetAttr(0, 0)
	if err != nil || now.Policy != unix.SCHED_NORMAL || now.Runtime != turn {
		return cmd.Start()
	}
	ordinary := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if err := unix.SchedSetAttr(0, &ordinary, 0); err != nil {
		return cmd.Start()
	}
	defer func() { _ = set(0, now.Nice) }()
	return cmd.Start()
}

// set is in vain for a thread that has ended, and on a kernel whose rules differ; nothing
// depends on it.
func set(tid int, nice int32) error {
	return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: nice,
		Runtime: turn}, 0)
}
