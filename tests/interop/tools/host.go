// Package tools lets Shale share one store with the real Podman, Buildah, Skopeo and crun
// of a Linux host.
package tools

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
	"golang.org/x/sys/unix"
)

// host is a place where all tools find the same store, by one storage.conf, and nothing
// of the real host's settings.
type host struct {
	t     testing.TB
	dir   string
	graph string
	env   []string
	shale string
}

// newHost makes a host. What tools a test needs it asks for by run's skipping; the
// store's options are lines for storage.conf's [storage.options].
func newHost(t testing.TB, options ...string) *host {
	t.Helper()
	testutil.Root(t)
	for _, tool := range []string{"podman", "buildah", "skopeo", "crun"} {
		testutil.Tool(t, tool, tool)
	}
	ownCgroups(t)
	// short: Podman refuses a run root of more than 50 characters, and says so late
	dir, err := os.MkdirTemp("/tmp", "shale")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	h := &host{t: t, dir: dir, shale: harness.Shale(t).Path}
	// In memory: each durable step would wait for what others write to the disk.
	if err := unix.Mount("tmpfs", h.dir, "tmpfs", 0, "mode=0755,size=2g"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(h.dir, unix.MNT_DETACH) })
	t.Cleanup(func() { testutil.UnmountBelow(h.dir) })
	h.graph = filepath.Join(h.dir, "graph")
	h.write("storage.conf",
		fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n[storage.options]\n%s\n", h.graph,
			h.dir+"/run", strings.Join(options, "\n")))
	// Nothing of a service manager, of networks or of limits that this process may not
	// have; and no shared memory of a container's own, which Podman 4.3 unmounts late, or
	// never when the container has an ID map, and then can't remove the container.
	h.write("containers.conf", fmt.Sprintf(`[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "crun"
tmp_dir = %q
[containers]
netns = "host"
ipcns = "none"
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
`, h.dir+"/libpod"))
	h.write("policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	h.write("registries.conf", "unqualified-search-registries = []\n")
	for _, setting := range os.Environ() {
		switch name, _, _ := strings.Cut(setting, "="); name {
		case "STORAGE_DRIVER", "STORAGE_OPTS", "HOME", "XDG_RUNTIME_DIR":
		default:
			h.env = append(h.env, setting)
		}
	}
	h.env = append(h.env, "CONTAINERS_STORAGE_CONF="+h.dir+"/storage.conf", "CONTAINERS_CONF="+h.dir+"/containers.conf",
		"CONTAINERS_REGISTRIES_CONF="+h.dir+"/registries.conf", "HOME="+h.dir, "BUILDAH_ISOLATION=chroot")
	return h
}

// ownCgroups gives this mount namespace a cgroup2 file system where crun expects one;
// some hosts have the hybrid kind.
func ownCgroups(t testing.TB) {
	var st unix.Statfs_t
	const root = "/sys/fs/cgroup"
	if err := unix.Statfs(root, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return
	}
	for unix.Unmount(root, unix.MNT_DETACH) == nil {
	}
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Skipf("needs a cgroup2 file system: %v", err)
	}
}

func (h *host) write(name, content string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	testutil.WriteFile(h.t, path, []byte(content), 0o644)
	return path
}

// try runs a tool and returns what it prints. SHALE_PODMAN, SHALE_BUILDAH and
// SHALE_SKOPEO name others than the host's.
func (h *host) try(ctx context.Context, tool string, args ...string) (string, error) {
	program := tool
	switch tool {
	case "shale":
		program = h.shale
	case "podman", "buildah", "skopeo":
		if other := os.Getenv("SHALE_" + strings.ToUpper(tool)); other != "" {
			program = other
		}
	}
	if tool == "skopeo" {
		args = slices.Insert(args, 0, "--policy", h.dir+"/policy.json")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = h.env, h.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: exit %d: %s", tool, strings.Join(args, " "), exit.ExitCode(),
			strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), err
}

// run is try for what has to work. It returns the last line, which is where the tools
// print an ID.
func (h *host) run(tool string, args ...string) string {
	h.t.Helper()
	out, err := h.try(h.t.Context(), tool, args...)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return out[strings.LastIndex(out, "\n")+1:]
}

// all is run for output of many lines.
func (h *host) all(tool string, args ...string) []string {
	h.t.Helper()
	out, err := h.try(h.t.Context(), tool, args...)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(out)
}

