package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
)

// RepairOptions says how far Repair goes.
type RepairOptions struct {
	CheckOptions
	// Force allows it to delete containers, whose content is nowhere else.
	Force bool
}

// Repaired is what Repair has done.
type Repaired struct {
	Done []Action
	// Left is what is wrong still: what lies in additional stores, containers that only
	// force would delete, and what Repair failed at.
	Left Report
}

// Action is one thing that Repair has done.
type Action struct {
	Object
	What string `json:"what"`
}

// Repair carries out the remedies of a report, which Check has made a moment ago, and
// looks again, until nothing is left that it can do something about. It looks into the
// content of those layers only that the report is about. What can be kept is kept: small
// files are made anew, records corrected, lost ones made again, and content is unpacked
// anew from wherever the very same tar can still be had. Only where that fails is the
// object deleted, with all that needs it.
//
// An interrupted Repair has left the store as it was, or better, and can be repeated. The
// error tells of everything that it failed at; where a layer is in use that is
// errdefs.ErrInUse.
func (s *Store) Repair(ctx context.Context, report Report, opts RepairOptions) (Repaired, error) {
	r := &repair{store: s, opts: opts, givenUp: map[Object]bool{}}
	r.opts.hopeless, r.opts.content = map[Object]bool{}, map[string]bool{}
	const rounds = 6 // each makes something visible that was hidden before: records, then chains, then content
	for range rounds {
		for _, f := range report.Of(KindLayer) {
			r.opts.content[f.ID] = true
		}
		todo := report.only(r.canDo)
		if todo.Empty() {
			break
		}
		r.round(ctx, todo)
		if ctx.Err() != nil {
			return r.Repaired, ctx.Err()
		}
		var err error
		if report, err = s.Check(ctx, r.opts.CheckOptions); err != nil {
			return r.Repaired, errors.Join(append(r.errs, err)...)
		}
	}
	r.Left = report
	return r.Repaired, errors.Join(r.errs...)
}

// repair is one Repair.
type repair struct {
	Repaired
	store   *Store
	opts    RepairOptions
	errs    []error
	givenUp map[Object]bool // deleting these failed
}

// canDo reports whether there is anything left to try.
func (r *repair) canDo(f Finding) bool {
	return !f.ReadOnly && f.Remedy != RemedyNone && !r.givenUp[f.Object] &&
		(f.Kind != KindContainer || f.Remedy != RemedyDelete || r.opts.Force)
}

func (r *repair) did(o Object, format string, args ...any) {
	r.Done = append(r.Done, Action{o, fmt.Sprintf(format, args...)})
}

// failed notes that a remedy didn't help; another one may.
func (r *repair) failed(o Object, err error) {
	r.opts.hopeless[o] = true
	r.errs = append(r.errs, err)
}

// giveUp notes that nothing helps.
func (r *repair) giveUp(o Object, err error) {
	r.givenUp[o] = true
	r.errs = append(r.errs, err)
}

// round carries out what a report asks for, the least harmful first. Later remedies see
// the store as the earlier ones have left it.
func (r *repair) round(ctx context.Context, todo Report) {
	for _, remedy := range []struct {
		is Remedy
		do func(context.Context, []Finding)
	}{
		{RemedySalvage, r.salvage},
		{RemedyToken, r.tokens},
		{RemedyAdopt, r.adopt},
		{RemedyRecord, r.records},
		{RemedyMend, r.mend},
		{RemedyForget, r.forget},
		{RemedyRestore, r.restore},
		{RemedyRebuild, r.rebuild},
		{RemedyDelete, r.delete},
		{RemedyDiscard, r.discard},
	} {
		some := todo.only(func(f Finding) bool { return f.Remedy == remedy.is })
		if !some.Empty() && ctx.Err() == nil {
			remedy.do(ctx, some.Findings)
			step.Reached(ctx, "repair: "+string(remedy.is))
		}
	}
}

func (r *repair) salvage(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		r.opts.damaged = append(r.opts.damaged, f.ID)
		saved, err := r.store.salvage(ctx, f.ID)
		for _, file := range saved {
			r.did(f.Object, "%s: kept %d that can be read; what the file was is in %s", file.Path, file.Kept, file.Copy)
		}
		if err != nil {
			r.giveUp(f.Object, err)
		}
	}
}

