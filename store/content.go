package store

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// checkContent reads the content of layers and the data items of images and containers,
// several at a time and without locks.
func (s *Store) checkContent(ctx context.Context, v *survey, opts CheckOptions, report *Report) error {
	roots, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &reading{store: s, report: report, opts: opts}
	var jobs []func(context.Context) error
	for _, layer := range v.layers {
		if v.unreadable[layer.ID] || opts.content != nil && !opts.content[layer.ID] {
			continue
		}
		r.total += max(layer.DiffSize, 0)
		jobs = append(jobs, func(ctx context.Context) error { return r.layer(ctx, layer) })
	}
	for _, image := range v.images {
		jobs = append(jobs, func(ctx context.Context) error { return r.items(ctx, imageItems(roots.Images, image)) })
	}
	for _, container := range v.containers {
		jobs = append(jobs, func(ctx context.Context) error {
			return r.items(ctx,
				containerItems(roots.Containers, container))
		})
	}
	workers := opts.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 4)
	}
	queue := make(chan func(context.Context) error)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for job := range queue {
				if err := job(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, job := range jobs {
		select {
		case queue <- job:
		case <-ctx.Done():
		}
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// reading is one look at all content.
type reading struct {
	store *Store
	opts  CheckOptions

	mu          sync.Mutex // guards what follows
	report      *Report
	done, total int64
}

// progress counts what a layer's reading reports, which counts from 0.
func (r *reading) progress(size int64) (report func(int64), finish func()) {
	if r.opts.Progress == nil {
		return nil, func() {}
	}
	last := int64(0)
	upTo := func(n int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		n = min(n, size)
		r.done += n - last
		last = n
		r.opts.Progress(r.done, r.total)
	}
	return upTo, func() { upTo(size) }
}

func (r *reading) layer(ctx context.Context, layer layers.Layer) error {
	roots, err := r.store.Roots(ctx)
	if err != nil {
		return err
	}
	report, finish := r.progress(max(layer.DiffSize, 0))
	defer finish()
	verdict, err := roots.Layers.Verify(ctx, layer.ID, layers.VerifyOptions{
		AnyTime:  r.store.cfg.PullOptions.UseHardLinks,
		Progress: report,
	})
	if errors.Is(err, errdefs.ErrCorrupt) {
		return nil // its directory is damaged, and the survey has said so
	}
	if err != nil {
		return err
	}
	remedy := RemedyRebuild
	if layer.DiffID == "" || r.opts.hopeless[Object{KindLayer, layer.ID}] {
		remedy = RemedyDelete
	}
	size := int64(0)
	add := func(format string, args ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		f := r.report.add(KindLayer, layer.ID, remedy, format, args...)
		f.exact = verdict.Exact
		f.size = size
		f.inOther(layer.ReadOnly)
	}
	for _, d := range verdict.Damages {
		if d.Content {
			add("layer content incorrect digest: %s", d)
		} else {
			add("%s, layer content modified", d)
		}
	}
	if verdict.More > 0 {
		add("%d more differences", verdict.More)
	}
	switch {
	case verdict.Size > 0:
		remedy = RemedyRecord
		size = verdict.Size
		add("layer content incorrect size: %s", verdict.Digest)
	case verdict.Digest != "":
		add("layer content incorrect digest: %s", verdict.Digest)
	}
	return nil
}