// refused runs what must fail and say these words.
func (h *host) refused(words string, tool string, args ...string) {
	h.t.Helper()
	out, err := h.try(h.t.Context(), tool, args...)
	if err == nil || !strings.Contains(err.Error()+out, words) {
		h.t.Errorf("%s %v: %v %s; want a refusal with %q", tool, args, err, out, words)
	}
}

// sound fails the test if shale check has anything to say.
func (h *host) sound() {
	h.t.Helper()
	if out, err := h.try(h.t.Context(), "shale", "check"); err != nil || out != "" {
		h.t.Errorf("shale check: %v\n%s", err, out)
	}
}

// busyboxTar is a base layer that something can run in: a static busybox and a few files
// more.
func busyboxTar(t testing.TB) []byte {
	t.Helper()
	busybox, err := os.ReadFile(testutil.Tool(t, "busybox", "busybox-static"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h tar.Header, content []byte) {
		h.Size, h.Format = int64(len(content)), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "proc/", "sys/", "dev/", "home/", "home/user/"} {
		put(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	put(tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, name := range []string{"sh", "cat", "ls", "touch", "echo", "stat", "rm", "sleep"} {
		put(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	put(tar.Header{Name: "etc/passwd", Mode: 0o644},
		[]byte("root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"))
	put(tar.Header{Name: "home/user/owned", Mode: 0o640, Uid: 1000, Gid: 1000,
		PAXRecords: map[string]string{"SCHILY.xattr.user.kind": "plain"}}, []byte("mine\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func hexOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func digestOf(data []byte) string { return "sha256:" + hexOf(data) }

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(data)
	w.Close()
	return out.Bytes()
}

// makeImage is tryImage for what has to work.
func (h *host) makeImage(name string, tars ...[]byte) (id string, layers []string) {
	h.t.Helper()
	id, layers, err := h.tryImage(h.t.Context(), name, tars...)
	if err != nil {
		h.t.Fatal(err)
	}
	return id, layers
}

// descriptor points to a blob (image-spec, descriptor.md).
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// tryImage makes an image that Podman can run out of layer tars, the lowest first, with
// Shale alone: it imports those that aren't there yet, every second one compressed, and
// stores the configuration and the manifest of the OCI image specification under the keys
// that container tools look for.
func (h *host) tryImage(ctx context.Context, name string, tars ...[]byte) (id string, layers []string, err error) {
	var diffIDs []string
	var blobs []descriptor
	chain := ""
	for i, plain := range tars {
		blob, kind := plain, "application/vnd.oci.image.layer.v1.tar"
		if i%2 == 1 {
			blob, kind = gzipped(plain), kind+"+gzip"
		}
		diffIDs = append(diffIDs, digestOf(plain))
		blobs = append(blobs, descriptor{kind, digestOf(blob), len(blob)})
		parent := slices.Clone(layers[max(0, i-1):])
		// The ID by which Skopeo and Podman know a layer when it comes to them from
		// elsewhere.
		if chain == "" {
			chain = hexOf(plain)
		} else {
			chain = hexOf([]byte(chain + "+" + hexOf(plain)))
		}
		layers = append(layers, chain)
		if _, err := h.try(ctx, "shale", "exists", "--layer", chain); err == nil {
			continue
		}
		path := h.write(fmt.Sprint(strings.ReplaceAll(name, "/", "-"), i, ".layer"), string(blob))
		defer os.Remove(path)
		if _, err := h.try(ctx, "shale", append([]string{"import-layer", "--readonly", "--id", chain, "--file", path},
			parent...)...); err != nil {
			return "", nil, err
		}
	}
	config := h.json(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
		"config": map[string]any{"Cmd": []string{"/bin/sh"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	manifest := h.json(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor{"application/vnd.oci.image.config.v1+json", digestOf(config), len(config)},
		"layers": blobs,
	})
	id = hexOf(config)
	create := []string{"create-image", "--id", id, "--name", name}
	for key, data := range map[string][]byte{digestOf(config): config, "manifest": manifest, "manifest-" +
		digestOf(manifest): manifest} {
		path := h.write(strings.ReplaceAll(name, "/", "-")+"."+key, string(data))
		defer os.Remove(path)
		create = append(create, "--data", key+"="+path)
	}
	_, err = h.try(ctx, "shale", append(create, chain)...)
	return id, layers, err
}

func (h *host) json(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}
