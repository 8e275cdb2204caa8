package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// job is a program to run in a machine of its own.
type job struct {
	Args  []string // its path on the host, and its arguments
	Dir   string   // the directory it runs in; its testdata goes along
	Env   []string // in addition to the guest's own
	Limit time.Duration

	Stdout  io.Writer // gets what it prints, to either stream
	Console io.Writer // gets the kernel's console; nil for nobody
}

// bootLimit is how long the guest may take until it starts the program: many times what
// it takes, emulated, on a busy host.
const bootLimit = 2 * time.Minute

var (
	errNoBoot = errors.New("the machine did not boot in time")
	errLimit  = errors.New("the program did not end in time")
	errPanic  = errors.New("the kernel panicked")
	errEnded  = errors.New("the machine ended without a result")
)

// run makes a machine, runs the job in it and returns the program's exit code. An error
// is a machine that did not get that far, or, as a missingError, none that could be made.
// Nothing of it stays, not even when we are killed.
func run(ctx context.Context, j job) (int, error) {
	qemu, err := tool("qemu-system-x86_64", "qemu-system-x86")
	if err != nil {
		return 0, err
	}
	if runtime.GOARCH != "amd64" {
		return 0, missingError("an amd64 host, as the machine is one")
	}
	kernel, err := findKernel(ctx)
	if err != nil {
		return 0, err
	}
	files, err := makeFiles(ctx, kernel, j)
	if err != nil {
		return 0, err
	}
	defer files.close()

	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	// Qemu 7.2 miscounts in cmpxchg16b, which Linux 6.12 stumbles over at once.
	cmd := exec.CommandContext(ctx, qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-m",
		"2G", "-smp", "2",
		"-nodefaults", "-display", "none", "-no-reboot")
	arg := func(args ...string) { cmd.Args = append(cmd.Args, args...) }
	// path makes a descriptor of ours one of qemu's.
	path := func(f *os.File) string {
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return fmt.Sprintf("/dev/fd/%d", 2+len(cmd.ExtraFiles))
	}
	// A kernel that stumbles stops, and the machine with it. On a busy host timer
	// interrupts come too late for its check of them.
	arg("-kernel", path(files.kernel), "-initrd", path(files.initramfs),
		"-append", "console=ttyS0 loglevel=4 oops=panic panic=-1 no_timer_check security=selinux selinux=1 enforcing=0")
	for _, d := range disks {
		arg("-drive", "if=none,format=raw,cache=unsafe,discard=unmap,id="+d.name+",file="+path(files.disks[d.name]),
			"-device", "virtio-blk-pci,drive="+d.name+",serial="+d.name)
	}
	console, state := &lastBytes{tee: j.Console}, &progress{}
	var pipes []*pipe
	closePipes := sync.OnceFunc(func() {
		for _, p := range pipes {
			p.close()
		}
	})
	defer closePipes()
	arg("-device", "virtio-serial-pci")
	for id, port := range map[string]struct {
		to     io.Writer
		device []string
	}{
		"console": {console, []string{"-serial", "chardev:console"}},
		"output":  {j.Stdout, []string{"-device", "virtserialport,chardev=output,name=" + outputPort}},
		"state":   {state, []string{"-device", "virtserialport,chardev=state,name=" + statePort}},
	} {
		p, err := pipeTo(port.to)
		if err != nil {
			return 0, err
		}
		pipes = append(pipes, p)
		arg("-chardev", "file,id="+id+",path="+path(p.in))
		arg(port.device...)
	}
	var complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &complaints, &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal is sent when the thread that started qemu ends
	defer runtime.UnlockOSThread()

	boot := time.AfterFunc(bootLimit, func() {
		if !state.started() {
			giveUp(errNoBoot)
		}
	})
	defer boot.Stop()
	limit := time.AfterFunc(j.Limit, func() { giveUp(errLimit) })
	defer limit.Stop()
	err = cmd.Run()
	closePipes()

	if code, ok := state.exitCode(); ok {
		return code, nil
	}
	cause := context.Cause(ctx)
	switch {
	case bytes.Contains(console.data, []byte("Kernel panic")):
		cause = errPanic
	case cause == nil:
		cause = fmt.Errorf("%w: %w: %s", errEnded, err, bytes.TrimSpace(complaints.Bytes()))
	}
	return 0, fmt.Errorf("%w; the end of its console:\n%s", cause, console.data)
}

// pipe is one end for qemu to write to, whose other end is copied somewhere until the
// last writer is gone.
type pipe struct {
	in   *os.File
	done chan struct{}
}

func pipeTo(w io.Writer) (*pipe, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &pipe{in, make(chan struct{})}
	go func() {
		defer close(p.done)
		defer out.Close()
		io.Copy(w, out)
	}()
	return p, nil
}

// close waits for what is under way.
func (p *pipe) close() {
	p.in.Close()
	<-p.done
}
