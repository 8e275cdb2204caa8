package interop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
	"golang.org/x/sys/unix"
)

// TestStorm lets eight processes at a time, four of each tool, create, import, mount, change, diff, list, name
// and delete layers of one root for some seconds, and holds every single answer against the history. A layer
// that nobody asked to delete must be in every list and do all that is asked of it; one that was deleted must
// be in none. The only errors are these two: "in use" where a layer had children or was being given one, and
// "not known" where its deletion had been asked for.
func TestStorm(t *testing.T) {
	testutil.Root(t)
	seconds := harness.Count(t, "SHALE_STORM_SECONDS", 15)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SHALE_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("SHALE_SEED=%d (each process's choices come again, not their interleaving)", seed)

	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	s := &storm{root: harness.NewRoot(dir), layers: map[string]*layer{}, counts: map[string]int{}}
	for i := range 4 {
		s.archives = append(s.archives, harness.SmallArchive(t, dir, fmt.Sprint("archive", i), 20+40*i, 300))
	}
	tools := []harness.Tool{harness.Shale(t), harness.Peer(t)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var workers sync.WaitGroup
	for i := range 8 {
		w := &worker{storm: s, number: i, tool: tools[i%2], chance: rand.New(rand.NewPCG(seed, uint64(i)))}
		workers.Go(func() { w.run(t, ctx) })
	}
	workers.Go(func() { s.check(t, ctx, tools[0]) })
	workers.Wait()
	if !t.Failed() {
		s.aftermath(t, tools)
	}
	total := 0
	for _, n := range s.counts {
		total += n
	}
	t.Logf("%d operations: %v", total, s.counts)
	if s.excuses > 2+total/100 {
		t.Errorf("the peer failed by its own bugs %d times, which is more than it does by itself", s.excuses)
	}
}

// check looks at the store all the time and may never find anything: everybody is alive, and what they are at work on is nobody else's business.
func (s *storm) check(t *testing.T, ctx context.Context, shale harness.Tool) {
	for n := 0; ctx.Err() == nil; n++ {
		args := []string{"check"}
		if n%2 == 1 {
			args = append(args, "--quick")
		}
		out, err := s.root.Do(ctx, shale, args...)
		if ctx.Err() != nil {
			return
		}
		if err != nil || out != "" {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		s.at(func() { s.counts["check"]++ })
	}
}

// storm is the history all workers share. Its clock ticks at every beginning and end of an operation.
type storm struct {
	root     harness.Root
	archives []harness.Archive

	mu     sync.Mutex
	clock  int
	layers map[string]*layer // all that were ever asked for
	order  []string
	counts map[string]int

	excuses int // how often the peer needed its own bugs as one
}

// layer is one layer's life. A time of 0 has not come yet.
type layer struct {
	id, parent  string
	digest      string // of an imported layer: it never changes then
	metadata    string // as its maker last set it
	asked, made int    // when its making was asked for and acknowledged
	failed      bool   // it was never made
	children    []string
	deletions   []*attempt
	maker       int
}

type attempt struct {
	begun, ended int
	done         bool // acknowledged, and not refused
}

func (s *storm) tick() int {
	s.clock++
	return s.clock
}

// at runs fn with the history locked.
func (s *storm) at(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// surely says whether the layer was there all the time from begun until now.
func (l *layer) surely(begun int) bool {
	return l.made > 0 && l.made <= begun && !l.maybeDeleted()
}

// maybeDeleted says whether a deletion was carried out or is under way.
func (l *layer) maybeDeleted() bool {
	return slices.ContainsFunc(l.deletions, func(a *attempt) bool { return a.done || a.ended == 0 })
}

// goneBy says whether the layer had been deleted, or never been made, by a time.
func (l *layer) goneBy(begun int) bool {
	return l.failed || slices.ContainsFunc(l.deletions, func(a *attempt) bool { return a.done && a.ended > 0 && a.ended <= begun })
}

// maybeUsed says whether the layer may have had a child at some time since begun.
func (s *storm) maybeUsed(l *layer, begun int) bool {
	return slices.ContainsFunc(l.children, func(id string) bool { return !s.layers[id].goneBy(begun) })
}

var (
	notKnown = regexp.MustCompile(`(?i)not known|not found|no such|does not exist|not a layer`)
	inUse    = regexp.MustCompile(`(?i)in use|has children|used by|busy|mounted`)
)

// peerBugs are errors of containers-storage v1.64.2 that are no doing of the tool beside it: the same storm with
// eight of the peer's own processes shows them too. Only the peer is excused, and only rarely.
var peerBugs = []*regexp.Regexp{
	// It makes a temporary directory's lock file first and locks it next. Whoever looks for stale directories
	// between the two takes it for one and unlinks it, the owner locks the unlinked file without looking again,
	// and the next who looks removes the directory from under it: while it unpacks, or before it renames.
	regexp.MustCompile(`unpacking failed \(error: .*no such file or directory`),
	regexp.MustCompile(`rename \S+/temp-dir-\d+/\S+ \S+: no such file or directory`),
	regexp.MustCompile(`chown \S+/temp-dir-\d+/\S+: no such file or directory`),
}

func (w *worker) isPeerBug(err error) bool {
	return err != nil && w.tool.Name == "peer" &&
		slices.ContainsFunc(peerBugs, func(bug *regexp.Regexp) bool { return bug.MatchString(err.Error()) })
}

// worker runs one command after the other, all with one tool.
type worker struct {
	*storm
	number int
	made   int
	tool   harness.Tool
	chance *rand.Rand
}

func (w *worker) run(t *testing.T, ctx context.Context) {
	steps := []struct {
		name   string
		weight int
		do     func(context.Context) error
	}{
		{"import", 5, w.importLayer},
		{"create", 3, w.create},
		{"mount", 5, w.mount},
		{"diff", 4, w.diff},
		{"changes", 2, w.changes},
		{"list", 4, w.list},
		{"metadata", 3, w.metadata},
		{"delete", 6, w.remove},
	}
	total := 0
	for _, step := range steps {
		total += step.weight
	}
	for ctx.Err() == nil && !t.Failed() {
		n := w.chance.IntN(total)
		for _, step := range steps {
			if n -= step.weight; n < 0 {
				// Not ctx: an operation once begun is brought to its end, or its outcome would be unknown.
				if err := step.do(t.Context()); w.isPeerBug(err) {
					t.Logf("a bug of the peer's: %v", err)
					w.at(func() { w.excuses++ })
				} else if err != nil {
					t.Errorf("process %d, %s, %s: %v", w.number, w.tool.Name, step.name, err)
				}
				w.at(func() {
					w.counts[step.name]++
				})
				break
			}
		}
	}
}

// pick chooses a layer that may be there; nil when there is none. Rarely it is one that is being deleted.
func (w *worker) pick() *layer {
	var candidates []*layer
	for _, id := range w.order {
		l := w.layers[id]
		if l.made > 0 && !l.goneBy(w.clock) && (!l.maybeDeleted() || w.chance.IntN(8) == 0) {
			candidates = append(candidates, l)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return candidates[w.chance.IntN(len(candidates))]
}

// begin picks a layer and the time.
func (w *worker) begin() (l *layer, begun int) {
	w.at(func() { l, begun = w.pick(), w.tick() })
	return l, begun
}

// excused says whether an error on a layer is one of the two that may be, in which case it is no error.
func (w *worker) excused(err error, l *layer) error {
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.maybeDeleted() && (notKnown.MatchString(err.Error()) || inUse.MatchString(err.Error())) {
		return nil
	}
	return fmt.Errorf("layer %s (deletions: %v): %w", l.id, len(l.deletions), err)
}

// add runs a command that makes a layer.
func (w *worker) add(ctx context.Context, parent *layer, digest string, command string, args ...string) error {
	l := &layer{digest: digest, maker: w.number}
	w.at(func() {
		w.made++
		l.id, l.asked = fmt.Sprintf("%032x%032x", w.number+1, w.made), w.tick()
		w.layers[l.id], w.order = l, append(w.order, l.id)
		if parent != nil {
			l.parent = parent.id
			parent.children = append(parent.children, l.id)
		}
	})
	args = append([]string{command, "-i", l.id}, args...)
	if parent != nil {
		args = append(args, parent.id)
	}
	_, err := w.root.Do(ctx, w.tool, args...)
	w.at(func() {
		if err != nil {
			l.failed = true
			w.tick()
		} else {
			l.made = w.tick()
		}
	})
	if parent == nil {
		return err
	}
	return w.excused(err, parent)
}

func (w *worker) importLayer(ctx context.Context) error {
	var parent *layer
	if w.chance.IntN(2) == 0 {
		parent, _ = w.begin()
	}
	archive := w.archives[w.chance.IntN(len(w.archives))]
	return w.add(ctx, parent, archive.Digest, "import-layer", "-f", archive.Path)
}

func (w *worker) create(ctx context.Context) error {
	parent, _ := w.begin()
	return w.add(ctx, parent, "", "create-layer")
}

// mount mounts a layer, writes into it if its content may change, and unmounts it.
func (w *worker) mount(ctx context.Context) error {
	l, begun := w.begin()
	if l == nil {
		return nil
	}
	out, err := w.root.Do(ctx, w.tool, "mount", l.id)
	if err != nil {
		return w.excused(err, l)
	}
	at := strings.TrimSpace(out)
	if !strings.HasPrefix(at, w.root.Graph) {
		return fmt.Errorf("layer %s is mounted at %q", l.id, at)
	}
	seen := w.visit(at, l.digest == "")
	if seen != nil {
		w.mu.Lock()
		if !l.surely(begun) {
			seen = nil // unmounted from under us by its deletion
		}
		w.mu.Unlock()
	}
	_, err = w.root.Do(ctx, w.tool, "unmount", l.id)
	return errors.Join(seen, w.excused(err, l))
}

// visit looks into a mounted layer, and leaves a file there if it may. It goes by descriptor: a deletion may
// unmount the layer meanwhile, and by path the file would land in the empty mount point then.
func (w *worker) visit(at string, write bool) error {
	dir, err := os.Open(at)
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s is no overlay mount (file system magic %#x): %w", at, st.Type, errors.Join(err))
	}
	if write {
		return os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/written-by-%d", dir.Fd(), w.number), []byte(at), 0o644)
	}
	if names, err := dir.Readdirnames(-1); err != nil || len(names) == 0 {
		return fmt.Errorf("%s is mounted, but holds %v: %w", at, names, errors.Join(err))
	}
	return nil
}

func (w *worker) diff(ctx context.Context) error {
	l, _ := w.begin()
	if l == nil {
		return nil
	}
	digest, err := w.root.Digest(ctx, w.tool, l.id)
	if err == nil && l.digest != "" && digest != l.digest {
		return fmt.Errorf("layer %s exports %s, want %s", l.id, digest, l.digest)
	}
	return w.excused(err, l)
}

func (w *worker) changes(ctx context.Context) error {
	l, _ := w.begin()
	if l == nil {
		return nil
	}
	_, err := w.root.Do(ctx, w.tool, "changes", l.id)
	return w.excused(err, l)
}

// list asks for all layers and holds the answer against the history.
func (w *worker) list(ctx context.Context) error {
	var begun int
	w.at(func() { begun = w.tick() })
	listed, err := w.root.Layers(ctx, w.tool)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[string]bool{}
	for _, got := range listed {
		l := w.layers[got.ID]
		switch {
		case there[got.ID]:
			err = errors.Join(err, fmt.Errorf("%s is listed twice", got.ID))
		case l == nil:
			err = errors.Join(err, fmt.Errorf("%s is listed and nobody made it", got.ID))
		case l.goneBy(begun):
			err = errors.Join(err, fmt.Errorf("%s is listed after its deletion was acknowledged", got.ID))
		case got.Parent != l.parent || got.Flags["incomplete"] == true:
			err = errors.Join(err, fmt.Errorf("%s is listed as %+v, its parent is %q", got.ID, got, l.parent))
		}
		there[got.ID] = true
	}
	for id, l := range w.layers {
		if l.surely(begun) && !there[id] {
			err = errors.Join(err, fmt.Errorf("%s is there and not listed: a lost record", id))
		}
	}
	return err
}

// metadata sets the metadata of a layer of our own: only we do, so it must stay.
func (w *worker) metadata(ctx context.Context) error {
	l, _ := w.begin()
	if l == nil || l.maker != w.number {
		return nil
	}
	text := fmt.Sprint("said at ", w.chance.Uint64())
	_, err := w.root.Do(ctx, w.tool, "set-metadata", "-m", text, l.id)
	if err == nil {
		l.metadata = text
	}
	return w.excused(err, l)
}

// remove deletes a layer, mostly one that seems to have no children.
func (w *worker) remove(ctx context.Context) error {
	var l *layer
	var begun int
	try := &attempt{}
	w.at(func() {
		for range 5 {
			if l = w.pick(); l == nil || !w.maybeUsed(l, w.clock) {
				break
			}
		}
		if begun = w.tick(); l != nil {
			try.begun = begun
			l.deletions = append(l.deletions, try)
		}
	})
	if l == nil {
		return nil
	}
	_, err := w.root.Do(ctx, w.tool, "delete-layer", l.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	others := slices.ContainsFunc(l.deletions, func(a *attempt) bool { return a != try && (a.done || a.ended == 0) })
	try.ended, try.done = w.tick(), err == nil
	switch {
	case err == nil && slices.ContainsFunc(l.children, func(id string) bool { return w.layers[id].surely(begun) }):
		return fmt.Errorf("layer %s was deleted from under its children", l.id)
	case err == nil:
		return nil
	case w.maybeUsed(l, begun) && inUse.MatchString(err.Error()):
		return nil
	case others && (notKnown.MatchString(err.Error()) || inUse.MatchString(err.Error())):
		return nil
	}
	return fmt.Errorf("layer %s: %w", l.id, err)
}

// aftermath is when all is quiet: both tools and the disk agree with the history, and everything can be deleted.
func (s *storm) aftermath(t *testing.T, tools []harness.Tool) {
	ctx := t.Context()
	var want []string
	for id, l := range s.layers {
		if l.made > 0 && !l.maybeDeleted() {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	var records [2]string
	for i, tool := range tools {
		listed, err := s.root.Layers(ctx, tool)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range listed {
			got = append(got, l.ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s lists %d layers, the history has %d\ngot  %v\nwant %v", tool.Name, len(got), len(want), got, want)
		}
		records[i] = s.root.Must(t, tool, "layers", "-j")
	}
	if !sameJSON(records[0], records[1]) {
		t.Errorf("the records differ:\nshale: %s\npeer:  %s", records[0], records[1])
	}
	for i, id := range want {
		l, tool := s.layers[id], tools[i%2]
		if l.digest != "" {
			if got, err := s.root.Digest(ctx, tool, id); err != nil || got != l.digest {
				t.Errorf("%s exports %s as %s, want %s: %v", tool.Name, id, got, l.digest, err)
			}
		}
		if l.metadata != "" {
			if out := s.root.Must(t, tool, "metadata", "-q", id); strings.TrimSpace(out) != l.metadata {
				t.Errorf("%s: the metadata of %s is %q, its maker said %q", tool.Name, id, out, l.metadata)
			}
		}
	}
	if points, err := testutil.MountsBelow(s.root.Graph); err != nil || len(points) > 0 {
		t.Errorf("still mounted: %v, %v", points, err)
	}
	if s.excuses > 0 {
		s.root.Must(t, tools[0], "gc") // the peer left something behind, too
	}
	found, err := s.root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(found.Broken, found.Stale...) {
		t.Errorf("on disk: %s", line)
	}
	for i := 0; len(want) > 0; i++ {
		want = slices.DeleteFunc(want, func(id string) bool {
			if slices.ContainsFunc(want, func(other string) bool { return s.layers[other].parent == id }) {
				return false
			}
			i++
			s.root.Must(t, tools[i%2], "delete-layer", id)
			return true
		})
	}
	for _, tool := range tools {
		if listed, err := s.root.Layers(ctx, tool); err != nil || len(listed) > 0 {
			t.Errorf("%s: all deleted, yet listed: %v, %v", tool.Name, listed, err)
		}
	}
}

func sameJSON(a, b string) bool {
	va, errA := decode(a)
	vb, errB := decode(b)
	return errA == nil && errB == nil && reflect.DeepEqual(va, vb)
}
