package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// Files go from the host into a layer and from one layer to another, with owners
// translated by both mappings, and no link in a layer leads a copy out of it.
func TestCopy(t *testing.T) {
	if testutil.SingleID() {
		t.Skip("needs more than one ID")
	}
	ctx := context.Background()
	cfg := roots(t)
	cfg.Overlay = config.Overlay{DisableIDMap: true}
	s := open(t, cfg)
	mapped := func(name string, first int) string {
		maps := []idtools.Map{{ContainerID: 0, HostID: first, Size: 1000}}
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id(name), Writable: true,
			IDMap: idtools.Mapping{UIDs: maps, GIDs: maps}}); err != nil {
			t.Fatal(err)
		}
		path, err := s.Mount(ctx, id(name), store.MountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := mapped("one", 100000), mapped("two", 200000)
	host, outside := t.TempDir(), t.TempDir()
	testutil.Tree(t, host, "file=content 0640 5:6 @1234567890.5 user.kind=plain", "dir/ 0755 7:8", "dir/sub/ 0700 9:9",
		"dir/sub/deep=x 0600 3:4", "dir/link->sub/deep")
	if err := os.Symlink(outside, filepath.Join(one, "escape")); err != nil {
		t.Fatal(err)
	}
	at := func(layer, path string) store.Location { return store.Location{Layer: id(layer), Path: path} }
	for _, step := range []struct {
		from, to store.Location
		owner    *apply.Owner
	}{
		{store.Location{Path: host + "/file"}, at("one", "/etc/renamed"), nil},
		{store.Location{Path: host + "/file"}, at("one", "/etc/"), nil},
		{store.Location{Path: host + "/dir"}, at("one", "/tree"), nil},
		{at("one", "/tree"), at("two", "/taken"), nil},
		{at("one", "/etc/renamed"), at("two", "/file"), &apply.Owner{UID: 50, GID: 60}},
		{store.Location{Path: host + "/file"}, at("one", "/escape/file"), nil},
		{at("one", "/tree"), store.Location{Path: host + "/out"}, nil},
	} {
		if err := s.Copy(ctx, step.from, step.to, store.CopyOptions{Owner: step.owner}); err != nil &&
			step.to.Path != "/escape/file" {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][2]uint32{
		one + "/etc": {100000, 100000}, one + "/etc/renamed": {100005, 100006}, one + "/etc/file": {100005, 100006},
		one + "/tree/sub/deep": {100003, 100004},
		two + "/taken/sub":     {200009, 200009}, two + "/taken/sub/deep": {200003, 200004},
		two + "/taken/link": {200000, 200000}, two + "/file": {200050, 200060},
		host + "/out/sub/deep": {3, 4},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if got := [2]uint32{st.Uid, st.Gid}; got != want && filepath.Base(path) != "link" {
			t.Errorf("%s belongs to %v, want %v", path, got, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(one+"/etc/renamed", &st); err != nil || st.Mode&0o7777 != 0o640 ||
		st.Mtim.Nano() != 1234567890_500000000 {
		t.Errorf("mode %o, time %d, %v", st.Mode, st.Mtim.Nano(), err)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(one+"/etc/renamed", "user.kind", value); err != nil || string(value[:n]) != "plain" {
		t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("a copy has left its layer: %v, %v", left, err)
	}
	for what, step := range map[string][2]store.Location{
		"no such layer": {at("none", "/a"), at("one", "/a")},
		"no such file":  {at("one", "/none"), at("two", "/a")},
	} {
		if err := s.Copy(ctx, step[0], step[1], store.CopyOptions{}); !errors.Is(err, errdefs.ErrNotFound) &&
			!errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n, err := timesMounted(s, id("one")); err != nil || n != 1 {
		t.Errorf("mounted %d times, want once, by the test: %v", n, err)
	}
}

// A file whose name begins like a whiteout's is copied like any other, and removes
// nothing.
func TestCopyNameLikeAWhiteout(t *testing.T) {
	ctx := context.Background()
	s := open(t, roots(t))
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("work"), Writable: true}); err != nil {
		t.Fatal(err)
	}
	work, err := s.Mount(ctx, id("work"), store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	testutil.Tree(t, work, "etc/ 0755", "etc/hosts=kept", "etc/sub/ 0755", "etc/sub/kept=kept")
	testutil.Tree(t, host, ".wh.hosts=new", "tree/ 0755", "tree/.wh..wh..opq=new", "tree/.wh.kept=new")
	out := filepath.Join(host, "out")
	for _, step := range []struct{ from, to store.Location }{
		{store.Location{Path: host + "/.wh.hosts"}, store.Location{Layer: id("work"), Path: "/etc/"}},
		{store.Location{Path: host + "/tree"}, store.Location{Layer: id("work"), Path: "/etc/sub"}},
		{store.Location{Layer: id("work"), Path: "/etc"}, store.Location{Path: out}},
	} {
		if err := s.Copy(ctx, step.from, step.to, store.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, top := range []string{filepath.Join(work, "etc"), out} {
		for path, want := range map[string]string{"hosts": "kept", ".wh.hosts": "new", "sub/kept": "kept",
			"sub/.wh..wh..opq": "new", "sub/.wh.kept": "new"} {
			if got, err := os.ReadFile(filepath.Join(top, path)); err != nil || string(got) != want {
				t.Errorf("%s in %s: %q, %v", path, top, got, err)
			}
		}
	}
}
