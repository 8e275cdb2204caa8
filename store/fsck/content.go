package fsck

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// checkContent reads the content of layers and the data items of images and containers,
// several at a time and without locks.
func (c *checker) checkContent(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var jobs []func() error
	progress := progress{report: c.opts.Progress}
	for _, layer := range c.layers {
		if !c.unreadable[layer.ID] && (c.content == nil || c.content[layer.ID]) {
			progress.total += max(layer.DiffSize, 0)
			jobs = append(jobs, func() error { return c.layerContent(ctx, layer, &progress) })
		}
	}
	for _, item := range c.items() {
		jobs = append(jobs, func() error {
			bad, err := item.damaged(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err == nil && !bad && item.owner.Kind == KindImage && isManifest(item.key) {
				if why := item.noManifest(); why != nil {
					c.note(KindImage, item.owner.ID, "its data item %q keeps Podman from listing images: %v",
						item.key, why)
				}
			}
			if bad {
				c.badItem(item.owner, item.readOnly, item.key, string(item.owner.Kind)+
					" data item has another content than was recorded")
			}
			return err
		})
	}
	workers := c.opts.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 4)
	}
	queue := make(chan func() error)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for job := range queue {
				if err := job(); err != nil {
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

// progress adds up what the readers of several layers report.
type progress struct {
	report func(done, total int64)

	mu          sync.Mutex // guards what follows, and calls of report
	done, total int64
}

// of returns what counts the bytes read of one layer, from 0 to its size.
func (p *progress) of(size int64) func(int64) {
	last := int64(0)
	return func(n int64) {
		if p.report == nil {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		n = min(n, size)
		p.done += n - last
		last = n
		p.report(p.done, p.total)
	}
}

func (c *checker) layerContent(ctx context.Context, layer layers.Layer, p *progress) error {
	size := max(layer.DiffSize, 0)
	report := p.of(size)
	defer report(size)
	verdict, err := c.verify(ctx, layer.ID, report)
	if errors.Is(err, errdefs.ErrCorrupt) {
		return nil // its directory is damaged, and the survey has said so
	}
	if err != nil {
		return err
	}
	remedy := c.or(RemedyRebuild, Object{KindLayer, layer.ID})
	if layer.DiffID == "" {
		remedy = RemedyDelete
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	add := func(remedy Remedy, format string, args ...any) *Finding {
		f := c.add(KindLayer, layer.ID, remedy, format, args...)
		f.exact = verdict.exact
		f.inOther(layer.ReadOnly)
		return f
	}
	for _, d := range verdict.Damages {
		if d.Content {
			add(remedy, "layer content incorrect digest: %s", d)
		} else {
			add(remedy, "%s, layer content modified", d)
		}
	}
	if verdict.More > 0 {
		add(remedy, "%d more differences", verdict.More)
	}
	switch {
	case verdict.size > 0:
		add(RemedyRecord, "layer content incorrect size: %s", verdict.digest).fix = c.editLayer(layer.ID,
			fmt.Sprintf("recorded %d bytes as the size of its tar", verdict.size), func(l *layers.Layer) {
				l.DiffSize = verdict.size
			})
	case verdict.digest != "" && layer.DiffID.Validate() != nil:
		add(RemedyRecord, "layer content incorrect digest: %s", verdict.digest).fix = c.editLayer(layer.ID,
			fmt.Sprintf("recorded %s as the digest of its tar", verdict.DiffID), func(l *layers.Layer) {
				l.DiffID, l.DiffSize = verdict.DiffID, verdict.DiffSize
			})
	case verdict.digest != "":
		add(remedy, "layer content incorrect digest: %s", verdict.digest)
	}
	return nil
}
