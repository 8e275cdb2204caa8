// The tests let containers/storage, the library that Podman and the others are made of,
// work on Shale's overlay driver. They need a build with -tags
// exclude_graphdriver_overlay; make test gives it.

package graphdriver_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	shale "github.com/shalestore/shale/compat/graphdriver"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/idtools"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/types"
)

// worker tells a child process in which root to work.
const worker = "SHALE_LIBRARY_WORKER"

// registered is nil when the program was built to leave the name to us.
var registered error

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	registered = graphdriver.Register("overlay", shale.Overlay)
	if root := os.Getenv(worker); root != "" {
		if err := work(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testutil.Main(m)
}

func options(root string) types.StoreOptions {
	return types.StoreOptions{
		GraphRoot: filepath.Join(root, "graph"), RunRoot: filepath.Join(root, "run"), GraphDriverName: "overlay",
		GraphDriverOptions: []string{"overlay.skip_mount_home=true"},
	}
}

// open opens a store of the library's on a root, with options of its own, and makes sure
// that it has our driver.
func open(t *testing.T, root string, changes ...func(*types.StoreOptions)) storage.Store {
	t.Helper()
	testutil.Root(t)
	if registered != nil {
		t.Skipf("needs a build with -tags exclude_graphdriver_overlay: %v", registered)
	}
	opts := options(root)
	for _, change := range changes {
		change(&opts)
	}
	s, err := storage.GetStore(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Free() })
	d, err := s.GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	if from := reflect.TypeOf(d).Elem().PkgPath(); !strings.HasPrefix(from, "github.com/shalestore/shale/") {
		t.Fatalf("the store has the driver of %s", from)
	}
	return s
}

// layerTar is a tar with files, given as name and content in turns. A name that ends in
// "/" is a directory. They belong to 3:4, or to root in a namespace that has no other ID.
func layerTar(t testing.TB, files ...string) []byte {
	uid, gid := 3, 4
	if ids, err := os.ReadFile("/proc/self/uid_map"); err != nil {
		t.Fatal(err)
	} else if f := strings.Fields(string(ids)); len(f) == 3 && f[2] == "1" {
		uid, gid = 0, 0
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[i+1])), Uid: uid,
			Gid: gid}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// An image comes, a container runs on it, changes something and becomes an image in turn;
// everything is checked by the library and by shale, and goes.
func TestImageLifeCycle(t *testing.T) { imageLifeCycle(t) }

// So it goes in a user namespace, where overlayfs keeps its marks in user.overlay
// attributes.
func TestImageLifeCycleInUserNamespace(t *testing.T) {
	if testutil.InUserNS(t) {
		imageLifeCycle(t)
	}
}

