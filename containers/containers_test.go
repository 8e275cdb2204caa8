package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/testutil"
)

// id makes an ID as long as real ones out of a hexadecimal digit.
func id(digit string) string { return strings.Repeat(digit, 64) }

func places(t *testing.T) containers.Config {
	dir := t.TempDir()
	return containers.Config{Dir: filepath.Join(dir, "root"), RunDir: filepath.Join(dir, "run")}
}

func update(t *testing.T, s *containers.Store, fn func(tx *containers.WriteTx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s *containers.Store, fn func(tx *containers.ReadTx) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *containers.Store, opts containers.Options) containers.Container {
	t.Helper()
	var container containers.Container
	update(t, s, func(tx *containers.WriteTx) (err error) {
		container, err = tx.Add(opts)
		return err
	})
	return container
}

func get(t *testing.T, s *containers.Store, ref string) containers.Container {
	t.Helper()
	var container containers.Container
	view(t, s, func(tx *containers.ReadTx) (err error) {
		container, err = tx.Lookup(ref)
		return err
	})
	return container
}

// What one Store has written another one finds, by whatever the container is known by.
func TestRecord(t *testing.T) {
	cfg := places(t)
	idMap := []idtools.Map{{ContainerID: 0, HostID: 1000, Size: 10}}
	made := create(t, containers.Open(cfg), containers.Options{
		ID: id("a"), Names: []string{"one", "two", "one"}, ImageID: id("1"), LayerID: id("2"), Metadata: "{}",
		IDMap:     idtools.Mapping{UIDs: idMap, GIDs: idMap},
		MountOpts: []string{"nodev"}, Flags: map[string]any{
			containers.FlagMountLabel: "system_u:object_r:container_file_t:s0:c1,c2", "other": 1.5},
		BigData: []containers.Item{{Key: "config.json", Data: []byte("abc")}},
	})
	other := containers.Open(cfg)
	for _, ref := range []string{id("a"), "one", "two", id("2"), "aa"} {
		found := get(t, other, ref)
		if found.ID != made.ID || !slices.Equal(found.Names, []string{"one", "two"}) ||
			!found.Created.Equal(made.Created) || found.Volatile() ||
			!slices.Equal(found.MountOpts(), []string{"nodev"}) || !strings.HasSuffix(found.MountLabel(), "c1,c2") ||
			found.ProcessLabel() != "" ||
			!found.Mapping().Equal(made.Mapping()) || found.Flags["other"] != 1.5 ||
			found.BigDataDigests["config.json"] != digest.FromString("abc") {
			t.Errorf("by %q: %+v, made was %+v", ref, found, made)
		}
	}
	view(t, other, func(tx *containers.ReadTx) error {
		byLayer, err := tx.ByLayer(id("2"))
		byImage, imageErr := tx.ByImage(id("1"))
		if byLayer.ID != id("a") || len(byImage) != 1 {
			t.Errorf("by layer %+v, by image %+v", byLayer, byImage)
		}
		if _, err := tx.ByLayer(id("3")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("by a layer that isn't a container's: %v", err)
		}
		return errors.Join(err, imageErr)
	})
	file, err := os.ReadFile(filepath.Join(cfg.Dir, "containers.json"))
	if start := `[{"id":"` + id("a") + `","names":["one","two"],"image":"` + id("1") + `","layer":"` + id("2") +
		`","metadata":"{}","big-data-names":["config.json"],"big-data-sizes":{"config.json":3},`; err != nil ||
		!strings.HasPrefix(string(file), start) {
		t.Errorf("containers.json: %s, %v\nwant %s", file, err, start)
	}
}

// Containers that may vanish are recorded in a file of their own, which in a transient
// store is in the run root.
func TestWhereRecordsGo(t *testing.T) {
	for name, c := range map[string]struct {
		transient, volatile bool
		want                string
	}{
		"stable":    {false, false, "root/containers.json"},
		"volatile":  {false, true, "root/volatile-containers.json"},
		"transient": {true, false, "run/volatile-containers.json"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := places(t)
			cfg.Transient = c.transient
			made := create(t, containers.Open(cfg), containers.Options{Volatile: c.volatile})
			if made.Volatile() != (c.want != "root/containers.json") {
				t.Errorf("volatile: %v", made.Volatile())
			}
			for _, file := range []string{"root/containers.json", "root/volatile-containers.json",
				"run/volatile-containers.json"} {
				data, err := os.ReadFile(filepath.Join(filepath.Dir(cfg.Dir), file))
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
func TestRefusedContainers(t *testing.T) {
	cfg := places(t)
	s := containers.Open(cfg)
	create(t, s, containers.Options{ID: id("a"), Names: []string{"taken"}})
	before := testutil.Snapshot(t, cfg.Dir)
	overlap := []idtools.Map{{ContainerID: 0, HostID: 1000, Size: 10}, {ContainerID: 5, HostID: 3000, Size: 10}}
	for name, c := range map[string]struct {
		opts  containers.Options
		class error
		says  string
	}{
		"an ID twice": {containers.Options{ID: id("a")}, errdefs.ErrDuplicateID, id("a")},
		"a name twice": {containers.Options{ID: id("b"), Names: []string{"new", "taken"}},
			errdefs.ErrDuplicateName, `"taken"`},
		"a path for an ID": {containers.Options{ID: "../b"}, errdefs.ErrInvalid, "../b"},
		"ranges that overlap": {containers.Options{ID: id("b"), IDMap: idtools.Mapping{UIDs: overlap}},
			errdefs.ErrInvalid, "container"},
		"a key that is empty": {containers.Options{ID: id("b"),
			BigData: []containers.Item{{Key: "good", Data: []byte("x")}, {Key: ""}}}, errdefs.ErrInvalid, id("b")},
	} {
		err := s.Update(context.Background(), func(tx *containers.WriteTx) error {
			_, err := tx.Add(c.opts)
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

// What is changed of a container is all that changes, in whichever file its record is.
func TestChanges(t *testing.T) {
	cfg := places(t)
	s := containers.Open(cfg)
	create(t, s, containers.Options{ID: id("a"), Names: []string{"one", "two"}, Volatile: true})
	create(t, s, containers.Options{ID: id("b"), Names: []string{"three"}})
	update(t, s, func(tx *containers.WriteTx) error {
		return errors.Join(
			tx.ChangeNames("three", []string{"two", "four"}, naming.Add),
			tx.SetMetadata(id("a"), "new"),
			tx.SetBigData(id("a"), containers.Item{Key: "Key", Data: []byte("first")}),
			tx.SetBigData(id("a"), containers.Item{Key: "Key", Data: []byte("second")}))
	})
	other := containers.Open(cfg)
	a, b := get(t, other, id("a")), get(t, other, id("b"))
	if !slices.Equal(a.Names, []string{"one"}) || !slices.Equal(b.Names, []string{"two", "four", "three"}) {
		t.Errorf("names %v and %v", a.Names, b.Names)
	}
	if a.Metadata != "new" || b.Metadata != "" || !a.Volatile() || !slices.Equal(a.BigDataNames, []string{"Key"}) {
		t.Errorf("%+v\n%+v", a, b)
	}
	view(t, other, func(tx *containers.ReadTx) error {
		data, err := tx.BigData("one", "Key")
		size, sizeErr := tx.BigDataSize("one", "Key")
		d, digestErr := tx.BigDataDigest("one", "Key")
		if string(data) != "second" || size != 6 || d != digest.FromString("second") {
			t.Errorf("%q of %d bytes, %s", data, size, d)
		}
		_, noData := tx.BigData("one", "other")
		_, noSize := tx.BigDataSize("one", "other")
		_, noDigest := tx.BigDataDigest("one", "other")
		for _, err := range []error{noData, noSize, noDigest} {
			if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), `"other"`) ||
				!strings.Contains(err.Error(), id("a")) {
				t.Errorf("an item that isn't there: %v", err)
			}
		}
		return errors.Join(err, sizeErr, digestErr)
	})
	for what, change := range map[string]func(tx *containers.WriteTx) error{
		"names":    func(tx *containers.WriteTx) error { return tx.ChangeNames("nobody", nil, naming.Set) },
		"metadata": func(tx *containers.WriteTx) error { return tx.SetMetadata("nobody", "") },
		"data":     func(tx *containers.WriteTx) error { return tx.SetBigData("nobody", containers.Item{Key: "k"}) },
		"deletion": func(tx *containers.WriteTx) error { _, err := tx.Remove(id("c")); return err },
	} {
		if err := s.Update(context.Background(), change); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s of nobody: %v", what, err)
		}
	}
}

// Deleting takes the record out and tells what else there was.
func TestRemove(t *testing.T) {
	cfg := places(t)
	s := containers.Open(cfg)
	for _, n := range []string{"a", "b"} {
		create(t, s, containers.Options{ID: id(n), LayerID: id("1")[:63] + n,
			BigData: []containers.Item{{Key: "config", Data: []byte("x")}}})
		view(t, s, func(tx *containers.ReadTx) error {
			_, err := tx.Directory(id(n))
			_, runErr := tx.RunDirectory(id(n))
			return errors.Join(err, runErr)
		})
	}
	update(t, s, func(tx *containers.WriteTx) error {
		dirs, err := tx.Remove(id("a"))
		if want := []string{filepath.Join(cfg.Dir, id("a")), filepath.Join(cfg.RunDir, id("a"))}; !slices.Equal(dirs,
			want) {
			t.Errorf("directories %v, want %v", dirs, want)
		}
		return err
	})
}

// Two Stores in one directory make and delete containers at the same time; each name is
// given once at a time, and nothing gets lost.
func TestTwoStoresAtOnce(t *testing.T) {
	cfg := places(t)
	const each = 15
	var wg sync.WaitGroup
	for n := range 2 {
		s := containers.Open(cfg)
		wg.Go(func() {
			for i := range each {
				err := s.Update(context.Background(), func(tx *containers.WriteTx) error {
					if _, err := tx.Add(containers.Options{Names: []string{fmt.Sprint("kept-", n, "-", i)},
						Volatile: i%2 == 0}); err != nil {
						return err
					}
					gone, err := tx.Add(containers.Options{Names: []string{"contested"}})
					if err == nil {
						_, err = tx.Remove(gone.ID)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, containers.Open(cfg), func(tx *containers.ReadTx) error {
		all, err := tx.All()
		if len(all) != 2*each {
			t.Errorf("%d containers", len(all))
		}
		for n := range 2 {
			for i := range each {
				if _, err := tx.Lookup(fmt.Sprint("kept-", n, "-", i)); err != nil {
					t.Error(err)
				}
			}
		}
		return err
	})
}
