package faults

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

const secret = "what-nobody-may-see"

var (
	base   = strings.Repeat("b", 64)
	top    = strings.Repeat("d", 64)
	image  = strings.Repeat("1", 64)
	box    = strings.Repeat("c", 64)
	boxTop = strings.Repeat("e", 64)
)

// victim is a store with one of everything, a copy of it as it was, and something outside
// that must not change.
type victim struct {
	dir, outside string
	cfg          config.Config
	before       map[string]string // outside
	soiled       bool              // the store isn't as it was
}

func newVictim(tb testing.TB) *victim {
	tb.Helper()
	testutil.Root(tb)
	v := &victim{dir: tb.TempDir()}
	must(tb, unix.Mount("tmpfs", v.dir, "tmpfs", 0, "mode=0755,size=64m"))
	tb.Cleanup(func() { unix.Unmount(v.dir, unix.MNT_DETACH) })
	tb.Cleanup(func() { testutil.UnmountBelow(v.dir) })
	v.cfg = config.Config{GraphRoot: v.dir + "/store/root", RunRoot: v.dir + "/store/run", Driver: "overlay"}
	s, err := store.Open(tb.Context(), v.cfg)
	must(tb, err)
	_, err = s.ImportLayer(tb.Context(), layers.CreateOptions{ID: base, Names: []string{"base"}},
		bytes.NewReader(smallTar(tb, "hosts")), nil)
	must(tb, err)
	must(tb, s.SetLayerBigData(tb.Context(), base, "key", strings.NewReader("data")))
	_, err = s.ImportLayer(tb.Context(), layers.CreateOptions{ID: top, Parent: base},
		bytes.NewReader(smallTar(tb, "hosts")),
		nil)
	must(tb, err)
	_, err = s.CreateImage(tb.Context(), store.ImageOptions{ID: image, Names: []string{"image"}, TopLayer: top,
		BigData: []images.Item{{Key: "key", Data: []byte("data")}}})
	must(tb, err)
	_, err = s.CreateContainer(tb.Context(), store.ContainerOptions{ID: box, Layer: boxTop, Image: image})
	must(tb, err)
	must(tb, s.Close())
	must(tb, os.MkdirAll(v.cfg.RunRoot+"/overlay-layers", 0o700))
	must(tb, exec.Command("cp", "-a", v.dir+"/store", v.dir+"/pristine").Run())
	v.outside = v.dir + "/outside"
	testutil.Tree(tb, v.outside, "file="+secret, "diff/"+secret+"=x", "l/", "key="+secret)
	v.before = testutil.Snapshot(tb, v.outside)
	return v
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// smallTar has two files of one content, five bytes.
func smallTar(tb testing.TB, content string) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{"etc/", "etc/hosts", "etc/motd"} {
		h := tar.Header{Name: name, Mode: 0o755, Size: 5, Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)}
		if strings.HasSuffix(name, "/") {
			h.Size, h.Typeflag = 0, tar.TypeDir
		}
		must(tb, w.WriteHeader(&h))
		_, err := w.Write([]byte(content)[:h.Size])
		must(tb, err)
	}
	must(tb, w.Close())
	return out.Bytes()
}

// reset makes the store what it was.
func (v *victim) reset(t *testing.T) {
	t.Helper()
	if !v.soiled {
		return
	}
	must(t, testutil.UnmountBelow(v.dir+"/store"))
	must(t, os.RemoveAll(v.dir+"/store"))
	must(t, exec.Command("cp", "-a", v.dir+"/pristine", v.dir+"/store").Run())
	v.soiled = false
}

// sentinel fails the test if anything outside of the store has changed.
func (v *victim) sentinel(t *testing.T) {
	t.Helper()
	testutil.SameTree(t, v.before, testutil.Snapshot(t, v.outside))
}

// try calls fn with the store opened anew. It must end in time, and an error must have a
// class that callers can tell.
func (v *victim) try(t *testing.T, what string, fn func(ctx context.Context, s *store.Store) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, v.cfg)
	if err == nil {
		err = errors.Join(fn(ctx, s), s.Close())
	}
	if ctx.Err() != nil {
		t.Fatalf("%s hangs: %v", what, err)
	}
	if err != nil && !slices.ContainsFunc(classes, func(class error) bool { return errors.Is(err, class) }) {
		t.Fatalf("%s: an error without a class: %v", what, err)
	}
	return err
}

var classes = []error{errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrInUse, errdefs.ErrDuplicateID,
	errdefs.ErrDuplicateName, errdefs.ErrUnsupported, errdefs.ErrReadOnly, errdefs.ErrCorrupt}

// look lists all records, checks the store, and reads a layer, mounted or not.
func (v *victim) look(t *testing.T, id string, mounted bool) {
	t.Helper()
	var shown bytes.Buffer
	_ = v.try(t, "list", func(ctx context.Context, s *store.Store) error {
		return s.View(ctx, func(tx *store.ReadTx) error {
			_, err := tx.Layers()
			_, err2 := tx.Images()
			_, err3 := tx.Containers()
			return errors.Join(err, err2, err3)
		})
	})
	_ = v.try(t, "check", func(ctx context.Context, s *store.Store) error {
		_, err := fsck.Check(ctx, s, fsck.CheckOptions{})
		return err
	})
	if mounted {
		_ = v.try(t, "mount", func(ctx context.Context, s *store.Store) error {
			path, err := s.Mount(ctx, id, store.MountOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			err = filepath.WalkDir(path, func(name string, _ fs.DirEntry, _ error) error {
				shown.WriteString(name)
				return nil
			})
			_, uerr := s.Unmount(ctx, id, false)
			return errors.Join(err, uerr)
		})
	} else {
		_ = v.try(t, "diff", func(ctx context.Context, s *store.Store) error {
			return s.Diff(ctx, &shown, id, "", store.DiffOptions{})
		})
	}
	if strings.Contains(shown.String(), secret) {
		t.Fatal("what is outside is shown")
	}
	v.sentinel(t)
}

// repair checks and repairs.
func (v *victim) repair(t *testing.T) {
	t.Helper()
	_ = v.try(t, "repair", func(ctx context.Context, s *store.Store) error {
		report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
		if err != nil {
			return err
		}
		_, err = fsck.Repair(ctx, s, report, fsck.RepairOptions{})
		return err
	})
	v.sentinel(t)
}
