// Package crash kills the binary and cuts the power under it, and then asks what it
// answered for.
//
// The promise under test: a command that answered OK has happened, whatever happens next;
// a command that did not answer has happened wholly or not at all; and the store opens
// afterwards without help.
package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// newRand returns the source of a test's chances.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(testutil.Seed(t), 0))
}

// ledger remembers what the tool answered for.
type ledger struct {
	root   harness.Root
	tool   harness.Tool
	chance *rand.Rand
	count  int // layers named so far

	kept    map[string]entry  // imported, acknowledged, and not asked to be deleted
	pending map[string]intent // asked for without an answer: may have happened or not
	order   []string          // the IDs of kept, oldest first
	sources []harness.Archive
}

type entry struct{ parent, digest string }

type intent struct {
	entry
	deletion bool
}

func newLedger(root harness.Root, tool harness.Tool, chance *rand.Rand, sources []harness.Archive) *ledger {
	return &ledger{root: root, tool: tool, chance: chance, sources: sources, kept: map[string]entry{},
		pending: map[string]intent{}}
}

// operation is one command about to run.
type operation struct {
	id     string
	intent intent
	args   []string
	file   string // what an import reads, from a file or from standard input as the caller likes
}

// next chooses an import, on a base or on any kept layer, or a deletion of a kept layer
// without children. The store stays small: with more than six layers it is more likely to
// lose one.
func (l *ledger) next() operation {
	if leaf := l.leaf(); leaf != "" && l.chance.IntN(10) < len(l.order) {
		return operation{id: leaf, intent: intent{l.kept[leaf], true}, args: []string{"delete-layer", leaf}}
	}
	return l.nextImport()
}

func (l *ledger) nextImport() operation {
	l.count++
	source := l.sources[l.chance.IntN(len(l.sources))]
	op := operation{id: fmt.Sprintf("%064x", l.count), file: source.Path}
	op.intent.digest = source.Digest
	op.args = []string{"import-layer", "-i", op.id, "-n", "name-" + strconv.Itoa(l.count), "-r"}
	if len(l.order) > 0 && l.chance.IntN(3) > 0 {
		op.intent.parent = l.order[l.chance.IntN(len(l.order))]
		op.args = append(op.args, op.intent.parent)
	}
	return op
}

// withFile is the command line with the archive read from its file; flags stand before
// the parent.
func (op operation) withFile() []string {
	if op.file == "" {
		return op.args
	}
	return slices.Insert(slices.Clone(op.args), 1, "-f", op.file)
}

// leaf is a random kept layer that no other stands on.
func (l *ledger) leaf() string {
	parents := map[string]bool{}
	for _, e := range l.kept {
		parents[e.parent] = true
	}
	var leaves []string
	for _, id := range l.order {
		if !parents[id] {
			leaves = append(leaves, id)
		}
	}
	if len(leaves) == 0 {
		return ""
	}
	return leaves[l.chance.IntN(len(leaves))]
}

// start notes that an operation was asked for; answered, that its command said OK.
func (l *ledger) start(op operation) {
	l.pending[op.id] = op.intent
	if op.intent.deletion {
		l.forget(op.id)
	}
}

func (l *ledger) answered(op operation) {
	delete(l.pending, op.id)
	if !op.intent.deletion {
		l.keep(op.id, op.intent.entry)
	}
}

func (l *ledger) keep(id string, e entry) {
	l.kept[id], l.order = e, append(l.order, id)
}

func (l *ledger) forget(id string) {
	delete(l.kept, id)
	l.order = slices.DeleteFunc(l.order, func(other string) bool { return other == id })
}

// run runs an operation undisturbed.
func (l *ledger) run(ctx context.Context, op operation) error {
	l.start(op)
	_, err := l.root.Do(ctx, l.tool, op.withFile()...)
	if err == nil {
		l.answered(op)
	}
	return err
}

// settle asks the tool what there is and holds it against the ledger: everything answered
// for is there, nothing else but what may have happened, and each layer looked at (all of
// them, or those that were in doubt and one more) exports the bytes it was imported from.
// It returns every violation, and afterwards the ledger knows how the pending operations
// ended.
func (l *ledger) settle(ctx context.Context, all bool) (violations []string) {
	violation := func(format string, args ...any) {
		violations = append(violations, fmt.Sprintf(format, args...))
	}
	listed, err := l.root.Layers(ctx, l.tool)
	if err != nil {
		return []string{fmt.Sprintf("the store does not answer: %v", err)}
	}
	export := map[string]string{} // ID → digest it must have
	there := map[string]bool{}
	for _, layer := range listed {
		there[layer.ID] = true
		want, kept := l.kept[layer.ID]
		if !kept {
			doubt, pending := l.pending[layer.ID]
			if !pending {
				violation("%s is listed, but it was never made or its deletion was acknowledged", layer.ID)
				continue
			}
			want = doubt.entry
			export[layer.ID] = want.digest
			l.keep(layer.ID, want)
		}
		if layer.Flags["incomplete"] == true {
			violation("%s is listed half-made", layer.ID)
		}
		if layer.Parent != want.parent || layer.DiffDigest != want.digest {
			violation("%s has parent %q and digest %s, want %q and %s", layer.ID, layer.Parent, layer.DiffDigest,
				want.parent, want.digest)
		}
		if want.parent != "" && !there[want.parent] &&
			!slices.ContainsFunc(listed, func(o harness.Layer) bool { return o.ID == want.parent }) {
			violation("%s is listed without its parent %s", layer.ID, want.parent)
		}
	}
	clear(l.pending)
	for _, id := range slices.Clone(l.order) {
		if !there[id] {
			violation("%s was acknowledged and is lost", id)
			l.forget(id)
		} else if all {
			export[id] = l.kept[id].digest
		}
	}
	if !all && len(l.order) > 0 {
		id := l.order[l.chance.IntN(len(l.order))]
		export[id] = l.kept[id].digest
	}
	for id, want := range export {
		if got, err := l.root.Digest(ctx, l.tool, id); err != nil {
			violation("%s does not export: %v", id, err)
		} else if got != want {
			violation("%s exports %s, want %s", id, got, want)
		}
	}
	return violations
}

// finish ends a test: after gc nothing stale may be left, and after all layers are
// deleted, youngest first, nothing at all.
func (l *ledger) finish(t *testing.T) {
	t.Helper()
	before, err := l.root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	l.root.Must(t, l.tool, "gc")
	l.mustBeClean(t, "after gc")
	t.Logf("gc took %d stale files", len(before.Stale))
	for _, id := range slices.Backward(slices.Clone(l.order)) {
		l.root.Must(t, l.tool, "delete-layer", id)
	}
	l.mustBeClean(t, "after deleting all")
	if left, err := l.root.Layers(t.Context(), l.tool); err != nil || len(left) != 0 {
		t.Errorf("after deleting all: %v, %v", left, err)
	}
}

func (l *ledger) mustBeClean(t *testing.T, when string) {
	t.Helper()
	found, err := l.root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(found.Broken, found.Stale...) {
		t.Errorf("%s: %s", when, line)
	}
}
