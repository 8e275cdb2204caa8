package layers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/layers"
)

// What one Store has written another one finds, by whatever the layer is known by; its
// tar-split file and items lie where containers/storage has them.
func TestRecord(t *testing.T) {
	root, cfg := places(t)
	s := open(t, root, cfg)
	data := tarOf(t, "f", "g")
	base := add(t, s, nil, layers.CreateOptions{ID: id("a"), Names: []string{"one", "two", "one"}}, data)
	top := add(t, s, &base, layers.CreateOptions{
		ID: id("b"), Metadata: "{}", MountLabel: "label",
		BigData: []layers.Item{{Key: "Key", Data: strings.NewReader("item")}},
	}, nil)
	if base.DiffID != digest.FromBytes(data) || base.CompressedDigest != base.DiffID ||
		base.Size() != int64(len(data)) || top.Size() != -1 {
		t.Errorf("base %+v, top %+v", base, top)
	}
	view(t, open(t, root, cfg), func(tx *layers.ReadTx) error {
		for _, ref := range []string{id("a"), "one", "two", "aa"} {
			found, err := tx.Lookup(ref)
			if err != nil || !slices.Equal(found.Names, []string{"one", "two"}) || found.DiffID != base.DiffID ||
				!slices.Equal(found.UIDs, []uint32{0}) {
				t.Errorf("by %q: %+v, %v", ref, found, err)
			}
		}
		for what, find := range map[string]func() ([]layers.Layer, error){
			"DiffID":            func() ([]layers.Layer, error) { return tx.ByDiffID(base.DiffID) },
			"compressed digest": func() ([]layers.Layer, error) { return tx.ByCompressedDigest(base.DiffID) },
		} {
			if found, err := find(); err != nil || len(found) != 1 || found[0].ID != id("a") {
				t.Errorf("by %s: %+v, %v", what, found, err)
			}
		}
		children, err := tx.Children(id("a"))
		chain, chainErr := tx.Chain(id("b"))
		if len(children) != 1 || children[0].ID != id("b") || len(chain) != 2 || chain[1].ID != id("a") {
			t.Errorf("children %+v, chain %+v", children, chain)
		}
		item, itemErr := tx.BigData(id("b"), "Key")
		if itemErr == nil {
			defer item.Close()
			if data, err := io.ReadAll(item); err != nil || string(data) != "item" {
				t.Errorf("item %q, %v", data, err)
			}
		}
		return errors.Join(err, chainErr, itemErr)
	})
	for _, path := range []string{"vfs/dir/" + id("a") + "/f", "vfs/dir/" + id("b") + "/g", "vfs-layers/" + id("a") +
		".tar-split.gz", "vfs-layers/" + id("b") + "/=S2V5", "vfs-layers/layers.json"} {
		if _, err := os.Lstat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		}
	}
}

// A layer's record goes into the file that its kind belongs in.
func TestWhereRecordsGo(t *testing.T) {
	for name, c := range map[string]struct {
		opts layers.CreateOptions
		want string
	}{
		"an image's":    {layers.CreateOptions{}, "images/layers.json"},
		"a container's": {layers.CreateOptions{Writable: true}, "vfs-layers/layers.json"},
		"volatile":      {layers.CreateOptions{Writable: true, Volatile: true}, "run/volatile-layers.json"},
	} {
		t.Run(name, func(t *testing.T) {
			root, cfg := places(t)
			cfg.ImageDir, cfg.Transient = filepath.Join(root, "images"), true
			made := add(t, open(t, root, cfg), nil, c.opts, nil)
			for _, file := range []string{"images/layers.json", "vfs-layers/layers.json", "run/volatile-layers.json"} {
				data, err := os.ReadFile(filepath.Join(root, file))
				if err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				if got := strings.Contains(string(data), made.ID); got != (file == c.want) {
					t.Errorf("in %s: %v", file, got)
				}
			}
		})
	}
}

