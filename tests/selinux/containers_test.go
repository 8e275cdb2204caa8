package selinux

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// A container gets a pair of labels with the same categories, keeps them, and sees its
// files with them.
func TestSELinuxLabelsOfAContainer(t *testing.T) {
	testutil.SELinux(t)
	s, cfg := open(t, "overlay")
	c := create(t, s, store.ContainerOptions{})
	if !strings.HasPrefix(c.ProcessLabel(), processType+"s0:c") ||
		!strings.HasPrefix(c.MountLabel(), fileType+"s0:c") ||
		level(c.ProcessLabel()) != level(c.MountLabel()) {
		t.Errorf("labels %q and %q", c.ProcessLabel(), c.MountLabel())
	}
	l, err := look(t, s, func(tx *store.ReadTx) (layers.Layer, error) { return tx.Layer(c.LayerID) })
	if err != nil || l.MountLabel != c.MountLabel() {
		t.Errorf("the layer's record has the label %q, want %q (%v)", l.MountLabel, c.MountLabel(), err)
	}

	file := filepath.Join(mounted(t, s, c.ID, store.MountOptions{}), "file")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := labelOf(t, file); got != c.MountLabel() {
		t.Errorf("label %s, want %s", got, c.MountLabel())
	}
	unmount(t, s, c.ID)

	// Whoever mounts may want another label, for once.
	const other = fileType + "s0:c1,c2"
	mounted(t, s, c.ID, store.MountOptions{Label: other})
	if got := labelOf(t, file); got != other {
		t.Errorf("label %s, want %s", got, other)
	}
	unmount(t, s, c.ID)

	s.Close()
	again, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	mounted(t, again, c.ID, store.MountOptions{})
	if got := labelOf(t, file); got != c.MountLabel() {
		t.Errorf("opened anew: label %s, want %s", got, c.MountLabel())
	}
	unmount(t, again, c.ID)
}

// Root of a user namespace mounts with labels too (Linux 5.12, and 5.11 not yet).
func TestSELinuxLabelInAUserNamespace(t *testing.T) {
	testutil.SELinux(t)
	if !testutil.InUserNS(t) {
		return
	}
	s, _ := open(t, "overlay")
	c := create(t, s, store.ContainerOptions{})
	file := filepath.Join(mounted(t, s, c.ID, store.MountOptions{}), "file")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := labelOf(t, file); got != c.MountLabel() || level(got) == "" {
		t.Errorf("label %s, want %s", got, c.MountLabel())
	}
	unmount(t, s, c.ID)
}

// Labels are the host's: they leave with no layer, and come with none.
func TestSELinuxLabelsStayOutOfLayers(t *testing.T) {
	testutil.SELinux(t)
	s, _ := open(t, "overlay")
	c := create(t, s, store.ContainerOptions{})
	path := mounted(t, s, c.ID, store.MountOptions{})
	testutil.Tree(t, path, "dir/file=text", "file=text")
	unmount(t, s, c.ID)
	var diff bytes.Buffer
	if err := s.Diff(t.Context(), &diff, c.LayerID, "", store.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	names := 0
	for r := tar.NewReader(&diff); ; names++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if label, ok := h.PAXRecords["SCHILY.xattr.security.selinux"]; ok {
			t.Errorf("%s leaves with the label %s", h.Name, label)
		}
	}
	if names < 3 {
		t.Errorf("the diff has %d entries", names)
	}

	var labelled bytes.Buffer
	w := tar.NewWriter(&labelled)
	err := w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644,
		PAXRecords: map[string]string{"SCHILY.xattr.security.selinux": fileType + "s0:c7,c8"}})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	l, err := s.ImportLayer(t.Context(), layers.CreateOptions{}, &labelled, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(mounted(t, s, l.ID, store.MountOptions{}), "f")
	if got := labelOf(t, file); level(got) == "s0:c7,c8" {
		t.Errorf("the file came with its label %s", got)
	}
	unmount(t, s, l.ID)
}

func TestSELinuxLabelOptions(t *testing.T) {
	testutil.SELinux(t)
	s, _ := open(t, "overlay")
	for name, c := range map[string]struct {
		opts           []string
		process, mount string // the whole label, or how it begins if it ends in a colon
	}{
		"disable":  {[]string{"disable"}, "", fileType + "s0:c1022,c1023"},
		"level":    {[]string{"level:s0:c3,c4"}, processType + "s0:c3,c4", fileType + "s0:c3,c4"},
		"filetype": {[]string{"filetype:container_ro_file_t"}, processType, "system_u:object_r:container_ro_file_t:"},
		"type":     {[]string{"type:unconfined_t"}, "system_u:system_r:unconfined_t:", fileType},
	} {
		t.Run(name, func(t *testing.T) {
			got := create(t, s, store.ContainerOptions{LabelOpts: c.opts})
			for _, label := range []struct{ got, want string }{{got.ProcessLabel(), c.process},
				{got.MountLabel(), c.mount}} {
				if label.got != label.want && !(strings.HasSuffix(label.want, ":") &&
					strings.HasPrefix(label.got, label.want)) {
					t.Errorf("label %q, want %q", label.got, label.want)
				}
			}
			if seen := labelOf(t, mounted(t, s, got.ID, store.MountOptions{})); seen != got.MountLabel() {
				t.Errorf("mounted with the label %q, want %q", seen, got.MountLabel())
			}
			unmount(t, s, got.ID)
		})
	}
	before, err := look(t, s, (*store.ReadTx).Layers)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.CreateContainer(t.Context(), store.ContainerOptions{LabelOpts: []string{"colour:blue"}}); !errors.Is(
		err, errdefs.ErrInvalid) {
		t.Errorf("an unknown label option made container %q: %v", c.ID, err)
	}
	if after, err := look(t, s, (*store.ReadTx).Layers); err != nil || len(after) != len(before) {
		t.Errorf("%d layers, and %d after a failure (%v)", len(before), len(after), err)
	}
}

