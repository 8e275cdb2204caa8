package tools

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// An image that Podman has imported is Shale's as well: listed, mounted, compared,
// exported with its digest and deleted, but not while Podman has a container of it.
func TestPodmanImageInShale(t *testing.T) {
	h := newHost(t)
	base := busyboxTar(t)
	h.run("podman", "import", h.write("base.tar", string(base)), "localhost/base")
	id := h.run("podman", "images", "--quiet", "--no-trunc", "localhost/base")
	id = strings.TrimPrefix(id, "sha256:")
	if got := h.all("shale", "images", "--quiet"); !slices.Equal(got, []string{id}) {
		t.Fatalf("shale images: %v, want %s", got, id)
	}
	top := h.all("shale", "layers", "--quiet")[0]
	exported := filepath.Join(h.dir, "exported.tar")
	h.run("shale", "diff", "--uncompressed", "--output", exported, top)
	data, err := os.ReadFile(exported)
	if err != nil || digestOf(data) != digestOf(base) {
		t.Errorf("exported %s, want %s: %v", digestOf(data), digestOf(base), err)
	}
	h.run("podman", "create", "--name", "theirs", "localhost/base", "/bin/true")
	h.refused("in use", "shale", "delete-image", "localhost/base:latest")
	mounted := h.run("podman", "mount", "theirs")
	if again := h.run("shale", "mount", h.run("podman", "inspect", "--format", "{{.Id}}", "theirs")); again != mounted {
		t.Errorf("shale mounts Podman's container at %s, Podman at %s", again, mounted)
	}
	testutil.WriteFile(t, filepath.Join(mounted, "etc/passwd"), []byte("changed"), 0o644)
	changes := strings.Join(h.all("shale", "changes", h.layerOf("theirs")), " ")
	if !strings.Contains(changes, "/etc/passwd") {
		t.Errorf("changes of Podman's container: %s", changes)
	}
	h.run("podman", "umount", "theirs")
	if _, err := os.Stat(filepath.Join(mounted, "bin/busybox")); err != nil {
		t.Errorf("Podman has unmounted what Shale still uses: %v", err)
	}
	h.run("shale", "unmount", h.layerOf("theirs"))
	h.run("podman", "rm", "theirs")
	h.sound()
	h.run("shale", "delete-image", "localhost/base:latest")
	if left := h.all("podman", "images", "--quiet", "--all"); len(left) != 0 {
		t.Errorf("podman images after shale delete-image: %v", left)
	}
	if left := h.all("shale", "layers", "--quiet"); len(left) != 0 {
		t.Errorf("layers left: %v", left)
	}
	h.sound()
}

// layerOf is the layer of one of Podman's containers.
func (h *host) layerOf(container string) string {
	h.t.Helper()
	for line := range strings.Lines(strings.Join(h.all("shale", "container",
		h.run("podman", "inspect", "--format", "{{.Id}}", container)), "\n")) {
		if word := strings.TrimSpace(line); len(word) == 64 && h.isLayer(word) {
			return word
		}
	}
	h.t.Fatalf("container %s: no layer", container)
	return ""
}

func (h *host) isLayer(id string) bool {
	_, err := h.try(h.t.Context(), "shale", "exists", "--layer", id)
	return err == nil
}