// What can't be made leaves nothing behind, and says why by its class.
func TestRefusedLayers(t *testing.T) {
	root, cfg := places(t)
	s := open(t, root, cfg)
	base := add(t, s, nil, layers.CreateOptions{ID: id("a"), Names: []string{"taken"}}, tarOf(t, "f"))
	before := paths(t, root, s)
	for name, c := range map[string]struct {
		parent *layers.Layer
		opts   layers.CreateOptions
		tar    []byte
		class  error
	}{
		"an ID twice": {nil, layers.CreateOptions{ID: id("a")}, nil, errdefs.ErrDuplicateID},
		"a name twice": {nil, layers.CreateOptions{ID: id("b"), Names: []string{"taken"}}, nil,
			errdefs.ErrDuplicateName},
		"a path for an ID": {nil, layers.CreateOptions{ID: "../b"}, nil, errdefs.ErrInvalid},
		"nobody's child": {&layers.Layer{ID: id("c")}, layers.CreateOptions{ID: id("b")}, nil,
			errdefs.ErrNotFound},
		"no tar": {&base, layers.CreateOptions{ID: id("b")}, []byte(strings.Repeat("no tar", 1000)),
			errdefs.ErrInvalid},
		"half a tar": {&base, layers.CreateOptions{ID: id("b")}, tarOf(t, "f", "g")[:300],
			io.ErrUnexpectedEOF},
		"another tar": {&base, layers.CreateOptions{ID: id("b"), DiffID: digest.FromString("x")},
			tarOf(t, "f"), errdefs.ErrInvalid},
		"a key that is empty": {&base, layers.CreateOptions{ID: id("b"),
			BigData: []layers.Item{{Key: "k", Data: strings.NewReader("x")}, {Key: ""}}}, nil, errdefs.ErrInvalid},
		"ranges that overlap": {&base, layers.CreateOptions{ID: id("b"),
			IDMap: idtools.Mapping{UIDs: []idtools.Map{{Size: 10}, {Size: 5}}}}, nil, errdefs.ErrInvalid},
		"a range of no length": {&base, layers.CreateOptions{ID: id("b"),
			IDMap: idtools.Mapping{UIDs: []idtools.Map{{Size: -1}}}}, nil, errdefs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			d, err := s.Prepare(ctx, c.parent, c.opts)
			if err == nil && c.tar != nil {
				err = d.Fill(ctx, bytes.NewReader(c.tar), nil)
			}
			var existing layers.Layer
			if err == nil {
				err = s.Update(ctx, func(tx *layers.WriteTx) error {
					existing, err = tx.Commit(ctx, d)
					return err
				})
			}
			if d != nil {
				err = errors.Join(err, d.Close(), s.Wait(ctx))
			}
			if !errors.Is(err, c.class) {
				t.Errorf("got %v, want %v", err, c.class)
			}
			if errors.Is(c.class, errdefs.ErrDuplicateID) && existing.ID != id("a") {
				t.Errorf("who has the ID: %+v", existing)
			}
			if after := paths(t, root, s); !slices.Equal(after, before) {
				t.Errorf("left behind: %v, before %v", after, before)
			}
		})
	}
}

// A draft is nobody's until it is committed, and goes without a trace when its context
// ends, its parent does, or nobody wants it.
func TestDraftsComeToNothing(t *testing.T) {
	root, cfg := places(t)
	s := open(t, root, cfg)
	base := add(t, s, nil, layers.CreateOptions{ID: id("a")}, tarOf(t, "f"))
	before := paths(t, root, s)
	same := func(what string) {
		t.Helper()
		if after := paths(t, root, s); !slices.Equal(after, before) {
			t.Errorf("%s: left behind: %v, before %v", what, after, before)
		}
	}

	d := draft(t, s, &base, layers.CreateOptions{ID: id("b")}, tarOf(t, "g"))
	view(t, open(t, root, cfg), func(tx *layers.ReadTx) error {
		if _, err := tx.Get(id("b")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("a draft is found: %v", err)
		}
		return nil
	})
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	same("not wanted")

	ctx, cancel := context.WithCancel(context.Background())
	d, err := s.Prepare(ctx, &base, layers.CreateOptions{ID: id("b")})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := d.Fill(ctx, bytes.NewReader(tarOf(t, "g")), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("filled after the end: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	same("called off")

	d = draft(t, s, &base, layers.CreateOptions{ID: id("b")}, tarOf(t, "g"))
	update(t, s, func(tx *layers.WriteTx) error { return tx.Delete(context.Background(), id("a")) })
	if _, err := commit(s, d); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("on a parent that is gone: %v", err)
	}
	before = slices.DeleteFunc(before, func(path string) bool { return strings.Contains(path, id("a")) })
	same("the parent gone")
}

// Names move to whom they are given, and changes are refused in one way.
func TestChanges(t *testing.T) {
	root, cfg := places(t)
	s := open(t, root, cfg)
	add(t, s, nil, layers.CreateOptions{ID: id("a"), Names: []string{"one", "two"}, Writable: true, Volatile: true},
		nil)
	add(t, s, nil, layers.CreateOptions{ID: id("b"), Names: []string{"three"}}, nil)
	item, err := s.StageItem("Key", strings.NewReader("first"))
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := s.StageItem("Key", strings.NewReader("never"))
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *layers.WriteTx) error {
		return errors.Join(tx.ChangeNames("three", []string{"two", "four"}, naming.Add), tx.SetMetadata(id("a"), "new"),
			tx.SetBigData("one", item))
	})
	if err := errors.Join(item.Close(), dropped.Close()); err != nil {
		t.Error(err)
	}
	view(t, open(t, root, cfg), func(tx *layers.ReadTx) error {
		a, err := tx.Get(id("a"))
		b, bErr := tx.Get(id("b"))
		if !slices.Equal(a.Names, []string{"one"}) || a.Metadata != "new" ||
			!slices.Equal(a.BigDataNames, []string{"Key"}) || !slices.Equal(b.Names, []string{"two", "four", "three"}) {
			t.Errorf("%+v\n%+v", a, b)
		}
		if _, err := tx.BigData("one", "other"); !errors.Is(err, errdefs.ErrNotFound) ||
			!strings.Contains(fmt.Sprint(err), id("a")) {
			t.Errorf("an item that isn't there: %v", err)
		}
		return errors.Join(err, bErr)
	})
	if _, err := s.StageItem("", strings.NewReader("")); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a key that is empty: %v", err)
	}
	if left := paths(t, filepath.Join(cfg.Dir, "tmp"), s); len(left) != 1 {
		t.Errorf("left aside: %v", left)
	}
	for what, change := range map[string]func(tx *layers.WriteTx) error{
		"names":    func(tx *layers.WriteTx) error { return tx.ChangeNames("nobody", nil, naming.Set) },
		"metadata": func(tx *layers.WriteTx) error { return tx.SetMetadata("nobody", "") },
		"deletion": func(tx *layers.WriteTx) error { return tx.Delete(context.Background(), id("b"), id("c")) },
	} {
		if err := s.Update(context.Background(), change); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s of nobody: %v", what, err)
		}
	}
	view(t, s, func(tx *layers.ReadTx) error {
		_, err := tx.Get(id("b")) // one of the two that were to go wasn't there, so neither went
		return err
	})
}