// Whoever calls has settled the labels itself, as Podman does.
func TestSELinuxLabelsOfTheCaller(t *testing.T) {
	testutil.SELinux(t)
	s, _ := open(t, "overlay")
	flags := map[string]any{containers.FlagProcessLabel: processType + "s0:c5,c6", containers.FlagMountLabel: fileType +
		"s0:c5,c6"}
	c := create(t, s, store.ContainerOptions{Flags: flags, LabelOpts: []string{"disable"}})
	if c.MountLabel() != flags[containers.FlagMountLabel] || c.ProcessLabel() != flags[containers.FlagProcessLabel] {
		t.Errorf("labels %q and %q, want those of %v", c.ProcessLabel(), c.MountLabel(), flags)
	}
}

// No two containers share categories: the records tell which are taken, whichever process
// they come from. Four categories have six pairs, so that drawing without looking would
// all but never give six containers six of them.
func TestSELinuxCategoriesAreNotShared(t *testing.T) {
	testutil.SELinux(t)
	if err := selinux.SetCategoryRange(4); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = selinux.SetCategoryRange(selinux.DefaultCategoryRange) }()
	s, cfg := open(t, "overlay")
	create(t, s, store.ContainerOptions{LabelOpts: []string{"disable"}}) // takes nothing of these
	second, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	var made sync.WaitGroup
	ids := make(chan string, 6)
	for i := range 6 {
		made.Go(func() {
			maker := []*store.Store{s, second}[i%2]
			if c, err := maker.CreateContainer(t.Context(), store.ContainerOptions{}); err != nil {
				t.Error(err)
			} else {
				ids <- c.ID
			}
		})
	}
	made.Wait()
	close(ids)
	owner := map[string]string{}
	for id := range ids {
		c, err := look(t, s, func(tx *store.ReadTx) (containers.Container, error) { return tx.Container(id) })
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := owner[level(c.MountLabel())]; taken {
			t.Errorf("containers %s and %s have the level %s", id, other, level(c.MountLabel()))
		}
		owner[level(c.MountLabel())] = id
	}

	if c, err := s.CreateContainer(t.Context(), store.ContainerOptions{}); !errors.Is(err, errdefs.ErrInUse) {
		t.Errorf("a seventh container: %s, %v; want %v", c.MountLabel(), err, errdefs.ErrInUse)
	}
	// A level that was asked for may be shared, as containers of a pod do.
	for freed, id := range owner {
		if c := create(t, s, store.ContainerOptions{LabelOpts: []string{"level:" + freed}}); level(
			c.MountLabel()) != freed {
			t.Errorf("the level %s, want %s", level(c.MountLabel()), freed)
		} else if err := s.DeleteContainer(t.Context(), c.ID, store.DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		// A deleted container's categories are free again.
		if err := s.DeleteContainer(t.Context(), id, store.DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if c := create(t, s, store.ContainerOptions{}); level(c.MountLabel()) != freed {
			t.Errorf("the level %s, want the free one, %s", level(c.MountLabel()), freed)
		}
		break
	}
}

// The vfs driver mounts nothing that could have a label: its layers are labelled for all
// containers, and what is made in them takes that over.
func TestSELinuxLabelOfVFSLayers(t *testing.T) {
	testutil.SELinux(t)
	s, _ := open(t, "vfs")
	l, err := s.ImportLayer(t.Context(), layers.CreateOptions{}, bytes.NewReader(oneFile(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	child, err := s.CreateLayer(t.Context(), layers.CreateOptions{Parent: l.ID, Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{l.ID, child.ID} {
		dir := mounted(t, s, id, store.MountOptions{})
		for _, path := range []string{dir, filepath.Join(dir, "dir"), filepath.Join(dir, "dir/file")} {
			if got := labelOf(t, path); got != fileType+"s0" {
				t.Errorf("%s: label %s, want %s", path, got, fileType+"s0")
			}
		}
		unmount(t, s, id)
	}
}

func oneFile(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{{Name: "dir/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "dir/file", Mode: 0o644}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return buf.Bytes()
}
