package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results holds every number of a run: rows in the order they came, for each contestant its values.
type results struct {
	rows []*row
}

// row is one thing measured. Values are seconds; Memory is the highest peak in KiB.
type row struct {
	Name   string               `json:"name"`
	Values map[string][]float64 `json:"seconds"`
	Memory map[string]int64     `json:"peakKiB,omitempty"`
}

func (r *results) row(name string) *row {
	for _, row := range r.rows {
		if row.Name == name {
			return row
		}
	}
	r.rows = append(r.rows, &row{Name: name, Values: map[string][]float64{}, Memory: map[string]int64{}})
	return r.rows[len(r.rows)-1]
}

func (r *results) add(name, contestant string, seconds float64) {
	row := r.row(name)
	row.Values[contestant] = append(row.Values[contestant], seconds)
}

func (r *results) addMemory(name, contestant string, kib int64) {
	row := r.row(name)
	row.Memory[contestant] = max(row.Memory[contestant], kib)
}

// median is NaN for a contestant that took no part.
func (r *row) median(contestant string) float64 {
	values := slices.Sorted(slices.Values(r.Values[contestant]))
	if len(values) == 0 {
		return math.NaN()
	}
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// ratio says how many times as long as Shale a contestant took.
func (r *row) ratio(contestant string) float64 { return r.median(contestant) / r.median("shale") }

var rivals = []string{"storage", "containerd", "tar", "kernel"}

// print writes the table: our time, then what the others took as a multiple of it. More than 1 means that we are faster.
func (r *results) print(w io.Writer) {
	fmt.Fprintf(w, "\n%-44s %12s", "median; others as a multiple of shale", "shale")
	for _, name := range rivals {
		fmt.Fprintf(w, " %10s", name)
	}
	fmt.Fprintf(w, " %9s\n", "peak MB")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%-44s %12s", row.Name, duration(row.median("shale")))
		for _, name := range rivals {
			fmt.Fprintf(w, " %10s", multiple(row.ratio(name)))
		}
		if kib := row.Memory["shale"]; kib > 0 {
			fmt.Fprintf(w, " %9d", kib>>10)
		}
		fmt.Fprintln(w)
	}
	for _, ext := range []string{".tar", ".tar.gz", ".tar.zst"} {
		fmt.Fprintf(w, "%-44s %12s", "geometric mean, apply "+ext, "")
		for _, name := range rivals {
			fmt.Fprintf(w, " %10s", multiple(r.geomean(ext, name)))
		}
		fmt.Fprintln(w)
	}
}

// geomean is the mean ratio over the layers in one compression.
func (r *results) geomean(ext, contestant string) float64 {
	sum, n := 0.0, 0
	for _, row := range r.rows {
		if ratio := row.ratio(contestant); strings.HasPrefix(row.Name, "apply ") && strings.HasSuffix(row.Name, ext) && !math.IsNaN(ratio) {
			sum, n = sum+math.Log(ratio), n+1
		}
	}
	return math.Exp(sum / float64(n)) // NaN for none
}

func multiple(ratio float64) string {
	if math.IsNaN(ratio) {
		return ""
	}
	return fmt.Sprintf("%.2fx", ratio)
}

func duration(seconds float64) string {
	if math.IsNaN(seconds) {
		return ""
	}
	d := time.Duration(seconds * float64(time.Second))
	if d > time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// writeJSON keeps the run for machines, with what it ran on.
func (r *results) writeJSON(path string) error {
	kernel, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(struct {
		Date, Kernel, Go string
		CPUs             int
		Command          []string
		Rows             []*row
	}{time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(kernel)), runtime.Version(), runtime.NumCPU(), os.Args[1:], r.rows}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
