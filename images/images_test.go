package images_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/testutil"
)

// id makes an ID as long as real ones out of a hexadecimal digit.
func id(digit string) string { return strings.Repeat(digit, 64) }

func places(t *testing.T) images.Config {
	dir := t.TempDir()
	return images.Config{Dir: filepath.Join(dir, "root"), RunDir: filepath.Join(dir, "run")}
}

func update(t *testing.T, s *images.Store, fn func(tx *images.WriteTx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s *images.Store, fn func(tx *images.ReadTx) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *images.Store, opts images.Options) images.Image {
	t.Helper()
	var image images.Image
	update(t, s, func(tx *images.WriteTx) (err error) {
		image, err = tx.Create(opts)
		return err
	})
	return image
}

func get(t *testing.T, s *images.Store, ref string) images.Image {
	t.Helper()
	var image images.Image
	view(t, s, func(tx *images.ReadTx) (err error) {
		image, err = tx.Lookup(ref)
		return err
	})
	return image
}

// What one Store has written another one finds, by whatever the image is known by, and
// the file says it as containers/storage does.
func TestRecord(t *testing.T) {
	cfg := places(t)
	manifest := []byte(`{"schemaVersion": 2}`)
	created := time.Date(2024, 2, 29, 12, 0, 0, 500, time.UTC)
	made := create(t, images.Open(cfg), images.Options{
		ID: id("a"), Names: []string{"one", "two", "one"}, TopLayer: id("1"), Metadata: "{}", Created: created,
		NamesHistory: []string{"zero"},
		Flags:        map[string]any{"flag": true}, BigData: []images.Item{{Key: "manifest", Data: manifest},
			{Key: "Config", Data: []byte("abc")}},
	})
	other := images.Open(cfg)
	for _, ref := range []string{id("a"), "one", "two", "aa"} {
		if found := get(t, other, ref); !reflect.DeepEqual(found, made) {
			t.Errorf("by %q: %+v, made was %+v", ref, found, made)
		}
	}
	view(t, other, func(tx *images.ReadTx) error {
		for what, find := range map[string]func() ([]images.Image, error){
			"its manifest's digest": func() ([]images.Image, error) { return tx.ByDigest(digest.FromBytes(manifest)) },
			"its top layer":         func() ([]images.Image, error) { return tx.ByTopLayer(id("1")) },
			"nothing":               tx.All,
		} {
			if found, err := find(); err != nil || len(found) != 1 || found[0].ID != id("a") {
				t.Errorf("by %s: %+v, %v", what, found, err)
			}
		}
		if found, err := tx.ByDigest(digest.FromString("abc")); err != nil || found != nil {
			t.Errorf("by the digest of an item that is no manifest: %+v, %v", found, err)
		}
		return nil
	})
	file, err := os.ReadFile(filepath.Join(cfg.Dir, "images.json"))
	want := `[{"id":"` + id("a") + `","digest":"` + digest.FromBytes(manifest).String() +
		`","names":["one","two"],"names-history":["zero"],"layer":"` + id("1") +
		`","metadata":"{}","big-data-names":["manifest","Config"],"big-data-sizes":{"Config":3,"manifest":20},` +
		`"big-data-digests":{"Config":"` +
		digest.FromString("abc").String() + `","manifest":"` + digest.FromBytes(manifest).String() +
		`"},"created":"2024-02-29T12:00:00.0000005Z","flags":{"flag":true}}]`
	if err != nil || string(file) != want {
		t.Errorf("images.json: %s, %v\nwant %s", file, err, want)
	}
	if data, err := os.ReadFile(filepath.Join(cfg.Dir, id("a"), "=Q29uZmln")); err != nil || string(data) != "abc" {
		t.Errorf("the item's file: %q, %v", data, err)
	}
}

// What can't be made leaves nothing behind, and says why by its class.
func TestRefusedImages(t *testing.T) {
	cfg := places(t)
	s := images.Open(cfg)
	create(t, s, images.Options{ID: id("a"), Names: []string{"taken"}})
	before := testutil.Snapshot(t, cfg.Dir)
	for name, c := range map[string]struct {
		opts  images.Options
		class error
		says  string
	}{
		"an ID twice": {images.Options{ID: id("a")}, errdefs.ErrDuplicateID, id("a")},
		"a name twice": {images.Options{ID: id("b"), Names: []string{"new", "taken"}}, errdefs.ErrDuplicateName,
			`"taken"`},
		"a path for an ID": {images.Options{ID: "../b"}, errdefs.ErrInvalid, "../b"},
		"a bad digest": {images.Options{ID: id("b"), Digest: "sha256:short"}, errdefs.ErrInvalid,
			"sha256:short"},
		"a manifest's digest": {images.Options{ID: id("b"),
			BigData: []images.Item{{Key: "manifest-x", Data: []byte("x"), Digest: "nonsense"}}}, errdefs.ErrInvalid,
			"nonsense"},
		"a key that is empty": {images.Options{ID: id("b"), BigData: []images.Item{{Key: "good", Data: []byte("x")},
			{Key: ""}}}, errdefs.ErrInvalid, id("b")},
	} {
		err := s.Update(context.Background(), func(tx *images.WriteTx) error {
			_, err := tx.Create(c.opts)
			return err
		})
		if !errors.Is(err, c.class) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	after := testutil.Snapshot(t, cfg.Dir)
	for _, tree := range []map[string]string{before, after} {
		delete(tree, ".") // whose times change
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("left behind: %v, before %v", after, before)
	}
}

// A name belongs to one image. It moves to whom it is given, and is kept in the history
// of all that had it.
func TestNamesMove(t *testing.T) {
	s := images.Open(places(t))
	create(t, s, images.Options{ID: id("a"), Names: []string{"one", "two"}})
	create(t, s, images.Options{ID: id("b"), Names: []string{"three"}})
	for _, c := range []struct {
		change naming.Change
		names  []string
		a, b   []string
	}{
		{naming.Add, []string{"two", "four"}, []string{"one"}, []string{"two", "four", "three"}},
		{naming.Remove, []string{"three", "unknown"}, []string{"one"}, []string{"two", "four"}},
		{naming.Set, []string{"one"}, nil, []string{"one"}},
	} {
		update(t, s, func(tx *images.WriteTx) error { return tx.ChangeNames(id("b"), c.names, c.change) })
		if a, b := get(t, s, id("a")).Names, get(t, s, id("b")).Names; !slices.Equal(a, c.a) || !slices.Equal(b, c.b) {
			t.Errorf("after %v %v: %v and %v, want %v and %v", c.change, c.names, a, b, c.a, c.b)
		}
	}
	if history := get(t, s, id("b")).NamesHistory; !slices.Equal(history, []string{"one", "four", "two", "three"}) {
		t.Errorf("history %v", history)
	}
	err := s.Update(context.Background(), func(tx *images.WriteTx) error {
		return tx.ChangeNames("nobody", nil,
			naming.Set)
	})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("names for nobody: %v", err)
	}
}

// Items are replaced whole, and what is recorded of them moves with them.
func TestBigData(t *testing.T) {
	cfg := places(t)
	s := images.Open(cfg)
	create(t, s, images.Options{ID: id("a"), Names: []string{"image"}})
	signed := digest.FromString("without its signatures")
	for _, item := range []images.Item{{Key: "manifest", Data: []byte("first")},
		{Key: "manifest", Data: []byte("second, longer"), Digest: signed}} {
		update(t, s, func(tx *images.WriteTx) error { return tx.SetBigData("image", item) })
		view(t, images.Open(cfg), func(tx *images.ReadTx) error {
			data, err := tx.BigData("image", "manifest")
			size, sizeErr := tx.BigDataSize("image", "manifest")
			d, digestErr := tx.BigDataDigest("image", "manifest")
			want := item.Digest
			if want == "" {
				want = digest.FromBytes(item.Data)
			}
			if string(data) != string(item.Data) || size != int64(len(item.Data)) || d != want {
				t.Errorf("%q of %d bytes, %s, want %q, %s", data, size, d, item.Data, want)
			}
			return errors.Join(err, sizeErr, digestErr)
		})
	}
	view(t, s, func(tx *images.ReadTx) error {
		_, dataErr := tx.BigData("image", "other")
		_, sizeErr := tx.BigDataSize("image", "other")
		_, digestErr := tx.BigDataDigest("image", "other")
		for _, err := range []error{dataErr, sizeErr, digestErr} {
			if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), `"other"`) ||
				!strings.Contains(err.Error(), id("a")) {
				t.Errorf("an item that isn't there: %v", err)
			}
		}
		return nil
	})

	// A record of an old version holds no sizes and no digests.
	old := `[{"id":"` + id("c") + `","big-data-names":["manifest"],"created":"0001-01-01T00:00:00Z"}]`
	cfg = places(t)
	testutil.Tree(t, cfg.Dir, id("c")+"/manifest=12345")
	if err := os.WriteFile(filepath.Join(cfg.Dir, "images.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	view(t, images.Open(cfg), func(tx *images.ReadTx) error {
		if size, err := tx.BigDataSize(id("c"), "manifest"); err != nil || size != 5 {
			t.Errorf("size %d, %v", size, err)
		}
		if _, err := tx.BigDataDigest(id("c"), "manifest"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("digest: %v", err)
		}
		return nil
	})
}