// A layer that a writer of containers/storage left half made or half deleted is nobody's,
// and goes with all its files when somebody next writes.
func TestIncompleteLayers(t *testing.T) {
	root, cfg := places(t)
	s := open(t, root, cfg)
	base := add(t, s, nil, layers.CreateOptions{ID: id("a")}, tarOf(t, "f"))
	add(t, s, &base, layers.CreateOptions{ID: id("b"), Names: []string{"name"},
		BigData: []layers.Item{{Key: "k", Data: strings.NewReader("x")}}}, tarOf(t, "g"))
	path := filepath.Join(cfg.Dir, "layers.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	marked := bytes.Replace(data, []byte(`"id":"`+id("b")+`"`),
		[]byte(`"id":"`+id("b")+`","flags":{"incomplete":true}`), 1)
	if err := os.WriteFile(path, marked, 0o600); err != nil {
		t.Fatal(err)
	}
	other := open(t, root, cfg)
	view(t, other, func(tx *layers.ReadTx) error {
		for _, ref := range []string{id("b"), "name", "bb"} {
			if found, err := tx.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%q: %+v, %v", ref, found, err)
			}
		}
		if children, err := tx.Children(id("a")); err != nil || len(children) != 0 {
			t.Errorf("children %+v, %v", children, err)
		}
		if found, err := tx.Incomplete(); err != nil || len(found) != 1 || found[0].ID != id("b") {
			t.Errorf("incomplete: %v, %v", found, err)
		}
		return nil
	})
	update(t, other, func(*layers.WriteTx) error { return nil })
	for _, path := range paths(t, root, other) {
		if strings.Contains(path, id("b")) {
			t.Errorf("left behind: %s", path)
		}
	}
	add(t, other, &base, layers.CreateOptions{ID: id("b"), Names: []string{"name"}}, nil)
}

// Two Stores in one directory make and delete layers at the same time. An ID is given
// once, and of what loses the race nothing is left.
func TestTwoStoresAtOnce(t *testing.T) {
	root, cfg := places(t)
	const rounds = 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	data := tarOf(t, "f")
	for n := range 2 {
		s := open(t, root, cfg)
		wg.Go(func() {
			ctx := context.Background()
			for i := range rounds {
				contested := id(fmt.Sprintf("%x", i))
				d, err := s.Prepare(ctx, nil, layers.CreateOptions{ID: contested,
					Names: []string{fmt.Sprint(n, " ", i)}})
				if err == nil {
					err = d.Fill(ctx, bytes.NewReader(data), nil)
				}
				if err != nil {
					t.Error(err)
					return
				}
				_, err = commit(s, d)
				mu.Lock()
				if err == nil {
					won[contested]++
				} else if !errors.Is(err, errdefs.ErrDuplicateID) {
					t.Error(err)
				}
				mu.Unlock()
				own, err := s.Prepare(ctx, nil, layers.CreateOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				layer, err := commit(s, own)
				if err == nil {
					err = s.Update(ctx, func(tx *layers.WriteTx) error { return tx.Delete(ctx, layer.ID) })
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, open(t, root, cfg), func(tx *layers.ReadTx) error {
		all, err := tx.All()
		if len(all) != rounds || len(won) != rounds {
			t.Errorf("%d layers, %d IDs", len(all), len(won))
		}
		for contested, times := range won {
			if times != 1 {
				t.Errorf("%s was given %d times", contested, times)
			}
		}
		return err
	})
}
