package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// input is what a command reads: a file named with --file, or standard input.
type input struct {
	io.Reader
	// Size is the length of a regular file in bytes; 0 for a pipe or a terminal.
	Size  int64
	close func() error
}

func (in *input) Close() error { return in.close() }

// openInput opens path, or standard input for "". Cancelling ctx ends a read that waits
// for a pipe or a terminal, which no signal would do otherwise: Go restarts an
// interrupted read.
func (p *program) openInput(ctx context.Context, path string) (*input, error) {
	file, isFile := p.stdin.(*os.File)
	if path == "" && !isFile {
		return &input{Reader: p.stdin, close: func() error { return nil }}, nil
	}
	closeFile := func() error { return nil }
	if path != "" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		file, closeFile = opened, opened.Close
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file.Name(), err), closeFile())
	}
	if info.Mode().IsRegular() {
		return &input{Reader: file, Size: info.Size(), close: closeFile}, nil
	}
	if info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is a directory", file.Name()), closeFile())
	}
	waiter, err := newWaiter(ctx, file)
	if err != nil {
		return nil, errors.Join(err, closeFile())
	}
	return &input{Reader: waiter, close: func() error { waiter.stop(); return closeFile() }}, nil
}

// openArchive is openInput for an archive. Nothing at all is none: it is what comes from
// a pipe whose other end has failed.
func (p *program) openArchive(ctx context.Context, path string) (*input, error) {
	if path == "" && terminal(p.stdin) != nil {
		p.sayf("reading an archive from standard input; --file names a file\n")
	}
	in, err := p.openInput(ctx, path)
	if err != nil {
		return nil, err
	}
	start := bufio.NewReader(in.Reader)
	if _, err := start.Peek(1); err != nil {
		in.Close()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w: it is empty, which no archive is", cmp.Or(path, "standard input"),
				errdefs.ErrInvalid)
		}
		return nil, err
	}
	in.Reader = start
	return in, nil
}

// waiter reads from a file that may keep it waiting, until its context ends: poll(2)
// watches the file and an eventfd(2) together.
type waiter struct {
	ctx  context.Context
	file *os.File
	wake *os.File
	stop func() bool
}

func newWaiter(ctx context.Context, file *os.File) (*waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// closed by its finalizer: a poll may still hold the number when stop is called
	wake := os.NewFile(uintptr(fd), "eventfd")
	stop := context.AfterFunc(ctx, func() {
		_, _ = wake.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd takes eight bytes whenever it is open
	})
	return &waiter{ctx: ctx, file: file, wake: wake, stop: stop}, nil
}

func (w *waiter) Read(b []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(w.file.Fd()), Events: unix.POLLIN},
			{Fd: int32(w.wake.Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("poll %s: %w", w.file.Name(), err)
		case w.ctx.Err() != nil:
			return 0, context.Cause(w.ctx)
		}
		return w.file.Read(b)
	}
}

// readAll reads the whole of a small input, such as metadata, and refuses more than limit
// bytes.
func (p *program) readAll(ctx context.Context, path string, limit int64) ([]byte, error) {
	in, err := p.openInput(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return readUpTo(in, limit)
}

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: it is larger than %s", errdefs.ErrInvalid, bytesText(limit))
	}
	return data, nil
}
