package promises_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// The commands, with what their words stand for: LAYER, IMAGE, CONTAINER and ANY are one
// that may be there, FILE and DIR a path outside.
var (
	harmless = []string{
		"layers", "layers --tree", "layer LAYER", "images", "image IMAGE", "images-by-digest DIGEST", "containers",
		"container CONTAINER", "changes LAYER", "diff --uncompressed LAYER", "diffsize LAYER", "mount CONTAINER",
		"mount LAYER", "mount --read-only IMAGE", "unmount LAYER", "unmount CONTAINER", "mounted LAYER",
		"layer-parent-owners LAYER", "container-parent-owners CONTAINER", "list-layer-data LAYER",
		"get-layer-data LAYER key", "list-image-data IMAGE", "get-image-data IMAGE manifest",
		"get-image-data-size IMAGE note", "get-image-data-digest IMAGE note", "get-image-dir IMAGE",
		"get-image-run-dir IMAGE", "list-container-data CONTAINER", "get-container-data CONTAINER key",
		"get-container-data-size CONTAINER key", "get-container-data-digest CONTAINER key",
		"get-container-dir CONTAINER", "get-container-run-dir CONTAINER", "exists ANY", "get-names ANY", "metadata ANY",
		"status", "config", "usage", "check", "check --quick", "check --repair", "check --repair", "gc", "gc --dry-run",
		"dedup", "storage-layers", "delete-image --dry-run IMAGE", "shutdown", "version", "import-layer --file TAR",
		"create-layer", "create-container IMAGE", "create-image LAYER",
		"storage layers", "storage layer LAYER", "storage images", "storage image IMAGE", "storage containers",
		"storage container CONTAINER", "storage changes LAYER", "storage diff -u LAYER", "storage diffsize LAYER",
		"storage mount LAYER", "storage unmount LAYER", "storage mounted LAYER",
		"storage get-image-data IMAGE manifest",
		"storage exists ANY", "storage get-names ANY", "storage metadata ANY", "storage status", "storage config",
		"storage check", "storage check -r", "storage gc", "storage dedup", "storage storage-layers",
		"storage delete-image -t IMAGE", "storage shutdown", "storage version", "storage layer-parent-owners LAYER",
	}
	changing = []string{
		"delete-layer LAYER", "delete-layer --force LAYER", "delete-image IMAGE", "delete-container CONTAINER",
		"delete-container --force CONTAINER", "delete ANY", "delete --force ANY", "check --force", "gc",
		"apply-diff --file TAR LAYER", "cp FILE LAYER:/copied", "cp LAYER:/etc DIR",
		"set-layer-data --file FILE LAYER k",
		"set-image-data --file FILE IMAGE k", "set-container-data --file FILE CONTAINER k", "add-names --name new ANY",
		"remove-names --name img:1 ANY", "set-names --name other ANY", "set-metadata --metadata m ANY",
		"create-storage-layer", "import-layer --file TAR --name imported LAYER", "create-layer --name made LAYER",
		"create-image --name fresh LAYER", "create-container --name c2 IMAGE", "mount LAYER",
		"storage delete-layer LAYER", "storage delete-image IMAGE", "storage delete-container CONTAINER",
		"storage delete ANY", "storage check -f", "storage check -r -m 0", "storage copy FILE LAYER:/copied",
		"storage apply-diff --file TAR LAYER", "storage create-layer LAYER", "storage create-image LAYER",
		"storage create-container IMAGE", "storage set-names -n other ANY", "storage set-metadata -m m ANY",
		"storage create-storage-layer", "storage set-image-data -f FILE IMAGE manifest",
	}
)

func (w *world) word(word string) string {
	of := func(words ...string) string { return id(pick(w.rng, words)) }
	switch word {
	case "LAYER":
		return of("base", "mid", "alone", "work", "boxlayer", "lib")
	case "IMAGE":
		return of("img", "img2", "libimage")
	case "CONTAINER":
		return of("box", "idle")
	case "ANY":
		return of("base", "mid", "alone", "work", "img", "img2", "box", "idle")
	case "DIGEST":
		return "sha256:" + strings.Repeat("0", 64)
	case "FILE":
		return filepath.Join(w.outside, "file")
	case "DIR":
		return filepath.Join(w.dir, "copies")
	case "TAR":
		return filepath.Join(w.dir, "layer.tar")
	}
	if ref, path, found := strings.Cut(word, ":"); found && ref == "LAYER" {
		return w.word(ref) + ":" + path
	}
	return word
}

