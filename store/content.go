package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"golang.org/x/sys/unix"
)

// checkContent reads the content of layers and the data items of images and containers, several at a time and without locks.
func (s *Store) checkContent(ctx context.Context, v *survey, opts CheckOptions, report *Report) error {
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
		jobs = append(jobs, func(ctx context.Context) error { return r.imageItems(ctx, image) })
	}
	for _, container := range v.containers {
		jobs = append(jobs, func(ctx context.Context) error { return r.containerItems(ctx, container) })
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

func (r *reading) add(layer string, remedy Remedy, exact bool, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.add(KindLayer, layer, remedy, format, args...).exact = exact
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
	rooms, err := r.store.open(ctx)
	if err != nil {
		return err
	}
	report, finish := r.progress(max(layer.DiffSize, 0))
	defer finish()
	verdict, err := rooms.layers.Verify(ctx, layer.ID, layers.VerifyOptions{
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
	add := func(format string, args ...any) { r.add(layer.ID, remedy, verdict.Exact, format, args...) }
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
	if verdict.Digest != "" {
		what := "layer content incorrect digest"
		if verdict.Exact {
			what = "layer content incorrect size"
		}
		add("%s: %s", what, verdict.Digest)
	}
	return nil
}

func (r *reading) imageItems(ctx context.Context, image images.Image) error {
	rooms, err := r.store.open(ctx)
	if err != nil {
		return err
	}
	for _, key := range image.BigDataNames {
		path, err := rooms.images.ItemPath(image, key)
		if err != nil {
			continue
		}
		err = r.item(ctx, KindImage, image.ID, key, path, image.BigDataSizes[key], image.BigDataDigests[key], func(ctx context.Context) (digest.Digest, error) {
			var now digest.Digest
			err := rooms.images.View(ctx, func(tx *images.ReadTx) error {
				i, err := tx.Get(image.ID)
				now = i.BigDataDigests[key]
				return err
			})
			return now, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) containerItems(ctx context.Context, container containers.Container) error {
	rooms, err := r.store.open(ctx)
	if err != nil {
		return err
	}
	for _, key := range container.BigDataNames {
		path, err := rooms.containers.ItemPath(container.ID, key)
		if err != nil {
			continue
		}
		err = r.item(ctx, KindContainer, container.ID, key, path, container.BigDataSizes[key], container.BigDataDigests[key], func(ctx context.Context) (digest.Digest, error) {
			var now digest.Digest
			err := rooms.containers.View(ctx, func(tx *containers.ReadTx) error {
				c, err := tx.Get(container.ID)
				now = c.BigDataDigests[key]
				return err
			})
			return now, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// item compares a data item with its recorded digest. current tells the digest that is recorded now: a program may be changing the item.
func (r *reading) item(ctx context.Context, kind Kind, id, key, path string, size int64, want digest.Digest, current func(context.Context) (digest.Digest, error)) error {
	if want == "" || want.Validate() != nil || want.Algorithm() != digest.SHA256 {
		return ctx.Err()
	}
	differs := func() (bool, error) {
		data, err := readItem(path)
		if err != nil || int64(len(data)) != size { // the survey has an eye on these
			return false, err
		}
		return want.Algorithm().FromBytes(data) != want && !ownDigest(key, data), nil
	}
	bad, err := differs()
	if err != nil || !bad {
		return err
	}
	now, err := current(ctx)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && now != want {
		return nil
	}
	if err != nil {
		return err
	}
	if bad, err = differs(); err != nil || !bad {
		return err
	}
	remedy := RemedyRestore
	if r.opts.hopeless[Object{kind, id}] {
		remedy = RemedyDelete
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.add(kind, id, remedy, "%s", describeItem(key, "%s data item has another content than was recorded", kind)).key = key
	return nil
}

// readItem reads a data item; nil for one that isn't there, is no file or is larger than any.
func readItem(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxItem {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxItem))
}

// maxItem bounds, in bytes, what is read into memory of one data item to compare its digest.
const maxItem = 64 << 20

// ownDigest reports whether an item may have a digest that isn't that of its bytes: that of a signed Docker schema 1 manifest leaves the signatures out.
func ownDigest(key string, data []byte) bool {
	if !strings.HasPrefix(key, "manifest") {
		return false
	}
	var manifest struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	return json.NewDecoder(bytes.NewReader(data)).Decode(&manifest) == nil && manifest.SchemaVersion == 1
}
