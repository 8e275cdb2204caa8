package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// withRanges gives the user containers IDs in the test's own /etc/subuid and /etc/subgid,
// and returns a configuration.
func withRanges(t *testing.T, ranges string) config.Config {
	t.Helper()
	testutil.HostRoot(t)
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		own := filepath.Join(t.TempDir(), "ranges")
		testutil.WriteFile(t, own, []byte(ranges), 0o644)
		if err := unix.Mount(own, file, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("needs %s: %v", file, err)
		}
		t.Cleanup(func() { unix.Unmount(file, unix.MNT_DETACH) })
	}
	cfg := roots(t)
	cfg.AutoUserns = config.AutoUserns{MinSize: 1024, MaxSize: 65536}
	return cfg
}

func autoContainer(t *testing.T, s *store.Store, auto store.AutoUserns) containers.Container {
	t.Helper()
	c, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: "img", AutoUserns: &auto})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// userImage makes an image with a list of users and a file of an owner.
func userImage(t *testing.T, s *store.Store, passwd string, owner int) {
	t.Helper()
	layer, err := s.CreateLayer(t.Context(), layers.CreateOptions{Names: []string{"layer"}})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(t.Context(), layer.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	testutil.Tree(t, path, "etc/", "owned=x")
	testutil.WriteFile(t, filepath.Join(path, "etc/passwd"), []byte(passwd), 0o644)
	if err := os.Chown(filepath.Join(path, "owned"), owner, owner); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unmount(t.Context(), layer.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateImage(t.Context(), store.ImageOptions{Names: []string{"img"},
		TopLayer: layer.ID}); err != nil {
		t.Fatal(err)
	}
}

// Each container gets IDs that no other has, as many as its image needs, and gives them
// back when it goes.
func TestAutomaticUserNamespaces(t *testing.T) {
	s := open(t, withRanges(t, "somebody:5000:10\ncontainers:100000:10000\n"))
	userImage(t, s, "root:x:0:0::/:\nservice:x:2999:50::/:\nnobody:x:65534:65534::/:\n", 5)
	first := autoContainer(t, s, store.AutoUserns{})
	second := autoContainer(t, s, store.AutoUserns{Size: 500})
	third := autoContainer(t, s, store.AutoUserns{InitialSize: 4000,
		Additional: idtools.Mapping{UIDs: []idtools.Map{{ContainerID: 0, HostID: 7, Size: 1}}}})
	for name, c := range map[string]struct{ got, want []idtools.Map }{
		"by its list of users": {first.UIDMap, []idtools.Map{{HostID: 100000, Size: 3000}}},
		"groups":               {first.GIDMap, []idtools.Map{{HostID: 100000, Size: 3000}}},
		"of a size":            {second.UIDMap, []idtools.Map{{HostID: 103000, Size: 500}}},
		"with an additional map": {third.UIDMap, []idtools.Map{{ContainerID: 1, HostID: 103500, Size: 3999},
			{HostID: 7, Size: 1}}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	path, err := s.Mount(t.Context(), second.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(path, "owned"), &st); err != nil || st.Uid != 103005 {
		t.Errorf("mounted, the file belongs to %d (%v)", st.Uid, err)
	}
	if _, err := s.Unmount(t.Context(), second.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: "img",
		AutoUserns: &store.AutoUserns{Size: 4000}}); !errors.Is(err, errdefs.ErrInUse) {
		t.Errorf("more than is left: %v", err)
	}
	if _, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: "img",
		AutoUserns: &store.AutoUserns{InitialSize: 70000}}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("more than the store allows: %v", err)
	}
	if err := s.DeleteContainer(t.Context(), first.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if again := autoContainer(t, s, store.AutoUserns{}); !slices.Equal(again.UIDMap, first.UIDMap) {
		t.Errorf("the IDs of a container that is gone: %v, want %v", again.UIDMap, first.UIDMap)
	}
}

// The lists of users are those that the container will see: not what a layer above has
// deleted, and by links that lead from one layer into another.
func TestAutomaticUserNamespaceOfTheWholeImage(t *testing.T) {
	s := open(t, withRanges(t, "containers:100000:10000\n"))
	written := func(parent string, write func(path string) error) string {
		t.Helper()
		layer, err := s.CreateLayer(t.Context(), layers.CreateOptions{Parent: parent})
		if err != nil {
			t.Fatal(err)
		}
		path, err := s.Mount(t.Context(), layer.ID, store.MountOptions{})
		if err == nil {
			err = write(path)
		}
		if _, uerr := s.Unmount(t.Context(), layer.ID, false); err != nil || uerr != nil {
			t.Fatal(err, uerr)
		}
		return layer.ID
	}
	users := written("", func(path string) error {
		testutil.Tree(t, path, "usr/etc/")
		return os.WriteFile(filepath.Join(path, "usr/etc/passwd"), []byte("service:x:2999:50::/:\n"), 0o644)
	})
	linked := written(users, func(path string) error { return os.Symlink("usr/etc", filepath.Join(path, "etc")) })
	deleted := written(linked, func(path string) error { return os.Remove(filepath.Join(path, "usr/etc/passwd")) })
	for top, want := range map[string]int{users: 1024, linked: 3000, deleted: 1024} {
		if _, err := s.CreateImage(t.Context(), store.ImageOptions{ID: top, TopLayer: top}); err != nil {
			t.Fatal(err)
		}
		c, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: top, AutoUserns: &store.AutoUserns{}})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.UIDMap) != 1 || c.UIDMap[0].Size != want {
			t.Errorf("%v, want %d IDs", c.UIDMap, want)
		}
	}
}

// Containers that are made at the same time don't get the same IDs, by whichever handle
// on the store.
func TestAutomaticUserNamespacesConcurrently(t *testing.T) {
	cfg := withRanges(t, "containers:100000:100000\n")
	s := open(t, cfg)
	userImage(t, s, "root:x:0:0::/:\n", 5)
	var all [8]containers.Container
	var failed [8]error
	var work sync.WaitGroup
	for n := range all {
		own := open(t, cfg)
		work.Go(func() {
			all[n], failed[n] = own.CreateContainer(t.Context(),
				store.ContainerOptions{Image: "img", AutoUserns: &store.AutoUserns{Size: 1000}})
		})
	}
	work.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		for j := range i {
			if idtools.Overlap(all[i].UIDMap, all[j].UIDMap) || idtools.Overlap(all[i].GIDMap, all[j].GIDMap) {
				t.Errorf("two containers with %v and %v", all[i].UIDMap, all[j].UIDMap)
			}
		}
	}
}

// Without ranges the error names the files that lack them.
func TestNoRangesForUserNamespaces(t *testing.T) {
	s := open(t, withRanges(t, "somebody:5000:10\n"))
	userImage(t, s, "", 0)
	_, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: "img", AutoUserns: &store.AutoUserns{}})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}
