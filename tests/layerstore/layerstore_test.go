// Package layerstore lets Shale and containers-storage share the layers of a real
// additional layer store: stargz-store, over an eStargz image in a real registry on this
// machine.
package layerstore

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// layer is an eStargz layer as a registry has it.
type layer struct {
	blob                []byte
	digest, diffID, toc digest.Digest
}

// eStargz makes a layer of files, given as name and content in turns.
func eStargz(t *testing.T, files ...string) layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[i+1])), Uid: 3,
			Gid: 4}
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
	built, err := estargz.Build(io.NewSectionReader(bytes.NewReader(b.Bytes()), 0, int64(b.Len())))
	if err != nil {
		t.Fatal(err)
	}
	defer built.Close()
	blob, err := io.ReadAll(built)
	if err != nil {
		t.Fatal(err)
	}
	return layer{blob: blob, digest: digest.FromBytes(blob), diffID: built.DiffID(), toc: built.TOCDigest()}
}

// said is what a daemon has written, line by line.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// start runs a daemon until the test ends, and returns when a line of its output matches:
// the match's first group, and all that it goes on to say.
func start(t *testing.T, cmd *exec.Cmd, ready string) (string, *said) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	log, found := new(said), make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(found)
		pattern := regexp.MustCompile(ready)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			log.mu.Lock()
			log.lines = append(log.lines, lines.Text())
			log.mu.Unlock()
			if m := pattern.FindStringSubmatch(lines.Text()); m != nil && len(found) == 0 {
				found <- m[len(m)-1]
			}
		}
	}()
	t.Cleanup(func() {
		stdin.Close() // on which stargz unmounts and ends
		if strings.HasSuffix(cmd.Path, "registry") {
			cmd.Process.Kill()
		}
		cmd.Wait()
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), log.all())
		}
	})
	match, ok := <-found
	if !ok {
		t.Fatalf("%s: %s", cmd.Path, log.all())
	}
	return match, log
}

// registry starts a registry and returns its address.
func registry(t *testing.T) string {
	program, dir := testutil.Tool(t, "docker-registry", "docker-registry"), t.TempDir()
	settings := filepath.Join(dir, "config.yml") // Debian's own demands a password
	text := "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nhttp: {addr: " +
		"\"127.0.0.1:0\"}\nstorage: {filesystem: {rootdirectory: \"" + dir + "\"}}\n"
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", settings)
	address, _ := start(t, cmd, `listening on (127\.0\.0\.1:[0-9]+)`)
	return address
}

// push puts an image into a registry by its HTTP interface and returns its reference.
func push(t *testing.T, address string, image ...layer) string {
	t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      digest.Digest     `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	var diffIDs []digest.Digest
	var descriptors []descriptor
	for _, l := range image {
		pushBlob(t, address, l.blob)
		diffIDs = append(diffIDs, l.diffID)
		descriptors = append(descriptors, descriptor{
			"application/vnd.oci.image.layer.v1.tar+gzip", l.digest, len(l.blob),
			map[string]string{estargz.TOCJSONDigestAnnotation: l.toc.String()},
		})
	}
	configuration, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		t.Fatal(err)
	}
	pushBlob(t, address, configuration)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": descriptors,
		"config": descriptor{"application/vnd.oci.image.config.v1+json", digest.FromBytes(configuration),
			len(configuration), nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	request(t, "PUT", "http://"+address+"/v2/image/manifests/1", "application/vnd.oci.image.manifest.v1+json", manifest,
		http.StatusCreated)
	return address + "/image:1"
}

func pushBlob(t *testing.T, address string, blob []byte) {
	t.Helper()
	location, err := url.Parse(request(t, "POST", "http://"+address+"/v2/image/blobs/uploads/", "", nil,
		http.StatusAccepted))
	if err != nil {
		t.Fatal(err)
	}
	query := location.Query()
	query.Set("digest", digest.FromBytes(blob).String())
	location.RawQuery = query.Encode()
	request(t, "PUT", location.String(), "application/octet-stream", blob, http.StatusCreated)
}

func request(t *testing.T, method, to, contentType string, body []byte, want int) (location string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != want {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("%s %s: %s: %s", method, to, answer.Status, text)
	}
	return answer.Header.Get("Location")
}

// layerStore starts stargz-store and returns its mount point and what it says.
func layerStore(t *testing.T) (string, *said) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	program, mountPoint := filepath.Join(t.TempDir(), "stargz"), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", program, "./stargz").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	t.Cleanup(func() { testutil.UnmountBelow(mountPoint) })
	_, log := start(t, exec.Command(program, t.TempDir(), mountPoint), `^mounted$`)
	return mountPoint, log
}

// users reads from the daemon's log how many users each layer had in the end.
func users(log *said) map[string]string {
	last := map[string]string{}
	for _, m := range regexp.MustCompile(
		`layer \S+ ?/ ?(sha256:[0-9a-f]+) is marked as (?:USING|RELEASE)" refcounter=([0-9]+)`).FindAllStringSubmatch(
		log.all(), -1) {
		last[m[1]] = m[2]
	}
	return last
}

