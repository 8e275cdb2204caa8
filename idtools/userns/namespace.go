package userns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// Namespace says for whom a user namespace is made and how.
//
// The caller's own ID becomes root in it, and the caller's subordinate IDs follow from 1
// on. To map those takes newuidmap and newgidmap, which are part of every distribution;
// without them, or without an entry in /etc/subuid and /etc/subgid, the namespace has the
// caller's ID alone. Root needs no helper; without subordinate IDs of its own it keeps
// all the IDs it has.
//
// How it works: a process can be given IDs only by its parent, and has its powers over
// the namespace from its next execve(2) after that on. So the program starts itself anew
// in the namespace (the clone flags of SysProcAttr), where Child waits; the parent writes
// the maps; Child executes the program once more, now as root of the namespace, ties its
// life to the parent's, and becomes the command.
//
// main must therefore call Child before anything else.
type Namespace struct {
	Caller Caller
	// SubIDs are the files to read; the zero value is right, except that newuidmap and
	// newgidmap read those of /etc in any case.
	SubIDs idtools.SubIDFiles
	// Warn, if not nil, hears why a namespace has fewer IDs than one would want. The
	// command runs all the same.
	Warn func(error)
	// Stdin, Stdout and Stderr are those of the command; nil stands for this process's
	// own.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// killDelay is how long a command may take to end after its context did.
const killDelay = 10 * time.Second

// Run executes argv in a new user namespace and a new mount namespace, and waits for it.
// The command is looked up in PATH. Signals that would end or stop this process are
// passed on to it, and it doesn't outlive this process.
//
// The status is the command's exit status, or 128 and the number of the signal that ended
// it, as shells have it. err tells that the command could not be started:
// errdefs.ErrUnsupported when this host allows no user namespaces, the message naming the
// setting that forbids it.
//
// When ctx ends, the command is asked to end with SIGTERM and killed ten seconds later.
// Don't pass a context that ends on SIGINT: a shell in the namespace decides for itself
// what Ctrl-C means.
func (n Namespace) Run(ctx context.Context, argv []string) (status int, err error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	return n.run(ctx, path, argv)
}

// Reexec is Run for this very program. args are its arguments, starting with its name:
// usually os.Args.
func (n Namespace) Reexec(ctx context.Context, args []string) (status int, err error) {
	return n.run(ctx, "/proc/self/exe", args)
}

func (n Namespace) run(ctx context.Context, path string, argv []string) (int, error) {
	plan, err := n.plan()
	if err != nil {
		return 0, err
	}
	// The child dies with the thread that started it (PR_SET_PDEATHSIG in prctl(2)),
	// which must not be one that Go gives up.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	mine, theirs, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer mine.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = append([]string{stageMapped, path}, argv...)
	cmd.Env = n.Caller.Environ(cmd.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = n.Stdin, n.Stdout, n.Stderr
	if cmd.Stdin == nil {
		cmd.Stdin = os.Stdin
	}
	if cmd.Stdout == nil {
		cmd.Stdout = os.Stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killDelay

	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, idtools.NotPermitted(err)
	}
	stop := forwardSignals(cmd.Process)
	defer stop()
	if err := n.release(mine, plan, cmd.Process.Pid); err != nil {
		mine.Close() // the child ends when it reads nothing
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// release gives the waiting child its IDs, sends it on, and returns once it has become
// the command or has told why it could not.
func (n Namespace) release(conn *os.File, p plan, pid int) error {
	if err := p.apply(pid, n.warn); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return fmt.Errorf("user namespace: wake its first process: %w", err)
	}
	// The child's end closes when it executes the command.
	report, err := io.ReadAll(io.LimitReader(conn, 4096))
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("user namespace: hear from its first process: %w", err)
	}
	return decodeReport(report)
}

func (n Namespace) warn(err error) {
	if n.Warn != nil {
		n.Warn(err)
	}
}

// socketpair returns two connected sockets that no child inherits unasked.
func socketpair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "userns"), os.NewFile(uintptr(fds[1]), "userns child"), nil
}
