package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

// untouched is input that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the input was read")
	return 0, io.EOF
}

// interrupted calls fn when so many bytes of data have been read.
type interrupted struct {
	data  *bytes.Reader
	after int
	fn    func()
}

func (r *interrupted) Read(p []byte) (int, error) {
	n, err := r.data.Read(p[:min(len(p), 512)])
	if r.after -= n; r.after <= 0 && r.fn != nil {
		r.fn()
		r.fn = nil
	}
	return n, err
}

// What is wrong with a request is found before any work is done, and the error's class
// says what.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	image(t, s)
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box"}, Image: "img"})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		opts layers.CreateOptions
		want error
	}{
		"an ID that is taken":           {layers.CreateOptions{ID: id("base")}, errdefs.ErrDuplicateID},
		"a name that is taken":          {layers.CreateOptions{Names: []string{"x", "base"}}, errdefs.ErrDuplicateName},
		"a parent that doesn't exist":   {layers.CreateOptions{Parent: "nobody"}, errdefs.ErrNotFound},
		"a container's layer as parent": {layers.CreateOptions{Parent: c.LayerID}, errdefs.ErrInvalid},
		"an ID that is a path":          {layers.CreateOptions{ID: "../../etc"}, errdefs.ErrInvalid},
		"an ID that means something":    {layers.CreateOptions{ID: "tempdirs"}, errdefs.ErrInvalid},
		"a mapping of no IDs": {layers.CreateOptions{Parent: "base",
			IDMap: idtools.Mapping{UIDs: []idtools.Map{{HostID: 1}}}}, errdefs.ErrInvalid},
		"a key that is a path": {layers.CreateOptions{
			BigData: []layers.Item{{Key: "..", Data: strings.NewReader("")}}}, errdefs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.ImportLayer(ctx, try.opts, untouched{t}, nil); !errors.Is(err, try.want) {
				t.Errorf("got %v, want %v", err, try.want)
			}
		})
	}
	existing, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id("base")}, untouched{t}, nil)
	if existing.ID != id("base") || len(existing.Names) != 1 || err == nil {
		t.Errorf("the layer that has the ID isn't returned: %+v, %v", existing, err)
	}
	for name, try := range map[string]struct {
		do   func() error
		want error
	}{
		"an image's layer":    {func() error { return s.DeleteLayer(ctx, "base", byForce) }, errdefs.ErrInUse},
		"a container's layer": {func() error { return s.DeleteLayer(ctx, c.LayerID, byForce) }, errdefs.ErrInUse},
		"a container's image": {func() error { _, err := s.DeleteImage(ctx, "img", store.DeleteOptions{}); return err },
			errdefs.ErrInUse},
		"an image that doesn't exist": {func() error { _, err := s.DeleteImage(ctx, "box", plainly); return err },
			errdefs.ErrNotFound},
		"a container of a taken name": {func() error {
			_, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box"}})
			return err
		}, errdefs.ErrDuplicateName},
		"a container of no image": {func() error {
			_,
				err := s.CreateContainer(ctx, store.ContainerOptions{Image: "x"})
			return err
		}, errdefs.ErrNotFound},
		"an image of a taken ID": {func() error {
			_,
				err := s.CreateImage(ctx, store.ImageOptions{ID: id("img")})
			return err
		}, errdefs.ErrDuplicateID},
		"an image of a bad digest": {func() error {
			_,
				err := s.CreateImage(ctx, store.ImageOptions{Digest: "sha256:../x"})
			return err
		}, errdefs.ErrInvalid},
		"half a pair of labels": {func() error {
			_, err := s.CreateContainer(ctx, store.ContainerOptions{Flags: map[string]any{"MountLabel": "x"}})
			return err
		}, errdefs.ErrInvalid},
		"a data item that isn't there": {func() error { _, err := imageData(s, "img", "manifest"); return err },
			errdefs.ErrNotFound},
		"anything that doesn't exist": {func() error { return s.Delete(ctx, "x", byForce) }, errdefs.ErrNotFound},
		"names of what doesn't exist": {func() error {
			return change(s,
				func(tx *store.WriteTx) error { return tx.AddNames("x", "y") })
		}, errdefs.ErrNotFound},
		"a mount of what doesn't exist": {func() error {
			_,
				err := s.Mount(ctx, "x", store.MountOptions{})
			return err
		}, errdefs.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if err := try.do(); !errors.Is(err, try.want) {
				t.Errorf("got %v, want %v", err, try.want)
			}
		})
	}
	noGarbage(t, s)
}

