package userns

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwardSignals passes on to p what would end this process, until stop is called.
// Signals that this process was started to ignore stay ignored.
func forwardSignals(p *os.Process) (stop func()) {
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1,
		syscall.SIGUSR2} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				// The terminal sends these two to the whole process group: p has them
				// already, and two of them mean something else to many programs.
				if (s == syscall.SIGINT || s == syscall.SIGQUIT) && foreground() {
					continue
				}
				_ = p.Signal(s) // it may have ended meanwhile
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// foreground reports whether this process belongs to the group that its terminal sends
// signals to.
func foreground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