// An image that Shale made is run by Podman, built upon by Buildah and copied by Skopeo
// with the very blobs.
func TestShaleImageInTheTools(t *testing.T) {
	h := newHost(t)
	base := busyboxTar(t)
	second := tarOf(t, "etc/second", "made by shale\n")
	id, layers := h.makeImage("localhost/made:latest", base, second)
	if got := h.run("podman", "images", "--quiet", "--no-trunc"); got != "sha256:"+id {
		t.Fatalf("podman images: %s, want %s", got, id)
	}
	if got := h.run("podman", "run", "--rm", "localhost/made", "/bin/cat", "/etc/second"); got != "made by shale" {
		t.Errorf("podman run: %q", got)
	}
	if got := h.run("podman", "run", "--rm", "--user", "user", "localhost/made", "/bin/stat", "-c", "%u:%g %a",
		"/home/user/owned"); got != "1000:1000 640" {
		t.Errorf("owner in a container: %q", got)
	}
	h.run("podman", "run", "--name", "worked", "localhost/made", "/bin/touch", "/by-podman")
	h.refused("in use", "shale", "delete-image", id)
	h.refused("in use", "shale", "delete-layer", layers[1])
	h.run("podman", "commit", "worked", "localhost/committed")
	h.run("podman", "rm", "worked")

	// Skopeo: the blobs in an OCI layout are the tars that went in.
	h.run("skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers",
		"containers-storage:localhost/made:latest", "oci:"+h.dir+"/layout:made")
	for i, data := range [][]byte{base, second} {
		path := filepath.Join(h.dir, "layout/blobs/sha256", strings.TrimPrefix(digestOf(data), "sha256:"))
		if blob, err := os.ReadFile(path); err != nil || digestOf(blob) != digestOf(data) {
			t.Errorf("blob of layer %d: %v", i, err)
		}
	}
	h.run("skopeo", "copy", "--quiet", "oci:"+h.dir+"/layout:made", "containers-storage:localhost/back:latest")

	// Buildah, by a Containerfile and step by step.
	h.write("context/Containerfile",
		"FROM localhost/made\nRUN echo built > /etc/built && rm /etc/second\nCMD [\"/bin/cat\", \"/etc/built\"]\n")
	h.run("buildah", "bud", "--pull-never", "--tag", "localhost/built", h.dir+"/context")
	if got := h.run("podman", "run", "--rm", "localhost/built"); got != "built" {
		t.Errorf("what Buildah built says %q", got)
	}
	working := h.run("buildah", "from", "--pull-never", "localhost/made")
	h.run("buildah", "run", working, "/bin/touch", "/by-buildah")
	h.refused("in use", "shale", "delete-image", id)
	h.run("buildah", "commit", working, "localhost/stepwise")
	h.run("buildah", "rm", working)
	h.sound()

	// A container of Shale's keeps Podman from deleting the image.
	container := h.run("shale", "create-container", "localhost/stepwise:latest")
	mounted := h.run("shale", "mount", container)
	if _, err := os.Stat(filepath.Join(mounted, "by-buildah")); err != nil {
		t.Error(err)
	}
	h.refused("in use", "podman", "rmi", "localhost/stepwise")
	h.run("shale", "unmount", container)
	h.run("shale", "delete-container", container)
	for _, name := range []string{"stepwise", "built", "committed", "back", "made"} {
		h.run("podman", "rmi", "localhost/"+name)
	}
	if left := append(h.all("shale", "layers", "--quiet"), h.all("shale", "images", "--quiet")...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	h.sound()
}

// A container with its own user namespace on Shale's image; what Podman makes for it,
// Shale understands and takes away.
func TestMappedPodmanContainer(t *testing.T) {
	h := newHost(t)
	h.makeImage("localhost/made:latest", busyboxTar(t))
	maps := []string{"--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"}
	args := append(append([]string{"run", "--name", "mapped"}, maps...), "localhost/made", "/bin/stat", "-c", "%u:%g",
		"/home/user/owned")
	if got := h.run("podman", args...); got != "1000:1000" {
		t.Errorf("owner inside: %q", got)
	}
	h.sound()
	mounted := h.run("shale", "mount", h.layerOf("mapped"))
	info, err := os.Stat(filepath.Join(mounted, "etc"))
	if err != nil {
		t.Error(err)
	} else if uid := owner(info); uid != 100000 && uid != 0 {
		t.Errorf("owner outside: %d", uid)
	}
	h.run("shale", "unmount", h.layerOf("mapped"))
	h.run("podman", "rm", "mapped")
	h.run("shale", "delete-image", "localhost/made:latest")
	if left := h.all("shale", "layers", "--quiet"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	h.sound()
}

// A store of Shale's serves Podman as an additional image store, and one of Podman's
// serves Shale.
func TestAdditionalStoresOfEachOther(t *testing.T) {
	library := newHost(t)
	library.makeImage("localhost/ours:latest", busyboxTar(t), tarOf(t, "etc/second", "from the library\n"))
	library.run("podman", "import", library.write("base.tar", string(busyboxTar(t))), "localhost/theirs")
	for _, h := range []*host{library} {
		h.run("shale", "shutdown")
	}
	user := newHost(t, "additionalimagestores = [\""+library.graph+"\"]")
	if got := user.run("podman", "run", "--rm", "localhost/ours", "/bin/cat",
		"/etc/second"); got != "from the library" {
		t.Errorf("podman run: %q", got)
	}
	container := user.run("shale", "create-container", "localhost/theirs:latest")
	mounted := user.run("shale", "mount", container)
	if _, err := os.Stat(filepath.Join(mounted, "bin/busybox")); err != nil {
		t.Error(err)
	}
	user.run("shale", "unmount", container)
	user.run("shale", "delete-container", container)
	user.write("context/Containerfile", "FROM localhost/theirs\nRUN echo built > /etc/built\n")
	user.run("buildah", "bud", "--pull-never", "--tag", "localhost/built", user.dir+"/context")
	user.sound()
	user.run("shale", "delete-image", "localhost/built:latest")
	if left := user.all("podman", "images", "--quiet"); len(left) != 2 {
		t.Errorf("podman images: %v, want the library's two", left)
	}
}
