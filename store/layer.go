package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// Layers returns all layers in the order of their files, those of additional stores last.
func (s *Store) Layers(ctx context.Context) ([]layers.Layer, error) {
	return viewLayer(ctx, s, (*layers.ReadTx).All)
}

// Layer finds a layer by ID, name or unique ID prefix; errdefs.ErrNotFound when there is
// none.
func (s *Store) Layer(ctx context.Context, ref string) (layers.Layer, error) {
	return viewLayer(ctx, s, func(tx *layers.ReadTx) (layers.Layer, error) { return tx.Lookup(ref) })
}

// LayersByCompressedDigest returns the layers whose blob has the digest; none is
// errdefs.ErrNotFound.
func (s *Store) LayersByCompressedDigest(ctx context.Context, d digest.Digest) ([]layers.Layer, error) {
	return s.layersBy(ctx, d, (*layers.ReadTx).ByCompressedDigest)
}

// LayersByDiffID returns the layers whose uncompressed tar has the digest; none is
// errdefs.ErrNotFound.
func (s *Store) LayersByDiffID(ctx context.Context, d digest.Digest) ([]layers.Layer, error) {
	return s.layersBy(ctx, d, (*layers.ReadTx).ByDiffID)
}

// LayersByTOCDigest returns the layers that came by this table of contents; none is
// errdefs.ErrNotFound.
func (s *Store) LayersByTOCDigest(ctx context.Context, d digest.Digest) ([]layers.Layer, error) {
	return s.layersBy(ctx, d, (*layers.ReadTx).ByTOCDigest)
}

func (s *Store) layersBy(ctx context.Context, d digest.Digest,
	find func(*layers.ReadTx, digest.Digest) ([]layers.Layer, error)) ([]layers.Layer, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w: %w", d, errdefs.ErrInvalid, err)
	}
	found, err := viewLayer(ctx, s, func(tx *layers.ReadTx) ([]layers.Layer, error) { return find(tx, d) })
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("layer with digest %s: %w", d, errdefs.ErrNotFound)
	}
	return found, err
}

// viewLayer is View of the layers alone, for functions with a result.
func viewLayer[T any](ctx context.Context, s *Store, fn func(*layers.ReadTx) (T, error)) (T, error) {
	var result T
	r, err := s.Roots(ctx)
	if err != nil {
		return result, err
	}
	err = r.Layers.View(ctx, func(tx *layers.ReadTx) (err error) {
		result, err = fn(tx)
		return err
	})
	return result, err
}

// CreateLayer makes an empty layer. It survives a power cut from the moment that
// CreateLayer returns, unless it is volatile.
//
// When the ID is taken, the error is errdefs.ErrDuplicateID and the layer that has it is
// returned too; a name that is taken is errdefs.ErrDuplicateName, a parent that doesn't
// exist errdefs.ErrNotFound, one that is a container's layer errdefs.ErrInvalid.
//
// With an ID mapping that differs from the parent's, and a driver that can't translate
// owners while mounting, all that is beneath the layer is copied into it with translated
// owners.
func (s *Store) CreateLayer(ctx context.Context, opts layers.CreateOptions) (layers.Layer, error) {
	return s.putLayer(ctx, opts, nil, nil)
}

// ImportLayer makes a layer from a tar, which may be compressed. It unpacks without a
// lock, then makes the layer appear; when it returns nil the layer survives a power cut.
// When it fails, for whatever reason, or ctx ends, nothing of the layer is left.
// progress, when not nil, is called now and then with the bytes of r read so far.
//
// Errors are those of CreateLayer; input that is no tar, or breaks a limit, is
// errdefs.ErrInvalid. A duplicate ID or name is found before r is read.
//
// Of several that import a layer with the same ID at the same time, here or in other
// processes, one does the work: the others wait for it and then find the ID taken, or, if
// it failed, the next one begins.
func (s *Store) ImportLayer(ctx context.Context, opts layers.CreateOptions, r io.Reader,
	progress func(read int64)) (layers.Layer, error) {
	if opts.ID != "" {
		roots, err := s.Roots(ctx)
		if err != nil {
			return layers.Layer{}, err
		}
		release, err := roots.Layers.Claim(ctx, opts.ID)
		if err != nil {
			return layers.Layer{}, describeLayer(opts.ID, err)
		}
		defer release()
	}
	return s.putLayer(ctx, opts, r, progress)
}

func (s *Store) putLayer(ctx context.Context, opts layers.CreateOptions, r io.Reader,
	progress func(read int64)) (layers.Layer, error) {
	return s.addLayer(ctx, opts, func(roots *roots.Roots, parent *layers.Layer) (*layers.Draft, error) {
		d, err := roots.Layers.Prepare(ctx, parent, opts)
		if err == nil && r != nil {
			if err = d.Fill(ctx, r, progress); err != nil {
				_ = d.Close() // what can't be removed is stale, and goes with the next writer
			}
		}
		return d, err
	})
}

// addLayer makes a layer of what prepare stages while nobody holds a lock.
func (s *Store) addLayer(ctx context.Context, opts layers.CreateOptions,
	prepare func(*roots.Roots, *layers.Layer) (*layers.Draft, error)) (created layers.Layer, err error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return layers.Layer{}, err
	}
	var parent *layers.Layer
	err = roots.ViewLayers(ctx, func(l *layers.ReadTx, c *containers.ReadTx) error {
		if created, err = l.CheckFree(opts.ID, opts.Names); err != nil {
			return err
		}
		parent, err = findParent(l, c, opts.Parent)
		return err
	})
	if err != nil {
		return created, err
	}
	if err := roots.PrepareHome(ctx); err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	d, err := prepare(roots, parent)
	if err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	defer d.Close() // as above
	if err := d.SyncOrPostpone(ctx); err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	err = roots.UpdateLayers(ctx, func(l *layers.WriteTx, c *containers.ReadTx) error {
		if parent != nil {
			if err := checkParent(parent.ID, c); err != nil {
				return err
			}
		}
		created, err = l.Commit(ctx, d)
		return err
	})
	return created, err
}

// findParent finds the layer that a new one is to lie on; nil for none.
func findParent(l *layers.ReadTx, c *containers.ReadTx, ref string) (*layers.Layer, error) {
	if ref == "" {
		return nil, nil
	}
	parent, err := l.Lookup(ref)
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	return &parent, checkParent(parent.ID, c)
}

// checkParent refuses a container's layer as a parent: it is written to.
func checkParent(id string, c *containers.ReadTx) error {
	owner, err := c.ByLayer(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("parent %s: %w: it is the layer of container %s", id, errdefs.ErrInvalid, owner.ID)
}

// describeLayer says which layer an error is about, if that has an ID yet.
func describeLayer(id string, err error) error {
	if id == "" {
		return fmt.Errorf("new layer: %w", err)
	}
	return fmt.Errorf("layer %s: %w", id, err)
}

// ApplyDiff unpacks a tar, which may be compressed, onto the content of a layer that
// exists, and returns the bytes of the files written. The layer is as it was or as it was
// to be, whatever happens on the way, and after nil it survives a power cut. progress is
// that of ImportLayer.
//
// A layer that is mounted gets the files through its mount, one by one, where its users
// see each as it comes and an error leaves some. It is errdefs.ErrInUse if a layer above
// is mounted, errdefs.ErrBusy if the layer was changed meanwhile, and errdefs.ErrInvalid
// for input that is no tar.
func (s *Store) ApplyDiff(ctx context.Context, ref string, r io.Reader,
	progress func(read int64)) (size int64, err error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	return roots.Layers.Apply(ctx, ref, r, progress)
}