// An import that fails leaves nothing, whatever makes it fail.
func TestFailedImportLeavesNothing(t *testing.T) {
	for name, try := range map[string]struct {
		opts layers.CreateOptions
		in   func(s *store.Store, cancel func(), tar []byte) io.Reader
		want error
	}{
		"cancelled": {
			in: func(_ *store.Store, cancel func(), tar []byte) io.Reader {
				return &interrupted{data: bytes.NewReader(tar), after: len(tar) / 2, fn: cancel}
			},
			want: context.Canceled,
		},
		"truncated": {
			in:   func(_ *store.Store, _ func(), tar []byte) io.Reader { return bytes.NewReader(tar[:len(tar)/2-100]) },
			want: io.ErrUnexpectedEOF,
		},
		"another digest": {
			opts: layers.CreateOptions{DiffID: digest.FromString("something else")},
			in:   func(_ *store.Store, _ func(), tar []byte) io.Reader { return bytes.NewReader(tar) },
			want: errdefs.ErrInvalid,
		},
		"the parent goes": {
			opts: layers.CreateOptions{Parent: "base"},
			in: func(s *store.Store, _ func(), tar []byte) io.Reader {
				return &interrupted{data: bytes.NewReader(tar), after: len(tar) / 2, fn: func() {
					if err := s.DeleteLayer(context.Background(), "base", byForce); err != nil {
						t.Error(err)
					}
				}}
			},
			want: errdefs.ErrNotFound,
		},
		"someone else takes the ID": {
			opts: layers.CreateOptions{ID: id("same")},
			in: func(s *store.Store, _ func(), tar []byte) io.Reader {
				return &interrupted{data: bytes.NewReader(tar), after: len(tar) / 2, fn: func() {
					if _, err := s.CreateLayer(context.Background(), layers.CreateOptions{ID: id("same")}); err != nil {
						t.Error(err)
					}
				}}
			},
			want: errdefs.ErrDuplicateID,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			s := open(t, cfg)
			base(t, cfg, s)
			names := []string{"dir/"}
			for n := range 200 {
				names = append(names, "dir/"+strings.Repeat("x", n+1))
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			try.opts.Names = []string{"new"}
			_, err := s.ImportLayer(ctx, try.opts, try.in(s, cancel, layerTar(t, names...)), nil)
			if !errors.Is(err, try.want) {
				t.Fatalf("got %v, want %v", err, try.want)
			}
			if _, err := findLayer(s, "new"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Fatalf("there is a layer: %v", err)
			}
			noGarbage(t, s)
			nothingElse(t, cfg, s)
		})
	}
}

// On a full file system an import fails with the kernel's error and leaves nothing, and
// what was there works and can be deleted.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	disk := testutil.LoopFS(t, "ext4", 32)
	cfg.GraphRoot = filepath.Join(disk, "root")
	s := open(t, cfg)
	base(t, cfg, s)
	var big bytes.Buffer
	if err := writeTar(&big, "big", 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportLayer(ctx, layers.CreateOptions{}, bytes.NewReader(big.Bytes()), nil); !errors.Is(err,
		unix.ENOSPC) {
		t.Fatalf("import: %v", err)
	}
	if all, err := allLayers(s); len(all) != 1 || err != nil {
		t.Fatalf("layers: %v, %v", all, err)
	}
	noGarbage(t, s)
	nothingElse(t, cfg, s)
	if _, err := s.ApplyDiff(ctx, "base", bytes.NewReader(big.Bytes()), nil); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("apply: %v", err)
	}
	whole(t, s, []string{id("base")})
	importLayer(t, s, id("small"), "base", killTar())
	if err := s.DeleteLayer(ctx, id("small"), store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	noGarbage(t, s)
}