func imageLifeCycle(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	base := layerTar(t, "etc/", "", "etc/passwd", "root", "gone", "soon")
	top := layerTar(t, "etc/", "", "etc/hosts", "localhost", ".wh.gone", "")
	lower, _, err := s.PutLayer("", "", []string{"base"}, "", false, nil, bytes.NewReader(base))
	if err != nil {
		t.Fatal(err)
	}
	upper, _, err := s.PutLayer("", lower.ID, nil, "", false, nil, bytes.NewReader(top))
	if err != nil {
		t.Fatal(err)
	}
	if want := digest.FromBytes(top); upper.UncompressedDigest != want {
		t.Errorf("the layer's digest is %s, not %s", upper.UncompressedDigest, want)
	}
	image := must[*storage.Image](t)(s.CreateImage("", []string{"image"}, upper.ID, "", nil))
	container := must[*storage.Container](t)(s.CreateContainer("", []string{"box"}, image.ID, "", "", nil))
	dir := must[string](t)(s.Mount(container.ID, ""))
	for name, want := range map[string]string{"etc/passwd": "root", "etc/hosts": "localhost"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("the whiteout has hidden nothing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/hosts"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	shale := harness.Shale(t)
	r := harness.Root{Graph: options(root).GraphRoot, Run: options(root).RunRoot,
		Options: options(root).GraphDriverOptions}
	if got := r.Must(t, shale, "mounted", container.LayerID); !strings.Contains(got, "mounted") {
		t.Errorf("shale mounted: %q", got)
	}
	if busy, err := s.Unmount(container.ID, false); err != nil || busy {
		t.Fatalf("unmount: %v, still mounted: %t", err, busy)
	}

	changes, err := s.Changes("", container.LayerID)
	if err != nil || len(changes) != 1 || changes[0].Path != "/etc/hosts" {
		t.Errorf("changes %v, %v", changes, err)
	}
	diff := read(t, s, upper.ID)
	if !bytes.Equal(diff, top) {
		t.Error("the layer comes out with other bytes than it came with")
	}
	if got := must[string](t)(r.Digest(t.Context(), shale, upper.ID)); got != digest.FromBytes(top).String() {
		t.Errorf("shale exports %s", got)
	}
	committed := read(t, s, container.LayerID)
	again, _, err := s.PutLayer("", upper.ID, []string{"committed"}, "", false, nil, bytes.NewReader(committed))
	if err != nil {
		t.Fatal(err)
	}
	// Shale's own store goes on from there.
	child := strings.TrimSpace(strings.Split(r.Must(t, shale, "create-layer", again.ID), "\n")[0])
	at := strings.TrimSpace(r.Must(t, shale, "mount", child))
	if got, err := os.ReadFile(filepath.Join(at, "etc/hosts")); err != nil || string(got) != "changed" {
		t.Errorf("through shale: %q, %v", got, err)
	}
	r.Must(t, shale, "unmount", child)

	report, err := s.Check(storage.CheckEverything())
	if err != nil || len(report.Layers)+len(report.Images)+len(report.Containers) > 0 {
		t.Errorf("the library's check: %+v, %v", report, err)
	}
	r.Must(t, shale, "check")

	if err := s.DeleteLayer(child); err != nil {
		t.Error(err)
	}
	if err := s.DeleteLayer(again.ID); err != nil {
		t.Error(err)
	}
	if err := s.DeleteContainer(container.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.DeleteImage(image.ID, true); err != nil {
		t.Error(err)
	}
	nothingLeft(t, root)
	if _, err := s.Shutdown(false); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, s storage.Store, layer string) []byte {
	t.Helper()
	uncompressed := storage.DiffOptions{}
	r := must[io.ReadCloser](t)(s.Diff("", layer, &uncompressed))
	defer r.Close()
	return must[[]byte](t)(io.ReadAll(r))
}

// nothingLeft looks for layers in the driver's home, and for mounts.
func nothingLeft(t *testing.T, root string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(options(root).GraphRoot, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "l", "tempdirs", "staging", "backingFsBlockDev":
			within := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(options(root).GraphRoot, "overlay", e.Name())))
			if len(within) > 0 {
				t.Errorf("left in %s: %v", e.Name(), within)
			}
		default:
			t.Errorf("left: %s", e.Name())
		}
	}
	if mounts := must[[]string](t)(testutil.MountsBelow(root)); len(mounts) > 0 {
		t.Errorf("left mounted: %v", mounts)
	}
}

// A container with an ID map shows the image's owners as the host's, its own files have
// the host's on disk, and its diff has the container's: where owners are translated while
// mounting, and where they are translated on disk.
func TestIDMaps(t *testing.T) {
	for _, disable := range []string{"", "yes"} {
		t.Run("disabled="+disable, func(t *testing.T) {
			t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", disable)
			root := t.TempDir()
			s := open(t, root)
			layer, _, err := s.PutLayer("", "", nil, "", false, nil,
				bytes.NewReader(layerTar(t, "etc/", "", "etc/passwd", "root")))
			if err != nil {
				t.Fatal(err)
			}
			image := must[*storage.Image](t)(s.CreateImage("", nil, layer.ID, "", nil))
			maps := []idtools.IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
			container := must[*storage.Container](t)(s.CreateContainer("", nil, image.ID, "", "",
				&storage.ContainerOptions{
					IDMappingOptions: types.IDMappingOptions{UIDMap: maps, GIDMap: maps},
				}))
			dir := must[string](t)(s.Mount(container.ID, ""))
			if got := testutil.Snapshot(t, dir)["etc/passwd"]; !strings.Contains(got, "100003:100004") {
				t.Errorf("etc/passwd is %s", got)
			}
			if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(filepath.Join(dir, "new"), 100007, 100008); err != nil {
				t.Fatal(err)
			}
			must[bool](t)(s.Unmount(container.ID, false))
			h := must[*tar.Header](t)(tar.NewReader(bytes.NewReader(read(t, s, container.LayerID))).Next())
			for r := tar.NewReader(bytes.NewReader(read(t, s, container.LayerID))); h.Name != "new"; {
				h = must[*tar.Header](t)(r.Next())
			}
			if h.Uid != 7 || h.Gid != 8 {
				t.Errorf("the diff has new with %d:%d", h.Uid, h.Gid)
			}
			r := harness.Root{Graph: options(root).GraphRoot, Run: options(root).RunRoot,
				Options: options(root).GraphDriverOptions}
			r.Must(t, harness.Shale(t), "check")
			if err := s.DeleteContainer(container.ID); err != nil {
				t.Error(err)
			}
			if _, err := s.DeleteImage(image.ID, true); err != nil {
				t.Error(err)
			}
			nothingLeft(t, root)
		})
	}
}

