package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// gate is a promise about cost that no machine's speed changes.
type gate struct {
	what  string
	most  float64
	found float64
}

// Names of gates that are goals too.
const gateCalls = "apply: system calls an entry, the process and its runtime included"

func gateSyncs(kind string) string      { return kind + " cycle: syncs of any kind" }
func gateCycleCalls(kind string) string { return kind + " cycle: system calls, the runtime's included" }

// checkGates measures and holds us to them.
func checkGates(ctx context.Context, s *session) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("the gates need strace: %w", err)
	}
	var gates []gate
	err := s.fresh(512, func(dir string) error {
		apply, err := applyGates(ctx, dir)
		gates = append(gates, apply...)
		return err
	})
	if err != nil {
		return err
	}
	for _, kind := range []string{"container", "volatile"} {
		err := s.fresh(512, func(dir string) error {
			cycle, err := cycleGates(ctx, kind, dir)
			gates = append(gates, cycle...)
			return err
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("\n%-60s %12s %12s\n", "gates", "found", "at most")
	var broken []error
	for _, g := range gates {
		fmt.Printf("%-60s %12.1f %12.1f\n", g.what, g.found, g.most)
		s.results.Counts[g.what] = g.found
		if g.found > g.most {
			broken = append(broken, fmt.Errorf("%s: %.1f, at most %.1f", g.what, g.found, g.most))
		}
	}
	return errors.Join(broken...)
}

func applyGates(ctx context.Context, dir string) ([]gate, error) {
	path, err := testLayers(true)[0].file(ctx, ".tar")
	if err != nil {
		return nil, err
	}
	entries, err := readTar(path)
	if err != nil {
		return nil, err
	}
	plain := filepath.Join(dir, "plain")
	if err := os.Mkdir(plain, 0o755); err != nil {
		return nil, err
	}
	out, err := perform(ctx, "apply/shale", input{Dir: plain, Archive: path})
	if err != nil {
		return nil, err
	}
	traced := filepath.Join(dir, "traced")
	if err := os.Mkdir(traced, 0o755); err != nil {
		return nil, err
	}
	calls, err := traceTask(ctx, "apply/shale", input{Dir: traced, Archive: path})
	if err != nil {
		return nil, err
	}
	n := float64(len(entries))
	return []gate{
		// The runtime's own calls (futex, and the like) depend on how threads meet; they
		// and the process's beginnings are in this number.
		{gateCalls, 8, float64(calls.all) / n},
		{"apply: allocations an entry", 15, float64(out.Mallocs) / n},
		{"apply: peak memory, MB", 64, float64(out.PeakKiB) / 1024},
	}, nil
}

func cycleGates(ctx context.Context, kind, dir string) ([]gate, error) {
	const few, many = 5, 25
	if _, err := perform(ctx, "fill/shale", input{Dir: dir, Count: 3}); err != nil {
		return nil, err
	}
	short, err := traceTask(ctx, kind+"/shale", input{Dir: dir, Times: few, Untimed: true})
	if err != nil {
		return nil, err
	}
	long, err := traceTask(ctx, kind+"/shale", input{Dir: dir, Times: many, Untimed: true})
	if err != nil {
		return nil, err
	}
	out, err := perform(ctx, kind+"/shale", input{Dir: dir, Times: many})
	if err != nil {
		return nil, err
	}
	syncs := 6.0
	if kind == "volatile" {
		syncs = 0
	}
	per := func(long, short int) float64 { return float64(long-short) / (many - few) }
	return []gate{
		{gateSyncs(kind), syncs, per(long.syncs, short.syncs)},
		{gateCycleCalls(kind), 230, per(long.all, short.all)},
		{kind + " cycle: bytes written", 24 << 10, float64(out.Written) / many},
	}, nil
}

// calls counts a process's system calls.
type calls struct{ all, syncs int }

// traceTask counts with strace(1) what a task calls, threads and children included. What
// waits for other threads is left out: how often they meet is chance.
func traceTask(ctx context.Context, name string, in input) (calls, error) {
	file, err := os.CreateTemp("", "strace-")
	if err != nil {
		return calls{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := perform(ctx, name, in, "strace", "--follow-forks", "--summary-only", "--output", file.Name(),
		"--trace",
		"!futex,nanosleep,epoll_pwait,sched_yield,tgkill,rt_sigreturn,rt_sigprocmask,getpid,"+
			"madvise,mmap,munmap"); err != nil {
		return calls{}, err
	}
	summary, err := os.ReadFile(file.Name())
	if err != nil {
		return calls{}, err
	}
	return parseSummary(string(summary))
}

// parseSummary reads the table that strace -c writes: time, seconds, microseconds a call,
// calls, errors perhaps, name.
func parseSummary(table string) (calls, error) {
	var c calls
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		n, err := strconv.Atoi(fields[3])
		if err != nil {
			continue
		}
		switch fields[len(fields)-1] {
		case "total":
			continue
		case "fsync", "fdatasync", "syncfs", "sync", "sync_file_range", "msync":
			c.syncs += n
		}
		c.all += n
	}
	if c.all == 0 {
		return c, fmt.Errorf("strace counted nothing: %q", table)
	}
	return c, nil
}
