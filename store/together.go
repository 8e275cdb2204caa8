package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// LayerImport is one of several layers to import together.
type LayerImport struct {
	// Options.Parent isn't read.
	Options layers.CreateOptions
	// Tar, which may be compressed, is read to its end.
	Tar io.Reader
	// Progress is called now and then with the bytes of Tar read so far, by another
	// goroutine than those of the others; nil for none.
	Progress func(read int64)
}

// ImportLayers makes layers from tars, those of an image say: the first on parent ("" for
// none), each further one on the one before it. They are unpacked side by side, as many
// at a time as there are processors but at most four, each in as much memory as
// ImportLayer takes. They appear together, by one save after a sync of all: when
// ImportLayers returns nil all of them survive a power cut, and when it fails, or ctx
// ends, nothing is left of any.
//
// Tars are read from when their turn has come, in order, so a tar that waits for its data
// keeps one place occupied.
//
// Where layers can't be made side by side, because the driver copies or owners have to be
// translated, they are made one after another, and the ones made before an error stay.
// Errors are those of ImportLayer.
func (s *Store) ImportLayers(ctx context.Context, parent string, chain []LayerImport) ([]layers.Layer, error) {
	if len(chain) == 0 {
		return nil, nil
	}
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	made, err := importSideBySide(ctx, r, parent, chain)
	if !errors.Is(err, errNotSideBySide) {
		return made, err
	}
	for _, in := range chain {
		in.Options.Parent = parent
		layer, err := s.ImportLayer(ctx, in.Options, in.Tar, in.Progress)
		if err != nil {
			return made, err
		}
		made, parent = append(made, layer), layer.ID
	}
	return made, nil
}

var errNotSideBySide = errors.New("layers can't be made side by side")

func importSideBySide(ctx context.Context, r *roots.Roots, parentRef string,
	chain []LayerImport) ([]layers.Layer, error) {
	for _, in := range chain {
		if in.Options.Volatile || in.Options.Writable {
			return nil, errNotSideBySide
		}
	}
	var parent *layers.Layer
	err := r.ViewLayers(ctx, func(l *layers.ReadTx, c *containers.ReadTx) (err error) {
		for _, in := range chain {
			if _, err := l.CheckFree(in.Options.ID, in.Options.Names); err != nil {
				return err
			}
		}
		parent, err = findParent(l, c, parentRef)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.PrepareHome(ctx); err != nil {
		return nil, err
	}
	drafts, err := prepareChain(ctx, r.Layers, parent, chain)
	defer func() {
		for i := len(drafts) - 1; i >= 0; i-- {
			drafts[i].Close() // what can't be removed is stale, and goes with the next writer
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := fillSideBySide(ctx, drafts, chain); err != nil {
		return nil, err
	}
	if err := layers.SyncTogether(ctx, drafts); err != nil {
		return nil, err
	}
	return addTogether(ctx, r, parent, drafts)
}

// prepareChain stages all layers. What it returns is to be closed, also after an error.
func prepareChain(ctx context.Context, records *layers.Store, parent *layers.Layer,
	chain []LayerImport) ([]*layers.Draft, error) {
	var drafts []*layers.Draft
	for i, in := range chain {
		var d *layers.Draft
		var err error
		if i == 0 {
			d, err = records.Prepare(ctx, parent, in.Options)
		} else {
			d, err = records.PrepareOn(ctx, drafts[i-1], in.Options)
		}
		if i > 0 && errors.Is(err, errdefs.ErrUnsupported) {
			return drafts, errNotSideBySide
		}
		if err != nil {
			return drafts, describeLayer(in.Options.ID, err)
		}
		drafts = append(drafts, d)
	}
	return drafts, nil
}

// fillSideBySide unpacks the tars.
func fillSideBySide(ctx context.Context, drafts []*layers.Draft, chain []LayerImport) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, min(max(runtime.GOMAXPROCS(0), 2), 4))
	var filling sync.WaitGroup
	for i, d := range drafts {
		places <- struct{}{}
		filling.Go(func() {
			defer func() { <-places }()
			if err := d.Fill(ctx, chain[i].Tar, chain[i].Progress); err != nil {
				// the first error is the one that counts: the others' are of its making
				cancel(describeLayer(chain[i].Options.ID, err))
			}
		})
	}
	filling.Wait()
	return context.Cause(ctx)
}

// addTogether makes the drafts layers, all or none.
func addTogether(ctx context.Context, r *roots.Roots, parent *layers.Layer,
	drafts []*layers.Draft) (made []layers.Layer, err error) {
	err = r.UpdateLayers(ctx, func(l *layers.WriteTx, c *containers.ReadTx) error {
		if err := checkParent(parent, c); err != nil {
			return err
		}
		made = nil
		for _, d := range drafts {
			layer, err := l.Add(ctx, d)
			if err != nil {
				return err
			}
			made = append(made, layer)
		}
		if err := l.Records().Save(); err != nil {
			return fmt.Errorf("record %d layers: %w", len(made), err)
		}
		for _, d := range drafts {
			d.Recorded()
		}
		step.Reached(ctx, "layers recorded")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}
