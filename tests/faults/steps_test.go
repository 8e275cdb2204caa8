package faults

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/harness"
	"golang.org/x/sys/unix"
)

// command is one whose every change is faulted.
type command struct {
	name    string
	prepare func(t testing.TB, b *bench) // on the store with one of everything; nil for nothing
	args    []string
}

var commands = []command{
	{"import", nil, []string{"import-layer", "-i", id('7'), "-n", "new", "-f", "TAR", base}},
	{"apply", func(t testing.TB, b *bench) { b.must(t, "create-layer", "-i", id('8'), base) },
		[]string{"apply-diff", "-f", "TAR", id('8')}},
	{"create image", nil, []string{"create-image", "-i", id('9'), "-n", "second", top}},
	{"create container", nil, []string{"create-container", "-i", id('a'), "-n", "another", image}},
	{"add a name", nil, []string{"add-names", "-n", "more", image}},
	{"mount", nil, []string{"mount", box}},
	{"unmount", func(t testing.TB, b *bench) { b.must(t, "mount", box) }, []string{"unmount", box}},
	{"delete container", nil, []string{"delete-container", box}},
	{"delete mounted container", func(t testing.TB, b *bench) { b.must(t, "mount", box) },
		[]string{"delete-container", box}},
	{"delete layer", func(t testing.TB, b *bench) { b.must(t, "create-layer", "-i", id('8'), base) },
		[]string{"delete-layer", id('8')}},
	{"delete image", func(t testing.TB, b *bench) { b.must(t, "delete-container", box) },
		[]string{"delete-image", image}},
	{"gc", func(t testing.TB, b *bench) {
		testutil.Tree(t, b.cfg.GraphRoot, "overlay/"+id('6')+"/diff/d/f=x", "overlay-layers/.tmp-layers.json7=x",
			"overlay-images/"+id('5')+"/item=x")
	}, []string{"gc"}},
	{"repair", func(t testing.TB, b *bench) {
		// Nothing keeps this one from being deleted, and no other has its content.
		b.must(t, "import-layer", "-i", id('8'), "-f", b.lone)
		must(t, errors.Join(os.Remove(b.cfg.GraphRoot+"/overlay/"+top+"/link"),
			os.Chmod(b.cfg.GraphRoot+"/overlay/"+id('8')+"/diff/etc/motd", 0o600)))
	}, []string{"check", "-r"}},
}

// chosen are those whose name SHALE_COMMANDS has in it, or all.
func chosen() (some []command) {
	for _, c := range commands {
		if strings.Contains(c.name, os.Getenv("SHALE_COMMANDS")) {
			some = append(some, c)
		}
	}
	return some
}

func id(digit byte) string { return strings.Repeat(string(digit), 64) }

// bench is a store that one command after the other is tried on, each time from the same
// beginning.
type bench struct {
	*victim
	root harness.Root
	tool harness.Tool
	tar  string
	lone string // another
}

func newBench(t testing.TB) *bench {
	b := &bench{victim: newVictim(t), tool: harness.Shale(t)}
	b.tar = filepath.Join(b.dir, "layer.tar")
	must(t, os.WriteFile(b.tar, smallTar(t, "hosts"), 0o600))
	b.lone = filepath.Join(b.dir, "lone.tar")
	must(t, os.WriteFile(b.lone, smallTar(t, "guest"), 0o600))
	b.root = harness.Root{Graph: b.cfg.GraphRoot, Run: b.cfg.RunRoot, Options: []string{"overlay.skip_mount_home=true"}}
	return b
}

func (b *bench) must(t testing.TB, args ...string) { b.root.Must(t, b.tool, args...) }

// begin puts the store at the beginning of a command.
func (b *bench) begin(t testing.TB, c command) {
	t.Helper()
	must(t, testutil.UnmountBelow(b.dir+"/store"))
	must(t, os.RemoveAll(b.dir+"/store"))
	must(t, exec.Command("cp", "-a", b.dir+"/pristine", b.dir+"/store").Run())
	if c.prepare != nil {
		c.prepare(t, b)
	}
}

// do runs the command with a fault.
func (b *bench) do(t testing.TB, c command, f fault) outcome {
	t.Helper()
	args := slices.Clone(c.args)
	for i, arg := range args {
		if arg == "TAR" {
			args[i] = b.tar
		}
	}
	return run(t, b.root.Command(t.Context(), b.tool, args...), b.dir+"/store", f)
}

