// Test runs `go test` with the arguments it is given and says what a person wants to
// know: a line for each package, the whole output of what failed, and at the end what was
// skipped for want of what.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// event is one of `go test -json`, see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type test struct{ pkg, name string }

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
		os.Exit(1)
	}
	r := report{output: map[test][]string{}, skips: map[string]int{}, counts: map[string]int{}}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // not an event: the go command itself speaks
			continue
		}
		r.take(e)
	}
	if lines.Err() != nil {
		fmt.Fprintln(os.Stderr, "test:", lines.Err())
	}
	failed := cmd.Wait() != nil
	r.close()
	if failed {
		os.Exit(1)
	}
}

type report struct {
	output map[test][]string
	skips  map[string]int // by reason
	counts map[string]int // by action
}

func (r *report) take(e event) {
	id := test{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			fmt.Print(e.Output)
		}
		r.output[id] = append(r.output[id], e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test != "" {
		r.counts[e.Action]++
		if e.Action == "skip" {
			r.skips[reason(r.output[id])]++
		}
		if e.Action == "fail" {
			fmt.Printf("\n%s\n%s\n", e.Package, strings.Join(r.output[id], ""))
		}
		delete(r.output, id)
		return
	}
	switch e.Action {
	case "pass":
		fmt.Printf("ok    %-60s %6.1f s\n", e.Package, e.Elapsed)
	case "fail":
		fmt.Printf("FAIL  %-60s %6.1f s\n%s", e.Package, e.Elapsed, strings.Join(r.output[id], ""))
		// A package that panicked, or was ended, has tests without an end: theirs is what
		// explains it.
		for other, text := range r.output {
			if other.pkg == e.Package && other.name != "" {
				fmt.Printf("\n%s did not end:\n%s\n", other.name, strings.Join(text, ""))
			}
		}
	}
}

var position = regexp.MustCompile(`^\s+\S+\.go:\d+: `)

// reason is the last message of a skipped test.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if position.MatchString(line) {
			return strings.TrimSpace(position.ReplaceAllString(line, ""))
		}
	}
	return "no reason given"
}

func (r *report) close() {
	if len(r.skips) > 0 {
		fmt.Println("\nSkipped:")
		for _, reason := range slices.Sorted(maps.Keys(r.skips)) {
			fmt.Printf("%5d  %s\n", r.skips[reason], reason)
		}
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", r.counts["pass"], r.counts["fail"], r.counts["skip"])
}
