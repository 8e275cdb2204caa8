package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
)

// FuzzApply applies any bytes beside sentinels. Whatever comes: nothing outside changes,
// nothing panics or hangs, an error is of the class for bad input, and what was accepted
// is what archive/tar reads and comes back from the tar-split file as it came.
func FuzzApply(f *testing.F) {
	testutil.Root(f)
	base := f.TempDir()
	sentinels(f, base)
	before := sentinelState(f, base)
	for _, h := range allHostile() {
		if data := h.archive(filepath.Join(base, "outside")); len(data) < 20<<10 {
			f.Add(data, byte(h.form))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, form byte) {
		layer := filepath.Join(base, "layer")
		if err := os.Mkdir(layer, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(layer)
		split, err := os.Create(filepath.Join(t.TempDir(), "split"))
		if err != nil {
			t.Fatal(err)
		}
		defer split.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		opts := apply.Options{Whiteouts: archive.WhiteoutForm(form % 4),
			Limits: archive.Limits{MaxBytes: 16 << 20, MaxEntries: 1000}}
		res, err := apply.Tar(ctx, layer, bytes.NewReader(data), split, opts)
		if lines := testutil.Diff(before, withoutLayer(sentinelState(t, base))); len(lines) > 0 {
			t.Fatalf("outside of the layer something has changed:\n%s", strings.Join(lines, "\n"))
		}
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Fatalf("%v is not errdefs.ErrInvalid", err)
			}
			return
		}
		plain := data
		if res.Compression != compress.None {
			r, _, err := compress.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if plain, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if int64(len(plain)) != res.DiffSize {
			t.Fatalf("DiffSize is %d, the stream has %d", res.DiffSize, len(plain))
		}
		sameReplay(t, plain, layer, split.Name())
		if n, err := countMembers(plain); err != nil || n != res.Entries {
			t.Fatalf("archive/tar reads %d members, %v; Apply %d", n, err, res.Entries)
		}
	})
}

func withoutLayer(state map[string]string) map[string]string {
	delete(state, "entry layer")
	return state
}

// countMembers counts what archive/tar reads.
func countMembers(data []byte) (n int64, err error) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		_, err := r.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n++
	}
}