// state is all that the store lists, a line for each record. Layers of containers have
// random IDs, and are told by what they stand on.
func (b *bench) state(t testing.TB) []string {
	t.Helper()
	var lines []string
	s, err := store.Open(t.Context(), b.cfg)
	if err == nil {
		err = errors.Join(s.View(t.Context(), func(tx *store.ReadTx) error {
			layers, err := tx.Layers()
			images, err2 := tx.Images()
			containers, err3 := tx.Containers()
			of := map[string]string{}
			for _, c := range containers {
				of[c.LayerID] = "layer of " + c.ID
				lines = append(lines, fmt.Sprint("container ", c.ID, c.Names, c.ImageID))
			}
			for _, l := range layers {
				lines = append(lines, fmt.Sprint("layer ", cmpOr(of[l.ID], l.ID), l.Names, l.Parent, l.DiffID,
					l.BigDataNames))
			}
			for _, i := range images {
				lines = append(lines, fmt.Sprint("image ", i.ID, i.Names, i.TopLayer, i.BigDataNames))
			}
			return errors.Join(err, err2, err3)
		}), s.Close())
	}
	must(t, err)
	slices.Sort(lines)
	return lines
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// settled is what must hold after whatever has happened to a command: the store opens,
// what is listed is what was there before or after, nothing that has been there both
// times is lost, check finds garbage at most, and after gc nothing.
func (b *bench) settled(t testing.TB, c command, before, after []string, o outcome) error {
	t.Helper()
	now := b.state(t)
	for _, line := range now {
		// A container's layer may be there alone, by its random ID.
		alone := strings.HasPrefix(line, "layer ") && strings.Contains(line, "[]"+top)
		if !slices.Contains(before, line) && !slices.Contains(after, line) && !alone {
			return fmt.Errorf("%s is there, neither as before nor as after", line)
		}
	}
	for _, line := range before {
		if slices.Contains(after, line) && !slices.Contains(now, line) {
			return fmt.Errorf("%s is lost", line)
		}
	}
	if !o.killed && o.code == 0 && !slices.Equal(now, after) {
		return fmt.Errorf("it answered, and there are %q, not %q", now, after)
	}
	s, err := store.Open(t.Context(), b.cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	report, err := fsck.Check(t.Context(), s, fsck.CheckOptions{})
	if err != nil {
		return err
	}
	// Of two records in two files that go, one may be left: the container, which can be
	// deleted again, and whose layer's files are still there.
	halfway := c.args[0] == "delete-container" && slices.Contains(now, before[0])
	for _, f := range report.Findings {
		if !f.Garbage() && c.name != "repair" && !halfway {
			return fmt.Errorf("check: %v (%s)", f, f.Path)
		}
	}
	// Once more, undisturbed, it does what it did not.
	if again := b.do(t, c, fault{}); again.code != 0 && (halfway || slices.Equal(now, before)) {
		return fmt.Errorf("once more: exit %d: %s", again.code, again.stderr)
	}
	if _, err := fsck.GC(t.Context(), s, fsck.GCOptions{}); err != nil {
		return err
	}
	if report, err = fsck.Check(t.Context(), s, fsck.CheckOptions{}); err != nil || !report.Empty() {
		return fmt.Errorf("after gc: %v: %w", report.Findings, err)
	}
	return nil
}

// undisturbed runs the command to its end, and tells its changes and what they come to.
func (b *bench) undisturbed(t testing.TB, c command) (before, after []string, o outcome) {
	t.Helper()
	b.begin(t, c)
	if c.name != "repair" {
		before = b.state(t)
	}
	if o = b.do(t, c, fault{}); o.code != 0 || len(o.changes) == 0 {
		t.Fatalf("undisturbed: exit %d after %d changes: %s", o.code, len(o.changes), o.stderr)
	}
	return before, b.state(t), o
}

func newRand(t testing.TB) *rand.Rand { return rand.New(rand.NewPCG(testutil.Seed(t), 0)) }

// sites chooses which of n changes are tried: all, or as many as there is time for.
func sites(chance *rand.Rand, n, most int) []int {
	all := chance.Perm(n)
	all = all[:min(n, most)]
	slices.Sort(all)
	return all
}

// Every change that a command makes fails, for want of room, over quota, or by a broken
// disk, once or from then on. The command says so and leaves the store as it was, or it
// can do without. SHALE_ERRORS is how many of each command's changes are tried with each
// error.
func TestErrorAtEachChange(t *testing.T) {
	b, most, chance := newBench(t), testutil.Count(t, "SHALE_ERRORS", 1, 1000), newRand(t)
	tried, refused, tolerated := 0, map[string]int{}, map[string]int{}
	for _, c := range chosen() {
		before, after, whole := b.undisturbed(t, c)
		for _, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO} {
			for _, n := range sites(chance, len(whole.changes), most) {
				f := fault{at: n + 1, errno: errno, sticky: chance.IntN(2) == 0}
				b.begin(t, c)
				o := b.do(t, c, f)
				if len(o.hit) == 0 {
					continue // a call that this error doesn't come from
				}
				tried++
				what := fmt.Sprintf("%s, %v (%s)", c.name, f, o.names())
				if o.code == 0 {
					tolerated[calls[o.hit[0]]]++
				} else if refused[calls[o.hit[0]]]++; !strings.Contains(o.stderr, errno.Error()) {
					t.Errorf("%s: the message hides the cause: %s", what, o.stderr)
				}
				if c.name == "repair" {
					before = after
				}
				if err := b.settled(t, c, before, after, o); err != nil {
					t.Errorf("%s: exit %d: %s\n%v", what, o.code, o.stderr, err)
				}
			}
		}
	}
	t.Logf("%d errors; refused %s; done without %s", tried, counts(refused), counts(tolerated))
}

func counts(of map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(list, ", ")
}

// Every command is killed before each of its changes, and the next command that writes is
// killed as well. SHALE_CALL_KILLS is how many of each command's changes are tried.
func TestKilledAtEachChange(t *testing.T) {
	b, most, chance := newBench(t), testutil.Count(t, "SHALE_CALL_KILLS", 3, 1000), newRand(t)
	next := command{"gc", nil, []string{"gc"}}
	kills, twice := 0, 0
	for _, c := range chosen() {
		before, after, whole := b.undisturbed(t, c)
		if c.name == "repair" {
			before = after
		}
		for _, n := range sites(chance, len(whole.changes), most) {
			f := fault{at: n + 1}
			b.begin(t, c)
			o := b.do(t, c, f)
			if !o.killed {
				continue // it had fewer changes this time
			}
			kills++
			what := fmt.Sprintf("%s, %v (%s)", c.name, f, o.names())
			if c.name != "repair" {
				if second := b.do(t, next, fault{at: 1 + chance.IntN(12)}); second.killed {
					twice++
					what += ", then gc (" + second.names() + ")"
				}
			}
			if err := b.settled(t, c, before, after, o); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	t.Logf("%d kills, %d of which met a second one", kills, twice)
}
