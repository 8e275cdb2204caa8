package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// goal is a promise about speed or cost. Measured by found, it is to be at least must, or
// at most where less is better; aim is what we want it to be.
type goal struct {
	what      string
	must, aim float64 // NaN for none
	less      bool
	unit      string
	found     func(r *results) float64 // NaN when it was not measured
}

const none = -1

// goals are those of docs/performance.md. Ratios are others' time by ours unless they say
// otherwise.
func goals() []goal {
	ratio := func(row, contestant string) func(*results) float64 {
		return func(r *results) float64 { return r.row(row).ratio(contestant) }
	}
	milliseconds := func(row string) func(*results) float64 {
		return func(r *results) float64 { return r.row(row).median("shale") * 1000 }
	}
	count := func(name string) func(*results) float64 {
		return func(r *results) float64 {
			if n, ok := r.Counts[name]; ok {
				return n
			}
			return math.NaN()
		}
	}
	geomean := func(ext, contestant string) func(*results) float64 {
		return func(r *results) float64 { return r.geomean(ext, contestant) }
	}
	slowest := func(ext string, contestants ...string) func(*results) float64 {
		return func(r *results) float64 { return r.slowest(ext, contestants...) }
	}
	const cycleRow, commitRow = "cycle of a layer, store of ", "commit 10 files on node"
	image := fmt.Sprintf("image of %d layers", imageLayers)
	return []goal{
		{"apply .tar.zst, containerd's geometric mean by ours", 1.8, 3, false, "x", geomean(".tar.zst", "containerd")},
		{"apply .tar.zst, containers/storage's by ours", 2.5, 4, false, "x", geomean(".tar.zst", "storage")},
		{"apply .tar.gz, containerd's by ours (with igzip)", 1.6, 2.5, false, "x", geomean(".tar.gz", "containerd")},
		{"apply .tar.gz, containers/storage's by ours", 2, 3, false, "x", geomean(".tar.gz", "storage")},
		{"apply .tar.gz, the worst layer, the better peer's by ours", 1, none, false, "x",
			slowest(".tar.gz", "storage", "containerd")},
		{"apply .tar.gz, the worst layer, GNU tar's with igzip by ours", none, 1, false, "x",
			slowest(".tar.gz", "tar")},
		{"apply .tar, ours by the kernel's limit, geometric mean", 1.5, 1.2, true, "x",
			func(r *results) float64 { return 1 / r.geomean(".tar", "kernel") }},
		{"apply, synced, against the better peer's without, all layers", 1.5, 2, false, "x",
			func(r *results) float64 { return r.geomean("", "storage", "containerd") }},
		{"apply, system calls an entry", 8, 5, true, "", count(gateCalls)},
		{"apply, peak memory", 96, 64, true, "MB", func(r *results) float64 { return r.peak() }},
		{"diff of node with sha256, containers/storage's by ours", 2, 2.5, false, "x", ratio("diff node", "storage")},
		{"diff of node with sha256, GNU tar's by ours", none, 1.7, false, "x", ratio("diff node", "tar")},
		{"commit of 10 files on node, a walking differ's (containerd's) by ours", 500, none, false, "x",
			ratio(commitRow, "containerd")},
		{"commit of 10 files on node", none, 2, true, "ms", milliseconds(commitRow)},
		{"commit, metacopy and redirect_dir, containers/storage's naive differ's by ours", 500, none, false, "x",
			ratio(commitRow+changedLayers()[1].about, "storage")},
		{"commit, metacopy and redirect_dir", none, 2, true, "ms", milliseconds(commitRow + changedLayers()[1].about)},
		{"delete of node, until the caller returns", 50, 5, true, "ms",
			milliseconds("delete node, to the caller's return")},
		{"delete of node, in all, the better peer's by ours", 1, 1.4, false, "x",
			func(r *results) float64 { return r.row("delete node").better() }},
		{image + ", one after another by side by side", 1.3, 1.6, false, "x", func(r *results) float64 {
			return r.row(image+", one after another").median("shale") / r.row(image).median("shale")
		}},
		{"writable layer's cycles a second in a store of 5,000", 100, 250, false, "",
			func(r *results) float64 { return 1 / r.row(cycleRow+"5000").median("shale") }},
		{"writable layer's cycle, in a store of 5,000 by in a store of 1", none, 1.3, true, "x",
			func(r *results) float64 {
				return r.row(cycleRow+"5000").median("shale") / r.row(cycleRow+"1").median("shale")
			}},
		{"container's cycle, syncs", 6, 4, true, "", count(gateSyncs("container"))},
		{"container's cycle, system calls", 230, 100, true, "", count(gateCycleCalls("container"))},
		{"volatile container's cycle, syncs", 0, 0, true, "", count(gateSyncs("volatile"))},
		{"mounts while another process imports, their 99th percentile by that of idle ones", 2, none, true, "x",
			func(r *results) float64 {
				return r.row(rowBusyMounts).median("shale") / r.row(rowIdleMounts).median("shale")
			}},
		{"eight imports of the same layer by one import", none, none, true, "x", func(r *results) float64 {
			return r.row(rowSameLayer).median("shale") / (r.row(rowImportsAlone).median("shale") / 8)
		}},
		{"mount on 400 lowers, containers/storage's by ours", 15, none, false, "x",
			ratio("mount on 400 lowers", "storage")},
		{"mount on 400 lowers, ours by a bare fsopen loop", none, 1.1, true, "x",
			func(r *results) float64 { return 1 / r.row("mount on 400 lowers").ratio("kernel") }},
		{"cold process: open and get one of 5,000, containers/storage's by ours", 5, none, false, "x",
			ratio("open and get one of 5000", "storage")},
		{"cold process: open and get one of 5,000", none, 2, true, "ms", milliseconds("open and get one of 5000")},
	}
}

// verdict says how far a goal is reached.
func (g goal) verdict(found float64) string {
	reached := func(bound float64) bool { return g.less && found <= bound || !g.less && found >= bound }
	switch {
	case math.IsNaN(found):
		return "not measured"
	case g.aim != none && reached(g.aim):
		return "aim reached"
	case g.must != none && !reached(g.must):
		return "**missed**"
	case g.aim != none:
		return "short of the aim"
	}
	return "met"
}

// printGoals writes the goals as a table in Markdown.
func (r *results) printGoals(w io.Writer) {
	fmt.Fprintln(w, "| what | must | aim | found | |\n|---|--:|--:|--:|---|")
	for _, g := range goals() {
		found := g.found(r)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", g.what, g.value(g.must), g.value(g.aim), g.value(found),
			g.verdict(found))
	}
}

func (g goal) value(v float64) string {
	if v == none || math.IsNaN(v) {
		return ""
	}
	text := fmt.Sprintf("%.3g", v)
	if v >= 1000 {
		text = fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSpace(text + " " + g.unit)
}
