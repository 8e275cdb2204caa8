package dedup_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/dedup"
	"github.com/shalestore/shale/tests/storetest"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// Where files can't share blocks, as on tmpfs, that is said, and layers that are gone are
// passed over.
func TestDedupNeedsSharedBlocks(t *testing.T) {
	ctx := t.Context()
	s := storetest.Open(t, storetest.Roots(t))
	storetest.Import(t, s, storetest.ID("one"), "", storetest.RichTar(t, "same"))
	storetest.Import(t, s, storetest.ID("two"), "", storetest.RichTar(t, "same"))
	for _, top := range []string{"one", "two"} {
		if _, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: storetest.ID(top)}); err != nil {
			t.Fatal(err)
		}
	}
	if shared, err := dedup.Images(ctx, s, dedup.Size); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("%d, %v", shared, err)
	}
}
