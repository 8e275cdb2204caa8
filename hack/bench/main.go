// Bench sets Shale beside containers/storage, containerd, GNU tar and the kernel's own limits, on real layers, and prints ratios.
//
// Every measurement is a process of its own on a fresh, journaled ext4; the contestants take turns in random order; a number is the
// median of its rounds. A machine's speed cancels out of a ratio, a busy machine does not quite. With -quick it shows the ratios of one
// round on small layers and fails on what no machine changes: system calls, syncs, bytes written, allocations and memory (gates.go).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"go.podman.io/storage/pkg/reexec"
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
		{"apply", "a layer from a tar, until it is listed", applyBench},
		{"export", "diff, commit and delete of a large layer", exportBench},
		{"cycle", "create, mount, unmount, delete, in stores of different sizes", cycleBench},
		{"depth", "mount on so many lowers", depthBench},
		{"open", "a new process looks up one layer of many", openBench},
	}
}

// bench is one part.
type bench struct {
	name, about string
	run         func(ctx context.Context, b *session) error
}

func run(ctx context.Context) error {
	which := flag.String("bench", "", "only these parts, separated by commas")
	rounds := flag.Int("rounds", 5, "how often each contestant does everything")
	only := flag.String("layers", "", "only these layers, separated by commas: base, dev, node, huge")
	quick := flag.Bool("quick", false, "one round on small layers, and the gates")
	jsonFile := flag.String("json", "", "also write the numbers to this file")
	plots := flag.String("plots", "", "also draw them as SVG into this directory")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: bench [flags]\n\n")
		for _, b := range benches() {
			fmt.Fprintf(os.Stderr, "  %-8s %s\n", b.name, b.about)
		}
		fmt.Fprintln(os.Stderr)
		flag.PrintDefaults()
	}
	flag.Parse()
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, for fresh file systems")
	}
	s, err := newSession(*rounds, *quick, split(*only))
	if err != nil {
		return err
	}
	defer s.close()
	wanted := split(*which)
	for _, name := range wanted {
		if !slices.ContainsFunc(benches(), func(b bench) bool { return b.name == name }) {
			return fmt.Errorf("-bench %s: no such part", name)
		}
	}
	for _, b := range benches() {
		if len(wanted) > 0 && !slices.Contains(wanted, b.name) {
			continue
		}
		if err := b.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	s.results.print(os.Stdout)
	if *jsonFile != "" {
		if err := s.results.writeJSON(*jsonFile); err != nil {
			return err
		}
	}
	if *plots != "" {
		if err := s.results.draw(*plots); err != nil {
			return err
		}
	}
	if *quick {
		return checkGates(ctx, s)
	}
	return nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
