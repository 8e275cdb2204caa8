package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// program is one run of shale: its streams and its global flags. There is no other state,
// so that tests can run many in one process.
type program struct {
	args   []string // the command line, without the program's name
	stdin  io.Reader
	stdout io.Writer // the stream itself, for asking whether it is a terminal; commands print to out
	stderr io.Writer
	out    *bufio.Writer
	log    *logrus.Logger
	global globalFlags

	settings storageconf.Settings // of the store that was opened
}

// run executes one command line and returns its exit status: see exitStatus.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{args: args, stdin: stdin, stdout: stdout, stderr: stderr, out: bufio.NewWriterSize(stdout, 64<<10),
		log: logrus.New()}
	p.log.SetOutput(stderr)
	ctx, stop := untilSignalled(context.Background())
	defer stop()
	root := p.rootCommand()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if flushErr := p.out.Flush(); flushErr != nil && (err == nil || errors.Is(err, errSaid)) {
		err = fmt.Errorf("standard output: %w", flushErr)
	}
	status := exitStatus(ctx, err)
	if status != 0 && status != pipeStatus && !errors.Is(err, errSaid) {
		p.complain(command, context.Cause(ctx), err)
	}
	return status
}

// signalError is why the context of an interrupted command ended.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string {
	if e.Signal == syscall.SIGINT {
		return "interrupted"
	}
	return "terminated"
}

// pipeStatus is what a shell reports for a program that dies of SIGPIPE. We end on our
// own instead, so that undo still runs.
const pipeStatus = 128 + int(syscall.SIGPIPE)

// untilSignalled returns a context that ends at the first SIGINT or SIGTERM, which lets
// the command undo what it has begun. The second one kills as usual. SIGPIPE becomes the
// write error EPIPE.
func untilSignalled(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ends, pipes := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(pipes, syscall.SIGPIPE)
	go func() {
		select {
		case got := <-ends:
			signal.Stop(ends)
			cancel(signalError{got.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(ends)
		signal.Stop(pipes)
		cancel(nil)
	}
}

// errSaid is returned by a command that has said on stderr, or by its output, what is
// wrong; it only sets the exit status.
var errSaid = errors.New("already said")

// childStatus is the exit status of a program that shale ran in its own place.
type childStatus int

func (s childStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exitStatus is 0 for success, 1 for any failure, wrong usage included, 128 and the
// signal's number after a signal, and that of the child when one ran in our place.
func exitStatus(ctx context.Context, err error) int {
	var signalled signalError
	var child childStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &child):
		return int(child)
	case errors.As(context.Cause(ctx), &signalled):
		return 128 + int(signalled.Signal)
	case errors.Is(err, unix.EPIPE):
		return pipeStatus
	}
	return 1
}

// complain says on stderr what went wrong with which command, and what to do about it
// where we know.
func (p *program) complain(command *cobra.Command, cause, err error) {
	var signalled signalError
	var child childStatus
	where := "shale"
	if command != nil && command.HasParent() {
		where += ": " + command.Name()
	}
	switch {
	case errors.As(err, &child):
	case errors.As(cause, &signalled):
		fmt.Fprintf(p.stderr, "%s: %s\n", where, signalled)
	default:
		for line := range strings.Lines(err.Error()) { // one for each object that failed
			fmt.Fprintf(p.stderr, "%s: %s\n", where, strings.TrimSuffix(line, "\n"))
		}
		if advice := advice(err); advice != "" {
			fmt.Fprintf(p.stderr, "  %s\n", advice)
		}
	}
}

// printf prints to standard output. Errors stick to the buffer and show when it is
// flushed.
func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// printJSON prints one line of JSON.
func (p *program) printJSON(value any) error { return json.NewEncoder(p.out).Encode(value) }

// interactive reports whether a person reads standard output. Only then may a command
// print something else than containers-storage does.
func (p *program) interactive() bool { return terminal(p.stdout) != nil }

// sayf prints to stderr what is no error.
func (p *program) sayf(format string, args ...any) { fmt.Fprintf(p.stderr, format, args...) }
