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
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/store"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// program is one run of shale: its streams and its global flags. There is no other state,
// so that tests can run many in one process.
type program struct {
	args   []string // the command line, with the program's name
	stdin  io.Reader
	stdout io.Writer // the stream itself, for asking whether it is a terminal; commands print to out
	stderr io.Writer
	out    *bufio.Writer
	log    *logrus.Logger
	global *globalFlags
	// peer is the grammar of the commands that this program builds: that of
	// containers-storage, or our own.
	peer bool

	settings storageconf.Settings // of the store that was opened
}

// peerName is the program whose grammar we speak when we are called by its name.
const peerName = "containers-storage"

// run executes one command line, args[0] being the program's name, and returns its exit
// status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{args: args, stdin: stdin, stdout: stdout, stderr: stderr, out: bufio.NewWriterSize(stdout, 64<<10),
		log: logrus.New(), global: &globalFlags{}, peer: len(args) > 0 && filepath.Base(args[0]) == peerName}
	p.log.SetOutput(stderr)
	ctx, stop := untilSignalled(context.Background())
	defer stop()
	ctx = store.OnWait(ctx, func(w store.Waiting) { p.log.Warn(waitingFor(w)) })
	root := p.rootCommand()
	root.SetArgs(args[min(1, len(args)):])
	command, err := root.ExecuteContextC(ctx)
	var known said
	if flushErr := p.out.Flush(); flushErr != nil && (err == nil || errors.As(err, &known)) {
		err = fmt.Errorf("standard output: %w", flushErr)
	}
	status := exitStatus(ctx, err, p.peer || speaksPeer(command))
	if status != 0 && status != pipeStatus && !errors.As(err, &known) {
		p.complain(command, context.Cause(ctx), err)
	}
	return status
}

// waitingFor says who holds a lock up, and since when.
func waitingFor(w store.Waiting) string {
	by := "another process"
	if w.PID > 0 {
		by = fmt.Sprintf("%s (process %d)", w.Program, w.PID)
	}
	return fmt.Sprintf("waiting since %s for the lock %s, which %s holds", w.Since.Format(time.TimeOnly), w.Path, by)
}

// speaksPeer reports whether a command is one of "shale storage".
func speaksPeer(command *cobra.Command) bool {
	for ; command != nil; command = command.Parent() {
		if command.Name() == storageVerb && command.HasParent() {
			return true
		}
	}
	return false
}

// signalError is why the context of an interrupted command ended.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string {
	if e.Signal == syscall.SIGINT {
		return "interrupted"
	}
	return "terminated"
}

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

// complain says on stderr what went wrong with which command, and what to do about it
// where we know.
func (p *program) complain(command *cobra.Command, cause, err error) {
	var signalled signalError
	var child childStatus
	root := command.Root()
	where := root.Name()
	if command.HasParent() {
		where += ": " + strings.TrimPrefix(command.CommandPath(), root.Name()+" ")
	}
	switch {
	case errors.As(err, &child):
	case errors.As(cause, &signalled):
		fmt.Fprintf(p.stderr, "%s: %s\n", where, signalled)
	default:
		for line := range strings.Lines(err.Error()) { // one for each object that failed
			fmt.Fprintf(p.stderr, "%s: %s\n", where, strings.TrimSuffix(line, "\n"))
		}
		if advice := advice(command, err); advice != "" {
			fmt.Fprintf(p.stderr, "  %s\n", advice)
		}
	}
}

// printf prints to standard output. Errors stick to the buffer and show when it is
// flushed.
func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// printJSON prints one line of JSON.
func (p *program) printJSON(value any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetEscapeHTML(p.peer) // which only containers-storage needs
	return encoder.Encode(value)
}

// interactive reports whether a person reads standard output.
func (p *program) interactive() bool { return terminal(p.stdout) != nil }

// sayf prints to stderr what is no error.
func (p *program) sayf(format string, args ...any) { fmt.Fprintf(p.stderr, format, args...) }