// A container that has filled the disk to its last block can be unmounted and mounted, so
// that something can be removed in it. Records take a block, too.
func TestContainerThatFillsTheDisk(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	disk := testutil.LoopFS(t, "ext4", 32)
	cfg.GraphRoot = filepath.Join(disk, "root")
	s := open(t, cfg)
	base(t, cfg, s)
	if _, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"image"}, TopLayer: id("base")}); err != nil {
		t.Fatal(err)
	}
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "image"})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, c.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(path, "f"))
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	f.Close()
	if err := os.Mkdir(filepath.Join(path, "dir"), 0o755); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk isn't full: %v", err)
	}
	for range 2 {
		if _, err := s.Unmount(ctx, c.ID, false); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Mount(ctx, c.ID, store.MountOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(path, "f"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unmount(ctx, c.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "image"}); err != nil {
		t.Error(err)
	}
}

// Nobody loses what is written to a mounted layer to a diff that is applied to it
// meanwhile.
func TestApplyAndMountKeepOutOfEachOthersWay(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("top"), Parent: "base",
		Names: []string{"top"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(ctx, "top", store.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ApplyDiff(ctx, "base", untouched{t}, nil); !errors.Is(err, errdefs.ErrInUse) {
		t.Fatalf("apply to the layer beneath: %v", err)
	}
	if _, err := s.Unmount(ctx, "top", false); err != nil {
		t.Fatal(err)
	}
	tar := killTar()
	write := func() {
		path, err := s.Mount(ctx, "top", store.MountOptions{})
		if err == nil {
			err = os.WriteFile(filepath.Join(path, "precious"), nil, 0o600)
		}
		if _, uerr := s.Unmount(ctx, "top", false); err == nil {
			err = uerr
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, err := s.ApplyDiff(ctx, "top", &interrupted{data: bytes.NewReader(tar), after: 1, fn: write}, nil)
	if !errors.Is(err, errdefs.ErrBusy) {
		t.Fatalf("apply while it was mounted and unmounted: %v", err)
	}
	if changes, err := s.Changes(ctx, "top", ""); err != nil || len(changes) != 1 || changes[0].Path != "/precious" {
		t.Fatalf("changes %v, %v", changes, err)
	}
	if _, err := s.ApplyDiff(ctx, "top", bytes.NewReader(tar), nil); err != nil { // adds to what is there
		t.Fatal(err)
	}
	if changes, err := s.Changes(ctx, "top", ""); err != nil || len(changes) != 3 {
		t.Fatalf("changes %v, %v", changes, err)
	}
	// No tar names the file that was there before, so the layer can't be had from its tar
	// alone, and Check says so.
	report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
	if err != nil || len(report.Findings) != 1 || report.Findings[0].What != "+/precious, layer content modified" {
		t.Fatalf("%+v, %v", report, err)
	}
}

// A diff whose layer is deleted or changed while it is read doesn't pass for a good one.
func TestDiffOfALayerThatGoes(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	for _, split := range []bool{true, false} {
		base(t, cfg, s)
		if !split {
			if err := os.Remove(filepath.Join(cfg.GraphRoot, "overlay-layers", id("base")+
				".tar-split.gz")); err != nil {
				t.Fatal(err)
			}
		}
		deleted := false
		w := writerFunc(func(p []byte) (int, error) {
			if !deleted {
				deleted = true
				if err := s.DeleteLayer(ctx, "base", store.DeleteOptions{Force: true}); err != nil {
					t.Error(err)
				}
			}
			return len(p), nil
		})
		if err := s.Diff(ctx, w, "base", "", store.DiffOptions{}); err == nil {
			t.Fatalf("with split %v: no error", split)
		}
		noGarbage(t, s)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A mount that can't be leaves no mount behind, not even that of the driver's home on
// itself.
func TestMountOfNothingMountsNothing(t *testing.T) {
	testutil.Root(t)
	cfg := roots(t)
	s := open(t, cfg)
	if _, err := s.Mount(t.Context(), "nothing", store.MountOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("mount of a layer that isn't there: %v", err)
	}
	if mounts, err := testutil.MountsBelow(cfg.GraphRoot); err != nil || len(mounts) > 0 {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
}
