// Demo shows Shale's main job on real input, and checks it: the source tree of the Go
// toolchain becomes a layer, a container changes files on top of it, and the change
// travels to a second store, where the same tree must come out.
//
// It is what "make run" runs. It uses bin/shale from outside, as a person would, needs
// nothing but Go, works as root and as an ordinary user, and leaves nothing behind: it
// works in a mount namespace of its own and in one directory, which a second process
// removes whatever happens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// insideVariable tells the second process that it is the one to do the work.
const insideVariable = "SHALE_DEMO_INSIDE"

// goSource is the Go toolchain's own source tree.
func goSource() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "/usr/local/go/src"
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

func main() {
	shale := flag.String("shale", "bin/shale", "the program to show")
	source := flag.String("source", goSource(), "the directory to make a layer of")
	parent := flag.String("dir", "",
		"work below this directory (default: the first of $TMPDIR, /var/tmp and /dev/shm that will do)")
	driver := flag.String("driver", "", "use the driver overlay or vfs (default: overlay where it can be mounted)")
	flag.Parse()
	if err := start(*shale, *source, *parent, *driver); err != nil {
		var child childFailed
		if errors.As(err, &child) {
			os.Exit(int(child))
		}
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func start(shale, source, parent, driver string) error {
	shale, err := filepath.Abs(shale)
	if err != nil {
		return err
	}
	if _, err := os.Stat(shale); err != nil {
		return fmt.Errorf("%w: `make build` makes it", err)
	}
	if source, err = filepath.EvalSymlinks(source); err != nil {
		return fmt.Errorf("no source tree: %w; name one with --source", err)
	}
	if directory := os.Getenv(insideVariable); directory != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return show(ctx, shale, source, directory, driver)
	}
	return supervise(shale, source, parent, driver)
}

// childFailed is the exit status of the process that did the work, and has said itself
// what was wrong.
type childFailed int

func (c childFailed) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// supervise runs this program again with the rights it needs, in a mount namespace that
// takes its mounts along when it goes, and removes the directory it worked in. Root gets
// a mount namespace; anybody else a user namespace as well, by "shale unshare".
func supervise(shale, source, parent, driver string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	candidates := []string{parent}
	if parent == "" {
		candidates = []string{os.TempDir(), "/var/tmp", "/dev/shm"}
	}
	// The child chooses among these, since only it has the rights to try. We make and
	// remove them all.
	var directories []string
	defer func() {
		for _, directory := range directories {
			os.RemoveAll(directory)
		}
	}()
	list := ""
	for _, candidate := range candidates {
		directory, err := os.MkdirTemp(candidate, "shale-demo-")
		if err != nil {
			continue
		}
		directories = append(directories, directory)
		list += directory + string(filepath.ListSeparator)
	}
	if len(directories) == 0 {
		return fmt.Errorf("none of %v can be written to: name a directory with --dir", candidates)
	}

	child := exec.Command(self, "--shale", shale, "--source", source, "--driver", driver)
	if os.Geteuid() == 0 {
		// Go makes all mounts private after unsharing, so that ours don't spread to the
		// host.
		child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	} else {
		child = exec.Command(shale, append([]string{"unshare", self}, child.Args[1:]...)...)
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	}
	child.Env = append(os.Environ(), insideVariable+"="+list)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr

	// An interrupt reaches the child as well; we wait for it to have cleaned up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		return fmt.Errorf("a namespace for the demo: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	for {
		select {
		case got := <-signals:
			child.Process.Signal(got)
		case err := <-done:
			if os.Geteuid() != 0 {
				// What belongs to subordinate IDs, only the namespace can remove.
				for _, directory := range directories {
					_ = exec.Command(shale, "unshare", "rm", "-rf", directory).Run()
				}
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return childFailed(exit.ExitCode())
			}
			return err
		}
	}
}

// show is the demonstration itself, with the rights to mount.
func show(ctx context.Context, shale, source, directories, driver string) (err error) {
	began := time.Now()
	place, err := choosePlace(filepath.SplitList(directories), driver)
	if err != nil {
		return err
	}
	d := &demo{ctx: ctx, shale: shale, place: place}
	defer func() {
		if cleanErr := d.clean(); err == nil {
			err = cleanErr
		}
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "demo: interrupted; all that was made is gone again")
			os.Exit(130)
		}
		if err != nil {
			return
		}
		d.say("done", "in %.1f s; nothing is left behind", time.Since(began).Seconds())
	}()
	return d.run(source)
}
