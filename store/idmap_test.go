package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// waysToMap are the stores whose owners are translated in one way or another.
var waysToMap = map[string]func(*config.Config){
	"while mounting": func(*config.Config) {},
	"on disk":        func(cfg *config.Config) { cfg.Overlay.DisableIDMap = true },
	"on disk, vfs":   func(cfg *config.Config) { cfg.Driver = "vfs" },
}

func shifted(by int) idtools.Mapping {
	return idtools.Mapping{UIDs: []idtools.Map{{HostID: by, Size: 65536}},
		GIDs: []idtools.Map{{HostID: 2 * by, Size: 65536}}}
}

// ownedTree makes an image named img of two layers, with everything in it that depends on
// owners or suffers when they change. It returns what it looks like, but for the root
// directory.
func ownedTree(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	ctx := context.Background()
	fill := func(parent, name string, specs ...string) string {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id(name), Parent: parent,
			Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
		path, err := s.Mount(ctx, name, store.MountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		testutil.Tree(t, path, specs...)
		return path
	}
	fill("", "low",
		"d/ 1775 1:2 @1600000000.5", "d/suid=x 5:6 4755 @1600000001.25", "d/sgid=y 7:8 2750 @-1", "d/link->suid 9:9",
		"d/one=many 0600 3:4 @1600000002", "two=>d/one", "d/three=>d/one", "gone=x",
		"cap=z 0755 0:0 @5 security.capability="+strconv.Quote(
			"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"acl/ 0770 1:1 system.posix_acl_default="+acl(11, 12)+" system.posix_acl_access="+acl(13, 14),
		"acl/f=a 0640 1:1 system.posix_acl_access="+acl(15, 16),
		"dev%5:1 0666 0:5", "fifo| 0600 20:20", "user=u 1000:1000 user.k=v")
	path := fill("low", "high", "new=n 65535:65535", "d/more=m 0:0")
	if err := os.Remove(filepath.Join(path, "gone")); err != nil {
		t.Fatal(err)
	}
	tree := testutil.Snapshot(t, path)
	delete(tree, ".")
	for _, name := range []string{"low", "high"} {
		if _, err := s.Unmount(ctx, name, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("img"), Names: []string{"img"},
		TopLayer: "high"}); err != nil {
		t.Fatal(err)
	}
	return tree
}

// acl is an ACL for the owner, a user, a group and the rest, in quotes.
func acl(user, group byte) string {
	const none = "\xff\xff\xff\xff"
	return strconv.Quote("\x02\x00\x00\x00" + "\x01\x00\x07\x00" + none + "\x02\x00\x05\x00" +
		string([]byte{user, 0, 0, 0}) +
		"\x04\x00\x05\x00" + none + "\x08\x00\x04\x00" + string([]byte{group, 0, 0, 0}) + "\x10\x00\x07\x00" + none +
		"\x20\x00\x00\x00" + none)
}

var ownerField = regexp.MustCompile(`owner=(\d+):(\d+)`)

// mapped is what a tree looks like under a mapping. ACLs are looked at elsewhere: inside.
func mapped(tree map[string]string, by int) map[string]string {
	out := map[string]string{}
	for path, line := range tree {
		out[path] = ownerField.ReplaceAllStringFunc(line, func(field string) string {
			ids := ownerField.FindStringSubmatch(field)
			uid, _ := strconv.Atoi(ids[1])
			gid, _ := strconv.Atoi(ids[2])
			return fmt.Sprintf("owner=%d:%d", uid+by, gid+2*by)
		})
	}
	return out
}

func sortedChanges(s *store.Store, layer string) ([]diff.Change, error) {
	changes, err := s.Changes(context.Background(), layer, "")
	slices.SortFunc(changes, func(a, b diff.Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, err
}

func tarHeaders(t *testing.T, data []byte) map[string]*tar.Header {
	t.Helper()
	headers := map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return headers
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
}

func withoutIDs(tree map[string]string) map[string]string {
	for _, field := range []string{"system.posix_acl_access", "system.posix_acl_default", "security.capability"} {
		tree = testutil.Without(tree, field)
	}
	return tree
}

// A container sees the image's owners, whatever its mapping is and whichever way it comes
// about; nothing but owners changes.
func TestContainersWithMappings(t *testing.T) {
	ctx := context.Background()
	for way, set := range waysToMap {
		t.Run(way, func(t *testing.T) {
			cfg := roots(t)
			set(&cfg)
			s := open(t, cfg)
			tree := ownedTree(t, s)
			for _, by := range []int{100000, 200000, 100000, 0} {
				opts := store.ContainerOptions{Image: "img"}
				if by > 0 {
					opts.IDMap = shifted(by)
				}
				c, err := s.CreateContainer(ctx, opts)
				if err != nil {
					t.Fatal(err)
				}
				path, err := s.Mount(ctx, c.ID, store.MountOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got := testutil.Snapshot(t, path)
				if want := fmt.Sprintf("owner=%d:%d", by, 2*by); !strings.Contains(got["."], want+" ") {
					t.Errorf("root directory %s, want %s", got["."], want)
				}
				delete(got, ".")
				testutil.SameTree(t, withoutIDs(mapped(tree, by)), withoutIDs(got))
				if by > 0 {
					sameInside(t, path, by)
				}
				if changes, err := s.Changes(ctx, c.LayerID, ""); err != nil || len(changes) > 0 {
					t.Errorf("changes of a new container: %v, %v", changes, err)
				}
				// What the container changes goes out with its own IDs.
				file := filepath.Join(path, "d/more")
				if err := os.WriteFile(file, []byte("changed"), 0); err != nil {
					t.Fatal(err)
				}
				if err := os.Lchown(file, by+42, 2*by+43); err != nil {
					t.Fatal(err)
				}
				headers := tarHeaders(t, export(t, s, c.LayerID))
				if h := headers["d/more"]; h == nil || h.Uid != 42 || h.Gid != 43 {
					t.Errorf("in the diff: %+v", h)
				}
				if _, err := s.Unmount(ctx, c.ID, false); err != nil {
					t.Fatal(err)
				}
			}
			image, err := findImage(s, "img")
			if err != nil {
				t.Fatal(err)
			}
			copies := 2 // one for each mapping
			if way == "while mounting" {
				copies = 0
			}
			if len(image.MappedLayers) != copies {
				t.Errorf("copies of the top layer: %v", image.MappedLayers)
			}
			for _, m := range image.MappedLayers {
				// A copy is its template to whoever asks for the difference.
				got, err := sortedChanges(s, m)
				want, werr := sortedChanges(s, "high")
				if err != nil || werr != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("changes of a copy: %v, %v; of its template: %v, %v", got, err, want, werr)
				}
			}
			all, err := allContainers(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.DeleteImage(ctx, "img", store.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if left, err := allLayers(s); err != nil || len(left) > 0 {
				t.Errorf("layers left: %v, %v", left, err)
			}
			noGarbage(t, s)
		})
	}
}

// sameInside looks at a mounted container from within a user namespace of its mapping.
func sameInside(t *testing.T, path string, by int) {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	inside := func(tool string, args ...string) string {
		cmd := exec.Command(tool, args...)
		cmd.ExtraFiles = []*os.File{dir}
		m := shifted(by)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER,
			UidMappings:                []syscall.SysProcIDMap{{HostID: m.UIDs[0].HostID, Size: m.UIDs[0].Size}},
			GidMappings:                []syscall.SysProcIDMap{{HostID: m.GIDs[0].HostID, Size: m.GIDs[0].Size}},
			GidMappingsEnableSetgroups: true,
			Credential:                 &syscall.Credential{},
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", tool, err, out)
		}
		return string(out)
	}
	if got, want := inside("stat", "-c", "%u:%g %a", "/proc/self/fd/3/d/suid", "/proc/self/fd/3/d",
		"/proc/self/fd/3/two"), "5:6 4755\n1:2 1775\n3:4 600\n"; got != want {
		t.Errorf("inside: %q, want %q", got, want)
	}
	testutil.Tool(t, "getfacl", "acl")
	got := inside("getfacl", "-pnE", "/proc/self/fd/3/acl")
	for _, want := range []string{"user:13:r-x", "group:14:r--", "default:user:11:r-x", "default:group:12:r--"} {
		if !slices.Contains(strings.Split(got, "\n"), want) {
			t.Errorf("inside, the ACL lacks %s:\n%s", want, got)
		}
	}
}

// What either program has made the other one reads, with mappings applied while mounting
// or on disk.
func TestMappingsWithThePeer(t *testing.T) {
	ctx := context.Background()
	cli := testutil.Peer(t)
	for way, set := range waysToMap {
		t.Run(way, func(t *testing.T) {
			cfg := roots(t)
			set(&cfg)
			if cfg.Overlay.DisableIDMap {
				t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes")
			}
			s := open(t, cfg)
			tree := ownedTree(t, s)
			peer := peerHand{t, cli, cfg}
			ours, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img", IDMap: shifted(300000)})
			if err != nil {
				t.Fatal(err)
			}
			path := strings.TrimSpace(peer.run("mount", ours.ID))
			got := testutil.Snapshot(t, path)
			delete(got, ".")
			testutil.SameTree(t, withoutIDs(mapped(tree, 300000)), withoutIDs(got))
			peer.run("unmount", ours.ID)
			theirs := strings.Fields(peer.run("create-container", "--uidmap", "0:400000:65536", "--gidmap",
				"0:800000:65536", "img"))[0]
			if path, err = s.Mount(ctx, theirs, store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
			got = testutil.Snapshot(t, path)
			delete(got, ".")
			// containers/storage changes times of directories, and forgets the IDs in
			// ACLs, when it changes owners on disk.
			testutil.SameTree(t, testutil.Without(withoutIDs(mapped(tree, 400000)), "mtime"),
				testutil.Without(withoutIDs(got), "mtime"))
			if _, err := s.Unmount(ctx, theirs, false); err != nil {
				t.Fatal(err)
			}
			// Each takes the copy that the other has made.
			peer.run("create-container", "--uidmap", "0:300000:65536", "--gidmap", "0:600000:65536", "img")
			if _, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img",
				IDMap: shifted(400000)}); err != nil {
				t.Fatal(err)
			}
			image, err := findImage(s, "img")
			if err != nil || way != "while mounting" && len(image.MappedLayers) != 2 {
				t.Errorf("copies of the top layer: %v, %v", image.MappedLayers, err)
			}
			noGarbage(t, s)
		})
	}
}

// A layer with another mapping than its parent's holds a copy of everything, and what is
// applied to it gets its owners.
func TestLayerWithAnotherMapping(t *testing.T) {
	ctx := context.Background()
	for way, set := range waysToMap {
		t.Run(way, func(t *testing.T) {
			cfg := roots(t)
			set(&cfg)
			s := open(t, cfg)
			tree := ownedTree(t, s)
			layer, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: "high", IDMap: shifted(100000)})
			if err != nil {
				t.Fatal(err)
			}
			by := 100000
			if way == "while mounting" {
				by = 0 // layers are kept without a mapping
			}
			if _, err := s.ApplyDiff(ctx, layer.ID, strings.NewReader(string(layerTar(t, "added", "more/"))),
				nil); err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, layer.ID, store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := testutil.Snapshot(t, path)
			if want := fmt.Sprintf("owner=%d:%d ", by+1, 2*by+2); !strings.Contains(got["more"], want) ||
				got["added"] == "" {
				t.Errorf("applied: %s, %s", got["more"], got["added"])
			}
			for _, path := range []string{".", "added", "more"} {
				delete(got, path)
			}
			testutil.SameTree(t, withoutIDs(mapped(tree, by)), withoutIDs(got))
			if _, err := s.Unmount(ctx, layer.ID, false); err != nil {
				t.Fatal(err)
			}
			if changes, err := s.Changes(ctx, layer.ID, ""); err != nil || len(changes) != 2 {
				t.Errorf("changes: %v, %v", changes, err)
			}
		})
	}
}

// A tar applied to a mounted layer appears in the mount, whiteouts carried out, and comes
// out again as it went in.
func TestApplyToAMountedLayer(t *testing.T) {
	ctx := context.Background()
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			cfg := roots(t)
			cfg.Driver = driver
			s := open(t, cfg)
			base(t, cfg, s)
			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("top"), Parent: "base",
				Names: []string{"top"}}); err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, "top", store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			tar := layerTar(t, "etc/", "etc/.wh.hosts", "new")
			if _, err := s.ApplyDiff(ctx, "top", strings.NewReader(string(tar)), nil); err != nil {
				t.Fatal(err)
			}
			got := testutil.Snapshot(t, path)
			if got["new"] == "" || got["etc/hosts"] != "" || got["bin/sh"] == "" {
				t.Errorf("in the mount: %v", got)
			}
			if count, err := timesMounted(s, "top"); count != 1 || err != nil {
				t.Errorf("mounted %d times, %v", count, err)
			}
			if string(export(t, s, "top")) != string(tar) {
				t.Error("the tar didn't come out as it went in")
			}
			if layer, err := findLayer(s, "top"); err != nil || layer.DiffID == "" {
				t.Errorf("record %+v, %v", layer, err)
			}
			if _, err := s.Unmount(ctx, "top", false); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, s)
		})
	}
}

// In a user namespace the kernel maps no mounts, and owners are translated on disk.
func TestMappingInUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	if testutil.SingleID() {
		t.Skip("needs more than one user ID: root, or subordinate IDs")
	}
	ctx := context.Background()
	s := open(t, roots(t))
	importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh"), "base")
	image(t, s)
	m := idtools.Mapping{UIDs: []idtools.Map{{HostID: 10, Size: 20}}, GIDs: []idtools.Map{{HostID: 20, Size: 20}}}
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img", IDMap: m})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, c.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(path, "bin/sh"), &st); err != nil || st.Uid != 13 || st.Gid != 26 {
		t.Errorf("bin/sh belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	if _, err := s.Unmount(ctx, c.ID, false); err != nil {
		t.Fatal(err)
	}
	noGarbage(t, s)
}
