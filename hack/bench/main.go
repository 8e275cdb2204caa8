// Bench sets Shale beside containers/storage, containerd, GNU tar and the kernel's own
// limits, on real layers, and prints ratios.
//
// Every measurement is a process of its own on a fresh, journaled ext4; the contestants
// take turns in random order; a number is the median of its rounds. A machine's speed
// cancels out of a ratio, a busy machine does not quite. With -quick it measures what no
// machine changes, and fails on that: system calls, syncs, bytes written, allocations and
// memory (gates.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.podman.io/storage/pkg/reexec"
	"golang.org/x/sys/unix"
)

func main() {
	if reexec.Init() { // containers/storage extracts in a child, which is this program under another name
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == childArg {
		exit(serve(ctx))
	}
	exit(run(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// benches are the parts, in the order in which they run and are shown.
func benches() []bench {
	return []bench{
		{"apply", "a layer from a tar, until it is listed", 0.56, applyBench},
		{"export", "diff, commit and delete of a large layer", 0.14, exportBench},
		{"beside", "what an import does to others", 0.04, besideBench},
		{"image", "an image of twelve layers", 0.06, imageBench},
		{"cycle", "create, mount, unmount, delete, in stores of different sizes", 0.1, cycleBench},
		{"depth", "mount on so many lowers", 0.04, depthBench},
		{"open", "a new process looks up one layer of many", 0.06, openBench},
		{"concurrency", "mounts beside imports, imports beside each other", 0.04, concurrencyBench},
		{"mapped", "containers in user namespaces, only when named", 0, mappedBench},
	}
}

// bench is one part. Share is what it may take of the time limit; 0 has the part run only
// when it is named, without a limit, on a layer that it makes itself.
type bench struct {
	name, about string
	share       float64
	run         func(ctx context.Context, s *session) error
}

func run(ctx context.Context) (err error) {
	which := flag.String("bench", "", "only these parts, separated by commas")
	rounds := flag.Int("rounds", 5, "how often each contestant does everything")
	only := flag.String("layers", "", "only these layers, separated by commas: base, dev, node, huge")
	limit := flag.Duration("limit", 45*time.Minute,
		"do fewer rounds rather than take longer than this, once the layers are made; 0 for no limit")
	quick := flag.Bool("quick", false, "only the gates, on a small layer; with parts named, also one round of those")
	jsonFile := flag.String("json", "", "also write the numbers to this file")
	report := flag.String("report", "",
		"also write numbers, pictures and the tables of performance.md into this directory; of named parts into "+
			"those of the whole run that are there")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: bench [flags]\n\n")
		for _, b := range benches() {
			fmt.Fprintf(os.Stderr, "  %-11s %s\n", b.name, b.about)
		}
		fmt.Fprintln(os.Stderr)
		flag.PrintDefaults()
	}
	flag.Parse()
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, for fresh file systems")
	}
	parts, err := wanted(split(*which), *quick)
	if err != nil {
		return err
	}
	s, err := newSession(*rounds, *quick, split(*only), *limit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	// What fails does not keep the rest from being measured, and is said again at the
	// end.
	var failures []error
	if slices.ContainsFunc(parts, func(b bench) bool { return b.share > 0 }) {
		failures = append(failures, s.makeLayers(ctx))
	}
	s.begun = time.Now()
	for _, b := range parts {
		s.share += b.share
		unix.Sync() // what a part has left is not for the next one to wait for
		if err := b.run(ctx, s); err != nil {
			progress("%s: %v", b.name, err)
			failures = append(failures, fmt.Errorf("%s: %w", b.name, err))
		}
		if ctx.Err() != nil {
			break // what there is by now is shown
		}
	}
	if *quick || *which == "" {
		failures = append(failures, checkGates(ctx, s))
	}
	if len(parts) > 0 {
		s.results.print(os.Stdout)
	}
	rec, err := newRecord(s.results)
	if err != nil {
		return errors.Join(append(failures, err)...)
	}
	if *jsonFile != "" {
		failures = append(failures, rec.write(*jsonFile))
	}
	if *report != "" {
		if *which != "" {
			rec, err = rec.on(*report)
		}
		if err == nil {
			err = rec.report(*report)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// wanted are the parts to run: those named, or else all, or with quick none.
func wanted(names []string, quick bool) ([]bench, error) {
	all := benches()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(b bench) bool { return b.name == name }) {
			return nil, fmt.Errorf("-bench %s: no such part", name)
		}
	}
	return slices.DeleteFunc(all, func(b bench) bool {
		return !slices.Contains(names, b.name) && (quick || len(names) > 0 || b.share == 0)
	}), nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