// Deleting takes the record out and tells what else there was.
func TestDelete(t *testing.T) {
	cfg := places(t)
	s := images.Open(cfg)
	for _, n := range []string{"a", "b"} {
		create(t, s, images.Options{ID: id(n), BigData: []images.Item{{Key: "manifest", Data: []byte("x")}}})
		view(t, s, func(tx *images.ReadTx) error {
			_, err := tx.Directory(id(n))
			_, runErr := tx.RunDirectory(id(n))
			return errors.Join(err, runErr)
		})
	}
	update(t, s, func(tx *images.WriteTx) error {
		dirs, err := tx.Delete(id("a"))
		if want := []string{filepath.Join(cfg.Dir, id("a")), filepath.Join(cfg.RunDir, id("a"))}; !slices.Equal(dirs,
			want) {
			t.Errorf("directories %v, want %v", dirs, want)
		}
		if _, err := tx.Get(id("a")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("still there: %v", err)
		}
		if _, err := tx.Delete(id("a")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
		return err
	})
}

// Two Stores in one directory make images at the same time. Each ID and each name is
// given once, and nothing gets lost.
func TestTwoStoresAtOnce(t *testing.T) {
	cfg := places(t)
	stores := []*images.Store{images.Open(cfg), images.Open(cfg)}
	const each = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[int]int{}
	for n, s := range stores {
		wg.Go(func() {
			for i := range each {
				err := s.Update(context.Background(), func(tx *images.WriteTx) error {
					_, err := tx.Create(images.Options{Names: []string{fmt.Sprint("own-", n, "-", i),
						fmt.Sprint("shared-", i)}})
					return err
				})
				mu.Lock()
				if err == nil {
					won[i]++
				} else if !errors.Is(err, errdefs.ErrDuplicateName) {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range each {
		if won[i] != 1 {
			t.Errorf("name %d was given %d times", i, won[i])
		}
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "images.json"))
	var records []images.Image
	if err := errors.Join(err, json.Unmarshal(data, &records)); err != nil || len(records) != each {
		t.Errorf("%d records, %v", len(records), err)
	}
}
