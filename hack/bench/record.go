package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// record is a run as performance.json keeps it for machines, with what it ran on.
type record struct {
	Date, Kernel, Go string
	CPUs             int
	Command          []string
	Again            []string `json:",omitempty"` // what was measured again, when and with which command
	Rows             []*row
	Counts           map[string]float64
}

const recordFile = "performance.json"

// newRecord is of what was measured just now.
func newRecord(r *results) (*record, error) {
	kernel, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return nil, err
	}
	return &record{Date: time.Now().UTC().Format(time.DateOnly), Kernel: strings.TrimSpace(string(kernel)),
		Go:   runtime.Version(),
		CPUs: runtime.NumCPU(), Command: os.Args[1:], Rows: r.rows, Counts: r.Counts}, nil
}

// on puts the parts that were measured just now into the record of a whole run in dir,
// which must have been made on the same kind of machine.
func (r *record) on(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	var whole record
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, fmt.Errorf("%s: %w", recordFile, err)
	}
	if whole.Kernel != r.Kernel || whole.Go != r.Go || whole.CPUs != r.CPUs {
		return nil,
			fmt.Errorf(
				"%s is of %s, %d processors and %s, this run of %s, %d processors and %s: measure everything again",
				recordFile, whole.Kernel, whole.CPUs, whole.Go, r.Kernel, r.CPUs, r.Go)
	}
	for _, now := range r.Rows {
		if i := slices.IndexFunc(whole.Rows, func(old *row) bool { return old.Name == now.Name }); i >= 0 {
			whole.Rows[i] = now
		} else {
			whole.Rows = append(whole.Rows, now)
		}
	}
	if len(r.Counts) > 0 {
		whole.Counts = r.Counts
	}
	whole.Again = append(whole.Again, fmt.Sprintf("on %s with `%s`", r.Date, command(r.Command)))
	return &whole, nil
}

func (r *record) results() *results { return &results{rows: r.Rows, Counts: r.Counts} }

// setting says when, where and how the numbers came about.
func (r *record) setting() string {
	again := ""
	for _, part := range r.Again {
		again += "; a part again " + part
	}
	return fmt.Sprintf(
		"Measured on %s with `%s`: %s, %d processors (%s), %s, ext4 with a journal on a loop device%s.\n",
		r.Date, command(r.Command), r.Kernel, r.CPUs, processor(), r.Go, again)
}

func command(args []string) string { return strings.TrimSpace("bench " + strings.Join(args, " ")) }

func (r *record) write(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