// The deepest stack that the kernel mounts.
func TestDeepImage(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	parent := ""
	for i := range 499 {
		layer, err := s.CreateLayer(fmt.Sprintf("%064x", i+1), parent, nil, "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		parent = layer.ID
	}
	top, err := s.CreateLayer("", parent, nil, "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	must[string](t)(s.Mount(top.ID, ""))
	must[bool](t)(s.Unmount(top.ID, false))
	if err := s.Wipe(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, root)
}

// Several processes, each with the library and our driver in it, share a root, while
// shale looks on.
func TestProcessesAtOnce(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	first, _, err := s.PutLayer("", "", nil, "", false, nil, bytes.NewReader(layerTar(t, "f", "shared")))
	if err != nil {
		t.Fatal(err)
	}
	must[*storage.Image](t)(s.CreateImage("", []string{"shared"}, first.ID, "", nil))
	var children []*exec.Cmd
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), worker+"="+root)
		child.Stderr = new(bytes.Buffer)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	r := harness.Root{Graph: options(root).GraphRoot, Run: options(root).RunRoot,
		Options: options(root).GraphDriverOptions}
	for range 5 {
		var containers []json.RawMessage
		if err := json.Unmarshal([]byte(r.Must(t, harness.Shale(t), "containers", "-j")), &containers); err != nil {
			t.Error(err)
		}
	}
	for _, child := range children {
		if err := child.Wait(); err != nil {
			t.Errorf("%v: %s", err, child.Stderr)
		}
	}
	r.Must(t, harness.Shale(t), "check")
	if layers := must[[]storage.Layer](t)(s.Layers()); len(layers) != 1 {
		t.Errorf("%d layers are left", len(layers))
	}
	if mounts := must[[]string](t)(testutil.MountsBelow(root)); len(mounts) > 0 {
		t.Errorf("left mounted: %v", mounts)
	}
}

// work is what each of these processes does.
func work(root string) error {
	s, err := storage.GetStore(options(root))
	if err != nil {
		return err
	}
	image, err := s.Image("shared")
	if err != nil {
		return err
	}
	for i := range 5 {
		content := fmt.Sprintf("%d %d", os.Getpid(), i)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "g", Typeflag: tar.TypeReg, Mode: 0o644,
			Size: int64(len(content))}); err != nil {
			return err
		}
		_, _ = io.WriteString(w, content)
		_ = w.Close()
		layer, _, err := s.PutLayer("", image.TopLayer, nil, "", false, nil, &b)
		if err != nil {
			return err
		}
		own, err := s.CreateImage("", nil, layer.ID, "", nil)
		if err != nil {
			return err
		}
		container, err := s.CreateContainer("", nil, own.ID, "", "", nil)
		if err != nil {
			return err
		}
		dir, err := s.Mount(container.ID, "")
		if err != nil {
			return err
		}
		for name, want := range map[string]string{"f": "shared", "g": content} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if string(got) != want {
				return fmt.Errorf("%s: %q", name, got)
			}
		}
		if _, err := s.Unmount(container.ID, false); err != nil {
			return err
		}
		if err := s.DeleteContainer(container.ID); err != nil {
			return err
		}
		if _, err := s.DeleteImage(own.ID, true); err != nil {
			return err
		}
	}
	return nil
}