func (r *repair) tokens(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		lock, err := lockfile.Acquire(ctx, f.ID, lockfile.Exclusive)
		if err == nil {
			_, err = lock.Touch()
			err = errors.Join(err, lock.Release())
		}
		if err != nil {
			r.giveUp(f.Object, err)
			continue
		}
		r.did(f.Object, "wrote a new token")
	}
}

// records settles contradictions, and corrects parents, sizes and digests that the record
// has wrong.
func (r *repair) records(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		if f.parents == nil {
			continue
		}
		parent := ""
		if len(f.parents) > 0 {
			parent = f.parents[0]
		}
		err := r.store.updateAll(ctx, func(l *layers.WriteTx, _ *images.WriteTx, _ *containers.WriteTx) error {
			return l.SetParent(f.ID, parent)
		})
		if err != nil {
			r.giveUp(f.Object, err)
			continue
		}
		r.did(f.Object, "recorded %q as its parent", parent)
	}
	for _, f := range findings {
		if f.size == 0 {
			continue
		}
		err := r.store.updateAll(ctx, func(l *layers.WriteTx, _ *images.WriteTx, _ *containers.WriteTx) error {
			return l.SetDiffSize(f.ID, f.size)
		})
		if err != nil {
			r.failed(f.Object, err)
			continue
		}
		r.did(f.Object, "recorded %d bytes as the size of its tar", f.size)
	}
	for _, f := range findings {
		if f.key == "" {
			continue
		}
		err := r.store.updateAll(ctx, func(_ *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
			return i.MendDigests(f.ID)
		})
		if err != nil {
			r.failed(f.Object, err)
			continue
		}
		r.did(f.Object, "recorded the digests of its data items anew")
	}
	contradiction := func(f Finding) bool { return f.parents == nil && f.key == "" && f.size == 0 }
	if !slices.ContainsFunc(findings, contradiction) {
		return
	}
	err := r.store.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		return errors.Join(l.Settle(), i.Settle(), c.Settle())
	})
	for _, f := range findings {
		switch {
		case !contradiction(f):
		case err != nil:
			r.giveUp(f.Object, err)
		default:
			r.did(f.Object, "settled in the record: %s", f.What)
		}
	}
}

func (r *repair) mend(ctx context.Context, findings []Finding) {
	for _, id := range r.baseFirst(ctx, findings) {
		object := Object{KindLayer, id}
		err := r.store.updateAll(ctx, func(l *layers.WriteTx, _ *images.WriteTx, _ *containers.WriteTx) error {
			return l.Mend(ctx, id)
		})
		if err != nil {
			r.failed(object, err)
			continue
		}
		r.did(object, "made its small files anew")
	}
}

// baseFirst lists the layers of findings so that each comes after those beneath it.
func (r *repair) baseFirst(ctx context.Context, findings []Finding) []string {
	all, err := r.store.Layers(ctx)
	if err != nil {
		r.errs = append(r.errs, err)
		return nil
	}
	parent := map[string]string{}
	for _, layer := range all {
		parent[layer.ID] = layer.Parent
	}
	depth := func(id string) (n int) {
		for ; id != "" && n <= len(parent); id = parent[id] {
			n++
		}
		return n
	}
	var ids []string
	for _, f := range findings {
		if !slices.Contains(ids, f.ID) {
			ids = append(ids, f.ID)
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return depth(a) - depth(b) })
	return ids
}

func (r *repair) forget(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		what := "took it off the list of mounts"
		err := r.store.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
			switch {
			case f.Kind == KindImage:
				what = "forgot the layer " + f.other
				return i.ForgetMappedLayer(f.ID, f.other)
			case f.key != "":
				what = "forgot the data item " + f.key
				return l.ForgetItem(f.ID, f.key)
			}
			return l.ForgetMounts(ctx, []string{f.ID})
		})
		if err != nil {
			r.giveUp(f.Object, err)
			continue
		}
		r.did(f.Object, "%s", what)
	}
}

func (r *repair) discard(ctx context.Context, findings []Finding) {
	var lost lostRecords // by force, what had no record goes; layers were given one by now, if that was possible
	var err error
	if !r.opts.Force {
		lost, err = r.store.lost(ctx, r.opts.damaged...)
	}
	if err == nil {
		err = r.store.collect(ctx, lost)
	}
	if err != nil {
		r.errs = append(r.errs, err)
	}
	for _, f := range findings {
		_, serr := os.Lstat(f.ID)
		if err != nil || f.Kind == KindFile && serr == nil && lost.spares(f.ID) {
			r.givenUp[f.Object] = true
			continue
		}
		r.did(f.Object, "removed")
	}
}
