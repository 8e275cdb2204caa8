package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/naming"
)

// maxInfo bounds a record that an additional layer store gives. The sets of IDs are the
// longest part of one.
const maxInfo = 1 << 20

// ReadInfo reads what an additional layer store knows of a layer: its digests, sizes,
// compression and IDs. Everything else in the record is its reader's to decide. A record
// that isn't sound is errdefs.ErrInvalid.
func ReadInfo(layer drivers.AdditionalLayer) (Layer, error) {
	r, err := layer.Info()
	if err != nil {
		return Layer{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxInfo+1))
	if err != nil {
		return Layer{}, fmt.Errorf("read the additional layer's info: %w", err)
	}
	if len(data) > maxInfo {
		return Layer{}, fmt.Errorf("the additional layer's info: %w: longer than %d bytes", errdefs.ErrInvalid, maxInfo)
	}
	var info Layer
	if err := json.Unmarshal(data, &info); err != nil {
		return Layer{}, fmt.Errorf("the additional layer's info: %w: %w", errdefs.ErrInvalid, err)
	}
	for _, d := range []digest.Digest{info.CompressedDigest, info.DiffID, info.TOCDigest} {
		if d == "" {
			continue
		}
		if err := d.Validate(); err != nil {
			return Layer{}, fmt.Errorf("the additional layer's info: %w: digest %q: %w", errdefs.ErrInvalid, d, err)
		}
	}
	return Layer{
		CompressedDigest: info.CompressedDigest, CompressedSize: info.CompressedSize,
		DiffID: info.DiffID, DiffSize: info.DiffSize, TOCDigest: info.TOCDigest,
		Compression: info.Compression, UIDs: info.UIDs, GIDs: info.GIDs,
	}, nil
}

// PrepareAdditional stages a layer on top of parent, nil for a base layer, that shows a
// layer of an additional layer store and has its digests. Of opts, ID, Names and Metadata
// count.
func (s *Store) PrepareAdditional(ctx context.Context, parent *Layer, layer drivers.AdditionalLayer,
	opts CreateOptions) (*Draft, error) {
	record, err := ReadInfo(layer)
	if err != nil {
		return nil, err
	}
	record.Names, record.Metadata = naming.Dedupe(opts.Names), opts.Metadata
	d := &Draft{store: s, opts: opts, record: record}
	if parent != nil {
		d.record.Parent, d.lower, d.lowerMapping = parent.ID, parent.ID, parent.Mapping()
	}
	if !d.lowerMapping.IsIdentity() {
		return nil, fmt.Errorf("additional layer on %s, which has an ID mapping: %w", d.lower, errdefs.ErrUnsupported)
	}
	if d.staged, err = layer.Stage(ctx, d.lower); err != nil {
		return nil, err
	}
	return d, nil
}

// additionalBlob opens the compressed tar of a layer that shows one of an additional
// layer store; nil for other layers.
func (s *Store) additionalBlob(ctx context.Context, id string) (blob io.ReadCloser, release func(), err error) {
	d, ok := s.driver.(drivers.AdditionalLayers)
	if !ok {
		return nil, nil, nil
	}
	layer, err := d.AdditionalOf(ctx, id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if blob, err = layer.Blob(); err != nil {
		layer.Release()
		return nil, nil, err
	}
	return blob, func() { blob.Close(); layer.Release() }, nil
}

// writeBlob writes a layer's compressed tar, as it is where it has the compression
// wanted.
func (c *comparison) writeBlob(ctx context.Context, w io.Writer, blob io.Reader, compression compress.Kind,
	opts DiffOptions) error {
	if compression == c.to.Compression {
		_, err := io.Copy(&meter{w: whileAlive{ctx, w}, report: opts.Progress}, blob)
		return err
	}
	tar, _, err := compress.NewReader(blob)
	if err != nil {
		return err
	}
	defer tar.Close()
	compressed, err := compress.NewWriter(w, compression)
	if err != nil {
		return err
	}
	_, err = io.Copy(&meter{w: whileAlive{ctx, compressed}, report: opts.Progress}, tar)
	return errors.Join(err, compressed.Close())
}

// whileAlive is a writer until its context ends.
type whileAlive struct {
	ctx context.Context
	w   io.Writer
}

func (a whileAlive) Write(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.w.Write(p)
}
