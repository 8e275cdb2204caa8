package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// results holds every number of a run: rows in the order they came, for each contestant
// its values.
type results struct {
	rows []*row
	// Counts are what the gates counted, by their names.
	Counts map[string]float64
}

// row is one thing measured. Values are seconds; Memory is the highest peak in KiB.
type row struct {
	Name   string               `json:"name"`
	Values map[string][]float64 `json:"seconds"`
	CPU    map[string][]float64 `json:"cpuSeconds"`
	Memory map[string]int64     `json:"peakKiB,omitempty"`
}

// row finds a row; one without values when there is none of that name.
func (r *results) row(name string) *row {
	for _, row := range r.rows {
		if row.Name == name {
			return row
		}
	}
	return &row{Name: name, Values: map[string][]float64{}, CPU: map[string][]float64{}, Memory: map[string]int64{}}
}

// rowToFill is row for who will put something into it.
func (r *results) rowToFill(name string) *row {
	row := r.row(name)
	if !slices.Contains(r.rows, row) {
		r.rows = append(r.rows, row)
	}
	return row
}

func (r *results) add(name, contestant string, seconds float64) {
	row := r.rowToFill(name)
	row.Values[contestant] = append(row.Values[contestant], seconds)
}

func (r *results) addCPU(name, contestant string, seconds []float64) {
	if len(seconds) == 0 {
		return
	}
	row := r.rowToFill(name)
	row.CPU[contestant] = append(row.CPU[contestant], seconds...)
}

func (r *results) addMemory(name, contestant string, kib int64) {
	row := r.rowToFill(name)
	row.Memory[contestant] = max(row.Memory[contestant], kib)
}

// median is NaN for a contestant that took no part.
func (r *row) median(contestant string) float64 { return median(r.Values[contestant]) }

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
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

// print writes the table: our time, then what the others took as a multiple of it. More
// than 1 means that we are faster.
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
		if len(r.applyRatios(ext, rivals)) == 0 {
			continue
		}
		fmt.Fprintf(w, "%-44s %12s", "geometric mean, apply "+ext, "")
		for _, name := range rivals {
			fmt.Fprintf(w, " %10s", multiple(r.geomean(ext, name)))
		}
		fmt.Fprintln(w)
	}
}

// geomean is the mean ratio, over the layers in one compression ("" for all), of the best
// of some contestants.
func (r *results) geomean(ext string, contestants ...string) float64 {
	sum, n := 0.0, 0
	for _, ratio := range r.applyRatios(ext, contestants) {
		sum, n = sum+math.Log(ratio), n+1
	}
	return math.Exp(sum / float64(n)) // NaN for none
}

// slowest is the least ratio of those.
func (r *results) slowest(ext string, contestants ...string) float64 {
	ratios := r.applyRatios(ext, contestants)
	if len(ratios) == 0 {
		return math.NaN()
	}
	return slices.Min(ratios)
}

func (r *results) applyRatios(ext string, contestants []string) (ratios []float64) {
	for _, row := range r.rows {
		if !strings.HasPrefix(row.Name, "apply ") || !strings.HasSuffix(row.Name, ext) {
			continue
		}
		if best := row.best(contestants...); !math.IsNaN(best) {
			ratios = append(ratios, best)
		}
	}
	return ratios
}

// best is the ratio of the fastest of some contestants; NaN if none took part.
func (r *row) best(contestants ...string) float64 {
	best := math.NaN()
	for _, name := range contestants {
		if ratio := r.ratio(name); math.IsNaN(best) || ratio < best {
			best = ratio
		}
	}
	return best
}

// better is the ratio of the faster peer.
func (r *row) better() float64 { return r.best("storage", "containerd") }

// peak is the most memory that any apply of ours took, in MB; NaN if there was none.
func (r *results) peak() float64 {
	most := math.NaN()
	for _, row := range r.rows {
		if kib := row.Memory["shale"]; kib > 0 && !(most > float64(kib)/1024) {
			most = float64(kib) / 1024
		}
	}
	return most
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