// wantUsers waits until the daemon has said that each layer has that many users: what it
// writes is read beside the test, so an answered call may not be among it yet.
func wantUsers(t *testing.T, log *said, want string, image ...layer) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, l := range image {
		got := users(log)[l.toc.String()]
		for got != want && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			got = users(log)[l.toc.String()]
		}
		if got != want {
			t.Errorf("layer %s has %q users, not %s", l.toc, got, want)
		}
	}
}

// An image whose layers nobody has unpacked is put into the store layer by layer, a
// container runs on it, both tools export the registry's own bytes, and when it is all
// deleted the layer store has no user left.
func TestStargzStore(t *testing.T) {
	testutil.HostRoot(t)
	base := eStargz(t, "etc/", "", "etc/passwd", "root", "gone", "soon")
	top := eStargz(t, "etc/", "", "etc/hosts", "localhost", ".wh.gone", "", "big", string(testutil.Noise("big", 5<<20)))
	reference := push(t, registry(t), base, top)
	afar, log := layerStore(t)

	ctx := t.Context()
	dir := t.TempDir()
	root := harness.NewRoot(dir)
	root.Options = append(root.Options, "overlay.additionallayerstore="+afar+":ref")
	cfg := config.Config{
		GraphRoot: root.Graph, RunRoot: root.Run, Driver: "overlay", Overlay: config.Overlay{SkipMountHome: true},
		AdditionalLayerStores: []config.LayerStore{{Path: afar, WithReference: true}},
	}
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	var ids []string
	for _, l := range []layer{base, top} {
		found, err := s.LookupAdditionalLayer(ctx, l.toc, reference)
		if err != nil {
			t.Fatal(err)
		}
		opts := layers.CreateOptions{}
		if len(ids) > 0 {
			opts.Parent = ids[0]
		}
		made, err := found.PutAs(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		found.Release()
		if made.TOCDigest != l.toc || made.Compression != compress.Gzip {
			// which has no other digest: stargz-store reads the table of contents alone
			t.Errorf("the record is %+v", made)
		}
		ids = append(ids, made.ID)
	}
	wantUsers(t, log, "1", base, top)

	shale, peer := harness.Shale(t), harness.Peer(t)
	for _, tool := range []harness.Tool{shale, peer} {
		box := strings.Fields(root.Must(t, tool, "create-layer", ids[1]))[0]
		at := strings.TrimSpace(root.Must(t, tool, "mount", box))
		for name, want := range map[string]string{"etc/passwd": "root", "etc/hosts": "localhost",
			"big": string(testutil.Noise("big", 5<<20))} {
			if got, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(got) != want {
				t.Errorf("%s: %s has %d bytes, %v", tool.Name, name, len(got), err)
			}
		}
		if _, err := os.Stat(filepath.Join(at, "gone")); !os.IsNotExist(err) {
			t.Errorf("%s: the whiteout has hidden nothing: %v", tool.Name, err)
		}
		if err := os.WriteFile(filepath.Join(at, "etc/hosts"), []byte("changed"), 0o644); err != nil {
			t.Errorf("%s: %v", tool.Name, err)
		}
		root.Must(t, tool, "unmount", box)
		out := filepath.Join(dir, "blob")
		root.Must(t, tool, "diff", "-c", "-f", out, ids[1])
		if got, err := harness.FileDigest(out); err != nil || got != top.digest.String() {
			t.Errorf("%s exports %s, %v", tool.Name, got, err)
		}
		if err := os.Remove(out); err != nil {
			t.Error(err)
		}
		root.Must(t, tool, "delete-layer", box)
	}
	var plain bytes.Buffer
	uncompressed := compress.None
	if err := s.Diff(ctx, &plain, ids[1], "", store.DiffOptions{Compression: &uncompressed}); err != nil ||
		digest.FromBytes(plain.Bytes()) != top.diffID {
		t.Errorf("the tar is %s, %v", digest.FromBytes(plain.Bytes()), err)
	}
	mapped(t, s, ids[1])
	root.Must(t, shale, "check")

	root.Must(t, shale, "delete-layer", ids[1])
	root.Must(t, peer, "delete-layer", ids[0])
	wantUsers(t, log, "0", base, top)
	if points, err := testutil.MountsBelow(dir); err != nil || len(points) > 0 {
		t.Errorf("left mounted: %v, %v", points, err)
	}
}

// mapped runs a container with an ID map on the layers: their daemon's mount can't
// translate owners.
func mapped(t *testing.T, s *store.Store, top string) {
	t.Helper()
	ctx := t.Context()
	image, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: top})
	if err != nil {
		t.Fatal(err)
	}
	maps := []idtools.Map{{ContainerID: 0, HostID: 100000, Size: 65536}}
	box, err := s.CreateContainer(ctx, store.ContainerOptions{Image: image.ID,
		IDMap: idtools.Mapping{UIDs: maps, GIDs: maps}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.Mount(ctx, box.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := testutil.Snapshot(t, at)["etc/hosts"]; !strings.Contains(got, "owner=100003:100004") {
		t.Errorf("etc/hosts is %s", got)
	}
	if _, err := s.Unmount(ctx, box.ID, false); err != nil {
		t.Error(err)
	}
	if err := s.DeleteContainer(ctx, box.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	var current images.Image
	if err := s.View(ctx, func(tx *store.ReadTx) (err error) {
		current, err = tx.Image(image.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, image.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	for _, id := range current.MappedLayers {
		if err := s.DeleteLayer(ctx, id, store.DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}
