package store_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/dedup"
)

// Where files can't share blocks, as on tmpfs, that is said, and layers that are gone are
// passed over.
func TestDedupNeedsSharedBlocks(t *testing.T) {
	ctx := t.Context()
	s := open(t, roots(t))
	importLayer(t, s, id("one"), "", richTar(t, "same"))
	importLayer(t, s, id("two"), "", richTar(t, "same"))
	for _, top := range []string{"one", "two"} {
		if _, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: id(top)}); err != nil {
			t.Fatal(err)
		}
	}
	if shared, err := dedup.Images(ctx, s, dedup.Size); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("%d, %v", shared, err)
	}
}
