package graphdriver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/internal/testutil"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/chunked"
	"go.podman.io/storage/pkg/chunked/compressor"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"
)

// blob is a layer as a registry has it, of which any part can be fetched. It counts what
// is.
type blob struct {
	*bytes.Reader
	fetched int64
}

func (b *blob) GetBlobAt(chunks []chunked.ImageSourceChunk) (chan io.ReadCloser, chan error, error) {
	streams, errs := make(chan io.ReadCloser), make(chan error)
	go func() {
		defer close(streams)
		defer close(errs)
		for _, c := range chunks {
			b.fetched += int64(c.Length)
			streams <- io.NopCloser(io.NewSectionReader(b.Reader, int64(c.Offset), int64(c.Length)))
		}
	}()
	return streams, errs, nil
}

// staged is a partial pull of a tar's zstd:chunked form, before it is a layer, and how
// much was fetched for it.
func staged(t *testing.T, s storage.Store, tarball []byte) (*graphdriver.DriverWithDifferOutput, int64) {
	t.Helper()
	var compressed bytes.Buffer
	annotations := map[string]string{}
	w := must[io.WriteCloser](t)(compressor.ZstdCompressor(&compressed, annotations, nil))
	must[int](t)(w.Write(tarball))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	source := &blob{Reader: bytes.NewReader(compressed.Bytes())}
	differ := must[graphdriver.Differ](t)(chunked.NewDiffer(t.Context(), s, digest.FromBytes(compressed.Bytes()),
		int64(compressed.Len()), annotations, source))
	defer differ.Close()
	return must[*graphdriver.DriverWithDifferOutput](t)(s.PrepareStagedLayer(nil, differ)), source.fetched
}

// pull makes a layer of it.
func pull(t *testing.T, s storage.Store, parent string, tarball []byte) (*storage.Layer, int64) {
	t.Helper()
	out, fetched := staged(t, s, tarball)
	return must[*storage.Layer](t)(s.ApplyStagedLayer(storage.ApplyStagedLayerOptions{ParentLayer: parent,
		DiffOutput: out})), fetched
}

// pullInto opens a store that pulls in part, and takes files of other layers by linking
// or by copying them.
func pullInto(t *testing.T, root string, hardLinks bool) storage.Store {
	t.Helper()
	return open(t, root, func(opts *types.StoreOptions) {
		opts.PullOptions = map[string]string{"enable_partial_images": "true",
			"insecure_allow_unpredictable_image_contents": "true",
			"use_hard_links": strconv.FormatBool(hardLinks)}
	})
}

// The library's differ for zstd:chunked puts layers together in our driver, from files
// that layers hold already and what it fetches for the rest: the files are the same ones
// or, without hard links, share their blocks where the file system can.
func TestPartialPull(t *testing.T) {
	for _, c := range []struct {
		fs        string
		hardLinks bool
	}{{"ext4", true}, {"xfs", true}, {"xfs", false}, {"btrfs", false}} {
		t.Run(fmt.Sprintf("%s/hard links %t", c.fs, c.hardLinks), func(t *testing.T) {
			partialPull(t, filepath.Join(testutil.LoopFS(t, c.fs, 320), "store"), c.hardLinks)
		})
	}
}

// So it goes in a user namespace.
func TestPartialPullInUserNamespace(t *testing.T) {
	if testutil.InUserNS(t) {
		partialPull(t, t.TempDir(), true)
	}
}

func partialPull(t *testing.T, root string, hardLinks bool) {
	s := pullInto(t, root, hardLinks)
	big := strings.Repeat("a file that both layers have, and that is large enough to be worth looking for. ", 4000)
	first, all := pull(t, s, "", layerTar(t, "dir/", "", "dir/big", big, "gone", "soon"))
	second, some := pull(t, s, first.ID, layerTar(t, "copy", big, "new", "fetched", ".wh.gone", ""))
	if some >= all {
		t.Errorf("fetched %d bytes for the first layer and %d for the second", all, some)
	}
	if first.TOCDigest == "" || second.TOCDigest == "" {
		t.Errorf("no TOC digests: %+v, %+v", first, second)
	}
	target := must[string](t)(s.Mount(second.ID, ""))
	for name, want := range map[string]string{"dir/big": big, "copy": big, "new": "fetched", "gone": ""} {
		if got, err := os.ReadFile(filepath.Join(target, name)); (err == nil) != (want != "") || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	must[bool](t)(s.Unmount(second.ID, true))
	one, two := filepath.Join(root, "graph/overlay", first.ID, "diff/dir/big"),
		filepath.Join(root, "graph/overlay", second.ID, "diff/copy")
	var a, b unix.Stat_t
	if err := errors.Join(unix.Lstat(one, &a), unix.Lstat(two, &b)); err != nil {
		t.Fatal(err)
	}
	if (a.Ino == b.Ino) != hardLinks {
		t.Errorf("the file that both layers have is inode %d, and %d", a.Ino, b.Ino)
	}
	if a, b := testutil.FirstBlock(t, one), testutil.FirstBlock(t, two); a != b {
		t.Errorf("the file that both layers have is there twice, at %d and %d", a, b)
	}
}

// What isn't wanted after all leaves nothing.
func TestUnwantedPull(t *testing.T) {
	root := t.TempDir()
	s := pullInto(t, root, false)
	out, _ := staged(t, s, layerTar(t, "unwanted", "x"))
	if err := s.CleanupStagedLayer(out); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "graph/overlay/staging")); err != nil || len(left) > 0 {
		t.Errorf("left in staging: %v (%v)", left, err)
	}
}