// runOne runs a command of the lists above. It notes in mounted what it has mounted.
func (w *world) runOne(template string, mounted map[string]bool) {
	w.t.Helper()
	var args []string
	for _, word := range strings.Fields(template) {
		args = append(args, w.word(word))
	}
	name := args[0]
	if name == "storage" {
		name += " " + args[1]
	}
	got := w.run(name, args...)
	if mounted != nil && strings.HasSuffix(name, "mount") && got.status == 0 {
		mounted[args[len(args)-1]] = true
	}
}

type result struct {
	status         int
	stdout, stderr string
}

// run runs a command, and sees that it ends by itself and leaves alone what is outside.
func (w *world) run(name string, args ...string) result {
	w.t.Helper()
	w.commands[name]++
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var flags []string
	at := 0
	if args[0] == "storage" {
		at = 1
	}
	flags = append(flags, args[:at]...)
	flags = append(flags, "--graph", w.cfg.GraphRoot, "--run", w.cfg.RunRoot, "--storage-driver", w.cfg.Driver)
	for _, other := range w.cfg.AdditionalImageStores {
		flags = append(flags, "--storage-opt", "additionalimagestore="+other)
	}
	cmd := exec.CommandContext(ctx, w.shale, append(flags, args[at:]...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		w.t.Fatal(err)
	}
	got := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	w.log = append(w.log, strings.Join(args, " ")+": "+got.summary())
	switch {
	case ctx.Err() != nil:
		w.fail("%s hangs: %.3000s", name, got.stderr)
	case got.status < 0 || strings.Contains(got.stderr, "goroutine ") || strings.Contains(got.stderr, "panic:"):
		w.fail("%s died: %.3000s", name, got.stderr)
	case got.status != 0 && got.stderr == "" && !strings.Contains(name, "exists") && !strings.Contains(name, "check"):
		w.fail("%s: exit status %d, and not a word", name, got.status)
	case strings.Contains(got.stdout+got.stderr, "secret"):
		w.fail("%s shows what is outside: %.300s", name, got.stdout+got.stderr)
	}
	w.outsideStays(strings.Join(args, " "))
	return got
}

func (r result) summary() string {
	text := strings.TrimSpace(r.stderr)
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return strings.TrimSpace(strings.Join([]string{"exit status", string(rune('0' + r.status%10)), text}, " "))
}

// view is what check prints as JSON.
type view struct {
	Findings, Left []finding
}

type finding struct {
	Kind, ID, What, Path, Remedy string
}

// repairedIsSound repairs, and sees that check then finds nothing but what repair has
// named as left.
func (w *world) repairedIsSound() {
	w.t.Helper()
	var left view
	var repair result
	for range 2 { // what was moved aside may show more
		repair = w.run("check --repair", "check", "--repair", "--json")
		left = view{}
		if repair.stdout != "" {
			w.must(json.Unmarshal([]byte(repair.stdout), &left))
		}
	}
	named := repair.stderr
	for _, f := range left.Left {
		named += "\n" + f.Kind + " " + f.ID + " " + f.Path
	}
	if repair.status == 0 && len(left.Left) > 0 {
		w.fail("repair succeeds, and leaves %v", left.Left)
	}
	check := w.run("check", "check", "--json")
	var found view
	if check.stdout == "" {
		if check.status == 0 || repair.status == 0 {
			w.fail("check: %d %s, after a repair: %d %s", check.status, check.stderr, repair.status, repair.stderr)
		}
		return
	}
	w.must(json.Unmarshal([]byte(check.stdout), &found))
	for _, f := range found.Findings {
		if repair.status == 0 || !strings.Contains(named, f.ID) {
			w.fail("after a repair (%d, %s) check finds %+v", repair.status, named, f)
		}
	}
}
