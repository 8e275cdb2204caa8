package layers

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/step"
)

// Found is a layer whose record is lost, as its files describe it: what lies beneath it,
// the digest of its tar, its data items. What only the record knew, its names, metadata,
// label and the digest of the compressed blob, is not among that.
type Found struct {
	record  Layer
	content string // where its files are
}

// Parent is the ID of the layer beneath.
func (f Found) Parent() string { return f.record.Parent }

// Find describes the layer from its files, without a lock. mapping is that of its owners.
// A layer whose content isn't that of its recipe is errdefs.ErrCorrupt.
func (s *Store) Find(ctx context.Context, id string, mapping idtools.Mapping) (Found, error) {
	found := Found{record: Layer{ID: id, UIDMap: mapping.UIDs, GIDMap: mapping.GIDs}}
	fail := func(err error) (Found, error) {
		return Found{}, fmt.Errorf("layer %s: describe it from its files: %w", id, err)
	}
	info, err := s.driver.Stat(ctx, id)
	if err != nil {
		return fail(err)
	}
	found.record.Parent, found.content = info.Parent, info.Content
	if found.record.BigDataNames, err = keysIn(s.dataDir(id)); err != nil {
		return fail(err)
	}
	recipe, err := openRecipe(s.tarSplitPath(id))
	if err != nil {
		return fail(err)
	}
	if recipe == nil {
		return found, nil
	}
	defer recipe.Close()
	v, err := archive.Verify(ctx, recipe, archive.VerifyOptions{
		Content: append([]string{info.Content}, info.Lower...),
		Own:     append([]string{info.Content}, generations(info)...),
		Partial: true, Whiteouts: s.cfg.Apply.Whiteouts, IDMap: mapping, AnyOwner: true, AnyTime: true, ForceMask: true,
		NoDevices: true,
	})
	if err != nil {
		return fail(err)
	}
	if !v.Exact() {
		return fail(fmt.Errorf("%w: %s", errdefs.ErrCorrupt, v.Damages[0]))
	}
	found.record.DiffID, found.record.DiffSize = v.DiffID, v.DiffSize
	found.record.UIDs, found.record.GIDs = v.UIDs, v.GIDs
	return found, nil
}

// keysIn reads the keys of data items off their file names, as far as these tell (package
// bigdata).
func keysIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var keys []string
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".tmp-") {
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

// Adopt gives a layer that was found a record, and saves it. Its parent must have one by
// then.
func (tx *WriteTx) Adopt(ctx context.Context, f Found) error {
	if f.record.Parent != "" {
		if _, err := tx.Get(f.record.Parent); err != nil {
			return fmt.Errorf("layer %s: parent: %w", f.record.ID, err)
		}
	}
	f.record.Created = time.Now().UTC()
	file := tx.store.files.stable
	if dir := tx.store.cfg.ImageDir; dir != "" && strings.HasPrefix(f.content, filepath.Dir(dir)+"/") {
		file = tx.store.files.image
	}
	if err := tx.records.Insert(f.record, file); err != nil {
		return err
	}
	if err := tx.records.Save(); err != nil {
		return err
	}
	step.Reached(ctx, "lost layer recorded")
	return nil
}
