package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// peerStore is a store that containers/storage's own CLI makes, so that its diffs and
// ours can be compared on the same directories.
type peerStore struct {
	t      *testing.T
	cli    string
	driver string
	dir    string
}

func newPeerStore(t *testing.T, driver string) *peerStore {
	testutil.HostRoot(t)
	s := &peerStore{t: t, cli: testutil.Peer(t), driver: driver, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, "storage.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := testutil.UnmountBelow(s.dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *peerStore) run(args ...string) []byte {
	s.t.Helper()
	args = append([]string{args[0], "-g", s.dir + "/root", "-R", s.dir + "/run", "-s", s.driver}, args[1:]...)
	cmd := exec.Command(s.cli, args...)
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+s.dir+"/storage.conf")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s: %v\n%s", cmd, err, errs.Bytes())
	}
	return out.Bytes()
}

// layer makes a layer on parent ("" for none) whose content is what change does to the
// mounted tree.
func (s *peerStore) layer(id, parent string, change func(dir string)) {
	s.t.Helper()
	args := []string{"create-layer", "-i", id}
	if parent != "" {
		args = append(args, parent)
	}
	s.run(args...)
	mounted := strings.TrimSpace(string(s.run("mount", id)))
	change(mounted)
	s.run("unmount", id)
}

// content is the directory that holds the layer's own files.
func (s *peerStore) content(id string) string {
	if s.driver == "vfs" {
		return filepath.Join(s.dir, "root/vfs/dir", id)
	}
	return filepath.Join(s.dir, "root/overlay", id, "diff")
}

func layerID(n int) string { return fmt.Sprintf("%064x", n) }

