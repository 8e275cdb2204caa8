package fsck

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shalestore/shale/archive/verify"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
)

// adopt gives layers a record again that have lost it: those beneath first.
func (r *repair) adopt(ctx context.Context, findings []Finding) {
	var others []Finding // which may need the layers
	found := map[string]layers.Layer{}
	var ids []string
	findings = slices.DeleteFunc(findings, func(f Finding) bool {
		if f.Kind != KindLayer {
			others = append(others, f)
		}
		return f.Kind != KindLayer
	})
	for _, f := range findings {
		layer, err := r.describe(ctx, f.ID)
		if err != nil {
			r.failed(f.Object, fmt.Errorf("layer %s: describe it from its files: %w", f.ID, err))
			continue
		}
		found[f.ID] = layer
		ids = append(ids, f.ID)
	}
	for len(ids) > 0 {
		id := ids[0]
		for parent := found[id].Parent; slices.Contains(ids, parent); parent = found[parent].Parent {
			id = parent
			if parent == ids[0] {
				break // a circle, which record refuses
			}
		}
		ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
		if err := r.record(ctx, found[id]); err != nil {
			r.failed(Object{KindLayer, id}, err)
			continue
		}
		step.Reached(ctx, "lost layer recorded")
		r.did(Object{KindLayer, id},
			"made a record for it from its files; names, metadata and the digest of its blob are lost")
	}
	slices.SortStableFunc(others, func(a, b Finding) int { return strings.Compare(string(b.Kind), string(a.Kind)) })
	r.fix(ctx, others) // images, then containers
}

// describe makes a record for a layer from its files, without a lock: what lies beneath
// it, the digest of its tar, its data items. A layer whose content isn't that of its tar
// is errdefs.ErrCorrupt.
func (r *repair) describe(ctx context.Context, id string) (layers.Layer, error) {
	mapping, err := r.mappingFor(ctx, id)
	if err != nil {
		return layers.Layer{}, err
	}
	layer := layers.Layer{ID: id, UIDMap: mapping.UIDs, GIDMap: mapping.GIDs}
	info, err := r.Driver.Stat(ctx, id)
	if err != nil {
		return layer, err
	}
	layer.Parent = info.Parent
	if layer.BigDataNames, err = keysIn(r.Layers.Items(layer)); err != nil {
		return layer, err
	}
	tarSplit, err := r.Layers.OpenTarSplit(layer)
	if tarSplit == nil {
		return layer, err
	}
	defer tarSplit.Close()
	v, err := verify.Layer(ctx, tarSplit, verify.Options{
		Content: append([]string{info.Content}, info.Lower...),
		Own:     append([]string{info.Content}, generations(info)...),
		Partial: true, Whiteouts: r.Layers.Config().Apply.Whiteouts, IDMap: mapping, AnyOwner: true, AnyTime: true,
		ForceMask: true, NoDevices: true,
	})
	if err != nil {
		return layer, err
	}
	if !v.Exact() {
		return layer, fmt.Errorf("%w: %s", errdefs.ErrCorrupt, v.Damages[0])
	}
	layer.DiffID, layer.DiffSize, layer.UIDs, layer.GIDs = v.DiffID, v.DiffSize, v.UIDs, v.GIDs
	return layer, nil
}

// mappingFor is the mapping that the owners of a lost layer have on disk, as far as its
// container tells.
func (r *repair) mappingFor(ctx context.Context, id string) (mapping idtools.Mapping, err error) {
	return mapping, r.Containers.View(ctx, func(tx *containers.ReadTx) error {
		all, err := tx.All()
		for _, c := range all {
			if c.LayerID == id {
				mapping = idtools.Mapping{UIDs: c.UIDMap, GIDs: c.GIDMap}
			}
		}
		return err
	})
}

// keysIn reads the keys of data items off their file names, as far as these tell (package
// bigdata).
func keysIn(dir string) (keys []string, err error) {
	entries, err := readDir(dir)
	for _, e := range entries {
		if !e.Type().IsRegular() || interrupted(e) {
			continue
		}
		key := e.Name()
		if encoded, ok := strings.CutPrefix(key, "="); ok {
			if raw, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				key = string(raw)
			}
		}
		keys = append(keys, key)
	}
	return keys, err
}

// record saves the record of a layer, whose parent must have one by then.
func (r *repair) record(ctx context.Context, layer layers.Layer) error {
	return r.Layers.Update(ctx, func(tx *layers.WriteTx) error {
		if layer.Parent != "" {
			if _, err := tx.Get(layer.Parent); err != nil {
				return fmt.Errorf("layer %s: parent: %w", layer.ID, err)
			}
		}
		layer.Created = time.Now().UTC()
		info, err := r.Driver.Stat(ctx, layer.ID)
		if err != nil {
			return err
		}
		split := r.Config.ImageStore
		return tx.Insert(layer, split != "" && strings.HasPrefix(info.Content, filepath.Clean(split)+"/"))
	})
}
