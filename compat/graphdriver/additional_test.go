package graphdriver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/types"
)

// The library finds a layer in an additional layer store through our driver, makes a
// layer of it, and exports the store's blob.
func TestAdditionalLayer(t *testing.T) {
	const reference = "registry.example/image:1"
	afar, toc := t.TempDir(), digest.FromString("table of contents")
	dir := filepath.Join(afar, base64.StdEncoding.EncodeToString([]byte(reference)), toc.String())
	if err := os.MkdirAll(filepath.Join(dir, "diff"), 0o755); err != nil {
		t.Fatal(err)
	}
	blob := layerTar(t, "f", "from afar")
	info := must[[]byte](t)(json.Marshal(map[string]any{"toc-digest": toc, "compressed-size": len(blob)}))
	for name, data := range map[string][]byte{"diff/f": []byte("from afar"), "info": info, "blob": blob} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, t.TempDir(), func(opts *types.StoreOptions) {
		opts.GraphDriverOptions = append(opts.GraphDriverOptions, "overlay.additionallayerstore="+afar+":ref")
	})
	if _, err := s.LookupAdditionalLayer(digest.FromString("another"), reference); !errors.Is(err,
		storage.ErrLayerUnknown) {
		t.Errorf("a layer that isn't there: %v", err)
	}
	found := must[storage.AdditionalLayer](t)(s.LookupAdditionalLayer(toc, reference))
	layer := must[*storage.Layer](t)(found.PutAs(strings.Repeat("a", 64), "", nil))
	found.Release()
	child := must[*storage.Layer](t)(s.CreateLayer("", layer.ID, nil, "", true, nil))
	at := must[string](t)(s.Mount(child.ID, ""))
	if got, err := os.ReadFile(filepath.Join(at, "f")); err != nil || string(got) != "from afar" {
		t.Errorf("f is %q, %v", got, err)
	}
	must[bool](t)(s.Unmount(child.ID, false))
	r := must[io.ReadCloser](t)(s.Diff("", layer.ID, nil))
	got, err := io.ReadAll(r)
	r.Close() // the library holds a lock until then
	if err != nil || !bytes.Equal(got, blob) {
		t.Errorf("the diff isn't the blob: %v", err)
	}
	for _, id := range []string{child.ID, layer.ID} {
		if err := s.DeleteLayer(id); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "diff", "f")); err != nil {
		t.Errorf("the layer store's own file: %v", err)
	}
}
