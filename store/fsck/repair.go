package fsck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/internal/roots"
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
func Repair(ctx context.Context, s *store.Store, report Report, opts RepairOptions) (Repaired, error) {
	r := &repair{opts: opts, givenUp: map[Object]bool{}}
	r.hopeless, r.content = map[Object]bool{}, map[string]bool{}
	// What is in the place of a directory may keep the store from being opened.
	r.fix(ctx, report.only(func(f Finding) bool { return f.Remedy == RemedyAside && r.canDo(f) }).Findings)
	var err error
	if r.Roots, err = s.Roots(ctx); err != nil {
		return r.Repaired, errors.Join(append(r.errs, err)...)
	}
	if len(r.Done) > 0 {
		if report, err = check(ctx, s, opts.CheckOptions, r.learned); err != nil {
			return r.Repaired, err
		}
	}
	const rounds = 6 // each makes something visible that was hidden before: records, then chains, then content
	for range rounds {
		for _, f := range report.Of(KindLayer) {
			r.content[f.ID] = true
		}
		todo := report.only(r.canDo)
		if todo.Empty() {
			break
		}
		r.round(ctx, todo)
		if ctx.Err() != nil {
			return r.Repaired, ctx.Err()
		}
		if report, err = check(ctx, s, opts.CheckOptions, r.learned); err != nil {
			return r.Repaired, errors.Join(append(r.errs, err)...)
		}
	}
	r.Left = report
	return r.Repaired, errors.Join(r.errs...)
}

// repair is one Repair.
type repair struct {
	*roots.Roots
	Repaired
	learned
	opts    RepairOptions
	errs    []error
	givenUp map[Object]bool // nothing helps these, or not now
}

// canDo reports whether there is anything left to try.
func (r *repair) canDo(f Finding) bool {
	return !f.ReadOnly && f.Remedy != RemedyNone && !r.givenUp[f.Object] &&
		(f.Kind != KindContainer || f.Remedy != RemedyDelete || r.opts.Force)
}

func (r *repair) did(o Object, format string, args ...any) {
	r.Done = append(r.Done, Action{o, fmt.Sprintf(format, args...)})
}

// failed notes that a remedy didn't help. Where what it needs isn't there another one
// may, and be it to delete the object. Anything else, a full disk or a mount, may well be
// over the next time, and is no reason to do more harm.
func (r *repair) failed(o Object, err error) {
	if !r.hopeless[o] && (errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrCorrupt) ||
		errors.Is(err, errdefs.ErrInvalid)) {
		r.hopeless[o] = true
	} else {
		r.givenUp[o] = true
	}
	r.errs = append(r.errs, err)
}

// round carries out what a report asks for, the least harmful first. Later remedies see
// the store as the earlier ones have left it.
func (r *repair) round(ctx context.Context, todo Report) {
	for _, remedy := range []struct {
		is Remedy
		do func(context.Context, []Finding)
	}{
		{RemedyAside, r.fix},
		{RemedySalvage, r.salvage},
		{RemedyToken, r.fix},
		{RemedyAdopt, r.adopt},
		{RemedyRecord, r.fix},
		{RemedyMend, r.mend},
		{RemedyForget, r.fix},
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

func (r *repair) fix(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		did, err := f.fix(ctx)
		if err != nil {
			r.failed(f.Object, err)
		} else {
			r.did(f.Object, "%s", did)
		}
	}
}

func (r *repair) salvage(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		r.damaged = append(r.damaged, f.ID)
	}
	r.fix(ctx, findings)
}

func (r *repair) mend(ctx context.Context, findings []Finding) {
	r.fix(ctx, r.baseFirst(ctx, findings))
}

// baseFirst takes one finding for each layer, those of a layer after those of the layers
// beneath it.
func (r *repair) baseFirst(ctx context.Context, findings []Finding) (sorted []Finding) {
	parent := map[string]string{}
	err := r.Layers.View(ctx, func(tx *layers.ReadTx) error {
		all, err := tx.All()
		for _, layer := range all {
			parent[layer.ID] = layer.Parent
		}
		return err
	})
	if err != nil {
		r.errs = append(r.errs, err)
		return nil
	}
	depth := func(id string) (n int) {
		for ; id != "" && n <= len(parent); id = parent[id] {
			n++
		}
		return n
	}
	for _, f := range findings {
		if !slices.ContainsFunc(sorted, func(other Finding) bool { return other.ID == f.ID }) {
			sorted = append(sorted, f)
		}
	}
	slices.SortStableFunc(sorted, func(a, b Finding) int { return depth(a.ID) - depth(b.ID) })
	return sorted
}

func (r *repair) discard(ctx context.Context, findings []Finding) {
	c, err := newChecker(r.Roots, r.opts.CheckOptions, r.learned)
	if err == nil {
		err = c.discard(ctx, findings)
	}
	if err != nil {
		r.errs = append(r.errs, err)
	}
	for _, f := range findings {
		if err != nil {
			r.givenUp[f.Object] = true
		} else {
			r.did(f.Object, "removed")
		}
	}
}
