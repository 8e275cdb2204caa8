package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// childArg as first argument makes this program do one task and report.
const childArg = "do-task"

// input tells a task what to do. Which fields count depends on the task.
type input struct {
	Dir          string   // where the contestant keeps everything
	Archive      string   // a layer's tar
	Unsynced     bool     // turns our durability off
	Archives     []string // those of an image, the lowest first
	Top          string   // the layer stacked on the large one
	MountOptions []string // what overlayfs mounts that with
	Count        int      // layers of a store, depth of a chain, number of a container
	Times        int      // how often to repeat
	Untimed      bool     // leave the clock alone, which has calls of its own
	Chown        bool     // owners are translated on disk, not while mounting
}

// output is what a task reports.
type output struct {
	// Seconds has a list for everything the task timed, one value for each repetition.
	Seconds map[string][]float64 `json:"seconds,omitempty"`
	// CPU has the processor time of each, that of children who have ended by then
	// included.
	CPU map[string][]float64 `json:"cpu,omitempty"`
	// Tree is where the task put a layer's files, for comparing.
	Tree string `json:"tree,omitempty"`
	// Mallocs is how many objects the Go heap gave out while the clock ran.
	Mallocs uint64 `json:"mallocs,omitempty"`
	// Written is how many bytes went to write(2) and its like while the clock ran.
	Written int64 `json:"written,omitempty"`

	// PeakKiB is the most memory that the process had. What wait4(2) says of a child
	// begins with what its parent had when it started it (setmax_mm_hiwater_rss in the
	// kernel's exec), so the child looks itself.
	PeakKiB int64 `json:"peakKiB"`
}

// task is one contestant at one piece of work. It does what isn't to be timed before or
// after calling the stopwatch.
type task func(ctx context.Context, in input, watch *stopwatch) (output, error)

// tasks finds a task by "work/contestant".
func tasks() map[string]task {
	all := map[string]task{}
	for _, part := range []map[string]task{shaleTasks(), peerTasks(), containerdTasks(), tarTasks(), kernelTasks(),
		concurrencyTasks(), mappedTasks()} {
		for name, t := range part {
			all[name] = t
		}
	}
	return all
}

// stopwatch measures stretches of a task.
type stopwatch struct {
	seconds map[string][]float64
	cpu     map[string][]float64
	mallocs uint64
	written int64
}

// time runs f and notes how long it took.
func (w *stopwatch) time(what string, f func() error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	bytesBefore := written()
	cpuBefore, begun := cpuTime(), time.Now()
	err := f()
	w.seconds[what] = append(w.seconds[what], time.Since(begun).Seconds())
	w.cpu[what] = append(w.cpu[what], (cpuTime() - cpuBefore).Seconds())
	w.written += written() - bytesBefore
	runtime.ReadMemStats(&after)
	w.mallocs += after.Mallocs - before.Mallocs
	return err
}

func newStopwatch() *stopwatch {
	return &stopwatch{seconds: map[string][]float64{}, cpu: map[string][]float64{}}
}

// cpuTime is the processor time that this process and its children who have ended took.
func cpuTime() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if syscall.Getrusage(who, &usage) == nil {
			total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	return total
}

// written is how many bytes this process has handed to the kernel.
func written() int64 { return procNumber("/proc/self/io", "wchar") }

// procNumber reads a number from a file of proc(5) with a name and a number a line; 0
// where there is none of that name.
func procNumber(path, name string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var n int64
		if _, err := fmt.Sscanf(line, name+": %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// serve is the child: its task is the second argument, its input the third, its output
// goes to standard output.
func serve(ctx context.Context) error {
	name, in := os.Args[2], input{}
	if err := json.Unmarshal([]byte(os.Args[3]), &in); err != nil {
		return err
	}
	do := tasks()[name]
	if do == nil {
		return fmt.Errorf("no task %s", name)
	}
	watch := newStopwatch()
	out, err := do(ctx, in, watch)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	out.PeakKiB = procNumber("/proc/self/status", "VmHWM")
	out.Seconds, out.CPU, out.Mallocs, out.Written = watch.seconds, watch.cpu, watch.mallocs, watch.written
	return json.NewEncoder(os.Stdout).Encode(out)
}

// perform runs a task in a process of its own, behind the words of a wrapper such as
// strace.
func perform(ctx context.Context, name string, in input, wrapper ...string) (output, error) {
	var out output
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	arg, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	words := append(wrapper, self, childArg, name, string(arg))
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var answer, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &answer, &complaint
	cmd.Env = environment(name)
	if err := cmd.Run(); err != nil {
		return out, fmt.Errorf("%s: %w: %s", name, err, lastLines(complaint.String()))
	}
	if err := json.Unmarshal(answer.Bytes(), &out); err != nil {
		return out, fmt.Errorf("%s answered %q: %w", name, answer.String(), err)
	}
	return out, nil
}

// environment is what a contestant finds. containers/storage is a sixth slower with an
// external pigz than without, so it doesn't find one.
func environment(task string) []string {
	env := os.Environ()
	if strings.HasSuffix(task, "/storage") {
		env = append(env, "PATH=/nonexistent")
	}
	return env
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
