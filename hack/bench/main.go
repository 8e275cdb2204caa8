// Bench compares Shale with containers-storage where users wait: importing, exporting and deleting a layer of 60,000
// small files, and the life of a small writable layer. Both work in turns, every import on a fresh ext4, and each
// gets the median of its rounds. The machine's speed cancels out of the ratio; a busy machine does not quite.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/corpus"
	"github.com/shalestore/shale/tests/harness"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each tool does everything")
	files := flag.Int("files", 60_000, "how many files the layer has")
	shale := flag.String("shale", "bin/shale", "the program to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *shale, *rounds, *files); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// times holds what each tool needed, by what it did.
type times map[string]map[string][]time.Duration

func run(ctx context.Context, shale string, rounds, files int) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, for fresh file systems")
	}
	shale, err := filepath.Abs(shale)
	if err != nil {
		return err
	}
	peer, err := testutil.InstallPeer()
	if err != nil {
		return err
	}
	tools := []harness.Tool{{Name: "shale", Path: shale}, {Name: "peer", Path: peer}}

	dir, err := os.MkdirTemp("", "shale-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plain := filepath.Join(dir, "layer.tar")
	if err := corpus.WriteSmallFiles(plain, files); err != nil {
		return err
	}
	archives := []string{plain}
	for _, compressor := range [][]string{{"gzip", ".gz"}, {"zstd", ".zst"}} {
		if out, err := exec.CommandContext(ctx, compressor[0], "-k", "-3", plain).CombinedOutput(); err != nil {
			fmt.Printf("without %s: %v %s\n", compressor[0], err, out)
			continue
		}
		archives = append(archives, plain+compressor[1])
	}

	all := times{}
	var peaks = map[string]int64{}
	for round := range rounds {
		for _, archive := range archives {
			for i := range tools {
				tool := tools[(i+round)%2] // who goes first changes
				if err := once(ctx, dir, tool, archive, all, peaks); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
	}
	fmt.Printf("%-28s %10s %10s %8s\n", "", "shale", "peer", "ratio")
	for _, what := range order {
		if ours, theirs := median(all[what]["shale"]), median(all[what]["peer"]); ours > 0 {
			fmt.Printf("%-28s %10s %10s %7.2fx\n", what, ours.Round(10*time.Microsecond), theirs.Round(10*time.Microsecond), float64(theirs)/float64(ours))
		}
	}
	fmt.Printf("%-28s %7d MB %7d MB\n", "most memory of an import", peaks["shale"], peaks["peer"])
	return nil
}

var order = []string{"import .tar", "import .gz", "import .zst", "diff", "create, mount, unmount, delete", "delete"}

// once imports an archive with a tool in a new store on a new file system, and if it is the plain one, measures
// there too what comes after an import.
func once(ctx context.Context, dir string, tool harness.Tool, archive string, all times, peaks map[string]int64) error {
	place, err := os.MkdirTemp(dir, "fs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(place)
	loop, err := testutil.OpenLoop(place, "ext4", 4096)
	if err != nil {
		return err
	}
	defer loop.Close()
	if _, err := harness.FileDigest(archive); err != nil { // in the page cache from here on
		return err
	}
	root := harness.NewRoot(loop.Dir)
	timed := func(what string, commands ...[]string) error {
		var took time.Duration
		for _, args := range commands {
			cmd := root.Command(ctx, tool, args...)
			begun := time.Now()
			out, err := cmd.CombinedOutput()
			took += time.Since(begun)
			if err != nil {
				return fmt.Errorf("%s %v: %w: %s", tool.Name, args, err, out)
			}
			if args[0] == "import-layer" {
				peaks[tool.Name] = max(peaks[tool.Name], cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10)
			}
		}
		if all[what] == nil {
			all[what] = map[string][]time.Duration{}
		}
		all[what][tool.Name] = append(all[what][tool.Name], took)
		return nil
	}
	if _, err := root.Do(ctx, tool, "create-layer", "-i", "before"); err != nil { // the store's beginnings
		return err
	}
	if err := timed("import "+filepath.Ext(archive), []string{"import-layer", "-i", "layer", "-f", archive}); err != nil {
		return err
	}
	if filepath.Ext(archive) != ".tar" {
		return nil
	}
	if err := timed("diff", []string{"diff", "-u", "-f", "/dev/null", "layer"}); err != nil {
		return err
	}
	err = timed("create, mount, unmount, delete", []string{"create-layer", "-i", "child", "layer"},
		[]string{"mount", "child"}, []string{"unmount", "child"}, []string{"delete-layer", "child"})
	if err != nil {
		return err
	}
	return timed("delete", []string{"delete-layer", "layer"})
}

func median(values []time.Duration) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