// theStory is three layers in which everything happens that can happen to a file.
func theStory(t *testing.T) []func(dir string) {
	sh := func(dir, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	long := strings.Repeat("long-name-", 20)
	base := func(dir string) {
		testutil.Tree(t, dir,
			"bin/tool*70000 04755 @1700000000.123456789",
			"bin/cap*300 "+
				"security.capability="+
				"\"\\x01\\x00\\x00\\x02\\x00\\x04"+
				"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\"",
			"etc/passwd=\"root:x:0:0\" 0640 0:42 @1600000000",
			"etc/empty=", "etc/old=x @-1.5", "etc/future=x @99999999999",
			"etc/conf.d/a=1", "etc/conf.d/b=2", "etc/conf.d/sub/c=3", "etc/conf-d=between",
			"home/big-owner=x 3000000:3000001",
			"home/u=x user.note=hello user.empty=\"\" trusted.secret=no user.overlay.opaque=y",
			"lib->usr/lib", "usr/lib/so*5000", "usr/lib/ld=x", "abs->/etc/passwd",
			"dev/c%5:1", "dev/b%%7:0", "dev/pipe|",
			"links/one=same", "links/two=>links/one", "links/three=>links/one", "a-links/zero=>links/one",
			"links/sym->nowhere", "links/sym2=>links/sym",
			"sticky/ 01777 1000:1000 @1500000000", "deep/"+strings.Repeat("d/", 60)+"f=x",
			"names/"+long+"/"+long+"=x", "names/\xff\xfe=latin", "names/ünïcode=x",
			"replaced/was/dir=x", "tofile/x=1", "gone/a=1", "gone/b=2", "touched/keep=1", "moved/x*100000",
			"emptydir/ 0700", "chunk*1000000", "block*512", "blocks*1024", "off*513",
		)
	}
	middle := func(dir string) {
		sh(dir, `
			rm -rf gone replaced tofile
			mkdir -p replaced; echo n > replaced/new; echo n > tofile
			rm lib; mkdir lib; echo x > lib/ld; echo y > lib/other
			echo more >> etc/passwd; chmod 600 etc/conf.d/a; touch -d @1700000001 etc/conf.d/b
			rm etc/conf.d/sub/c; mkdir new; echo 1 > new/file; ln new/file new/link; ln -s x new/sym
			mv moved/x moved/y; rm names/ünïcode; rm links/sym; chown 5:6 sticky; rm dev/c
			mkdir touched/d; rmdir touched/d; setfattr -n user.k -v v bin/tool || true`)
	}
	top := func(dir string) {
		sh(dir, `
			mkdir gone; echo back > gone/a; echo z > lib/ld; rm -rf new; mkdir new; echo 2 > new/file
			rm lib/other; rm -rf etc/conf.d; echo x > etc/conf.d
			ln usr/lib/so usr/lib/so.1; truncate -s 3000000 sparse; rm chunk; echo a > emptydir/a; rm emptydir/a`)
	}
	return []func(string){base, middle, top}
}

// Read as overlay reads it, from the upper directories alone, each layer's tar is the
// peer's, byte by byte, and so is the change list.
func TestOverlayDiffIsThePeers(t *testing.T) {
	s := newPeerStore(t, "overlay")
	var lowers []string
	for i, change := range theStory(t) {
		id, parent := layerID(i+1), ""
		if i > 0 {
			parent = layerID(i)
		}
		s.layer(id, parent, change)
		want := s.run("diff", "-u", id)
		var got bytes.Buffer
		if err := diff.WriteOverlay(t.Context(), &got, s.content(id), lowers, false,
			diff.Options{}); err != nil {
			t.Fatal(err)
		}
		sameTar(t, want, got.Bytes())
		if !bytes.Equal(want, got.Bytes()) {
			t.Errorf("layer %d: entries are equal, bytes are not", i+1)
		}
		changes, err := diff.OverlayChanges(t.Context(), s.content(id), lowers, false)
		if err != nil {
			t.Fatal(err)
		}
		sameLines(t, s.changes(id), changeLines(asThePeers(t, s.content(id), lowers, changes)))
		lowers = append([]string{s.content(id)}, lowers...)
	}
}

// Compared as vfs does it, tree against tree, each layer's tar is the peer's but for the
// time of its whiteouts, and so is the change list but for its order, which in the peer
// is another each time.
func TestTreeDiffIsThePeers(t *testing.T) {
	s := newPeerStore(t, "vfs")
	for i, change := range theStory(t) {
		id, parent, old := layerID(i+1), "", ""
		if i > 0 {
			parent, old = layerID(i), s.content(layerID(i))
		}
		s.layer(id, parent, change)
		want := s.run("diff", "-u", id)
		var got bytes.Buffer
		if err := diff.WriteTree(t.Context(), &got, s.content(id), old, diff.Options{}); err != nil {
			t.Fatal(err)
		}
		sameTar(t, want, got.Bytes())
		if i == 0 && !bytes.Equal(want, got.Bytes()) {
			t.Errorf("layer %d: entries are equal, bytes are not", i+1)
		}
		changes, err := diff.TreeChanges(t.Context(), s.content(id), old, diff.Options{})
		if err != nil {
			t.Fatal(err)
		}
		theirs, ours := s.changes(id), changeLines(changes)
		slices.Sort(theirs)
		slices.Sort(ours)
		sameLines(t, theirs, ours)
	}
}

func (s *peerStore) changes(id string) []string {
	s.t.Helper()
	return slices.DeleteFunc(strings.Split(string(s.run("changes", id)), "\n"), func(l string) bool { return l == "" })
}

// asThePeers lists an opaque directory as Deleted, doesn't list what it hides, and
// follows lower links in its place, as containers/storage does.
func asThePeers(t *testing.T, upper string, lowers []string, changes []diff.Change) (list []diff.Change) {
	linked := func(path string) bool {
		for _, lower := range lowers {
			root, err := openat.At(unix.AT_FDCWD, lower, unix.O_PATH)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(root)
			if fd, err := openat.InRoot(root, path, unix.O_PATH); err == nil {
				unix.Close(fd)
				return true
			}
		}
		return false
	}
	opaque := func(path string) bool {
		n, err := unix.Lgetxattr(upper+path, "trusted.overlay.opaque", nil)
		return err == nil && n == 1
	}
	for _, c := range changes {
		if c.Kind == diff.Modified && opaque(c.Path) {
			c.Kind = diff.Deleted
		}
		if c.Kind == diff.Added && opaque(path.Dir(c.Path)) && linked(c.Path) {
			c.Kind = diff.Modified
		}
		hidden := false
		for dir := path.Dir(c.Path); c.Kind == diff.Deleted && dir != "/"; dir = path.Dir(dir) {
			_, err := os.Lstat(upper + c.Path)
			hidden = hidden || opaque(dir) && err != nil
		}
		if !hidden {
			list = append(list, c)
		}
	}
	return list
}

func changeLines(changes []diff.Change) []string {
	lines := []string{}
	for _, c := range changes {
		lines = append(lines, fmt.Sprintf("%s %q", map[diff.ChangeKind]string{
			diff.Added: "Add", diff.Modified: "Modify", diff.Deleted: "Delete"}[c.Kind], c.Path))
	}
	return lines
}

func sameLines(t *testing.T, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		w, g := "nothing", "nothing"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			t.Errorf("line %d: want %s, got %s", i+1, w, g)
			return
		}
	}
}

// sameTar compares two tars entry by entry. Whiteouts' times count only where neither is
// of the time of day.
func sameTar(t *testing.T, want, got []byte) {
	t.Helper()
	sameLines(t, tarLines(t, want), tarLines(t, got))
}

func tarLines(t *testing.T, data []byte) (lines []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("after %d entries: %v", len(lines), err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(h.Name), ".wh.") && h.Size == 0 {
			h.ModTime = time.Time{}
		}
		lines = append(lines, fmt.Sprintf("%+v %d bytes %x", *h, len(content), fnv(content)))
	}
}

func fnv(b []byte) (h uint64) {
	h = 14695981039346656037
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
