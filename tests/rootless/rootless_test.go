// Package rootless runs the binary as an ordinary user, who gets a user namespace from
// it.
package rootless

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// TestOneID is the store's main job for a user without subordinate IDs: everything is the
// user's own.
func TestOneID(t *testing.T) {
	shale := harness.Shale(t)
	if !testutil.AsUser(t) {
		return
	}
	flow(t, shale, func(*tar.Header) {})
}

// TestSubordinateIDs is the same for a user with 65,536 IDs and newuidmap: owners are
// kept.
func TestSubordinateIDs(t *testing.T) {
	shale := harness.Shale(t)
	testutil.Tool(t, "newuidmap", "uidmap")
	if !testutil.AsUserWithSubIDs(t) {
		return
	}
	flow(t, shale, func(h *tar.Header) { h.Uid, h.Gid = 1000, 5 })
}

func flow(t *testing.T, shale harness.Tool, owner func(*tar.Header)) {
	dir := t.TempDir()
	root := harness.NewRoot(dir)
	archive := layer(t, filepath.Join(dir, "layer.tar"), owner)

	id := firstLine(root.Must(t, shale, "import-layer", "-f", archive.Path, "-n", "base"))
	if got, err := root.Digest(t.Context(), shale, id); err != nil || got != archive.Digest {
		t.Errorf("exported as %s, want %s: %v", got, archive.Digest, err)
	}
	child := firstLine(root.Must(t, shale, "create-layer", "-n", "child", "base"))

	// A mount lives in the namespace that the command made, so what looks at it must run
	// there too.
	inside := func(script string) string {
		t.Helper()
		cmd := root.Command(t.Context(), shale, "unshare", "sh", "-euc", script)
		cmd.Env = append(cmd.Env, "SHALE="+strings.Join(root.Command(t.Context(), shale).Args, " "), "ID="+child,
			"ARCHIVE="+archive.Path, "REFERENCE="+filepath.Join(dir, "reference"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("unshare: %v: %s%s", err, out, stderr.Bytes())
		}
		return string(out)
	}
	listing := `find . ! -path . -printf '%p %y %m %U:%G %T@ %l\n' | sort`
	want := inside(`mkdir "$REFERENCE"; cd "$REFERENCE"; tar -xpf "$ARCHIVE" --same-owner --numeric-owner; ` + listing)
	got := inside(`cd "$($SHALE mount "$ID")"; ` + listing + `; cd /; $SHALE unmount "$ID" >&2`)
	if got != want || strings.Count(got, "\n") < 5 {
		t.Errorf("mounted, the layer is\n%s\nGNU tar extracts\n%s", got, want)
	}

	inside(
		`cd "$($SHALE mount "$ID")"; rm -r etc; mkdir etc; echo new > etc/new; echo more >> usr/bin/tool; cd /; ` +
			`$SHALE unmount "$ID"`)
	changes := root.Must(t, shale, "changes", child)
	for _, line := range []string{`"/etc"`, `Add "/etc/new"`, `Modify "/usr/bin/tool"`} {
		if !strings.Contains(changes, line) {
			t.Errorf("the changes lack %s:\n%s", line, changes)
		}
	}
	diff := filepath.Join(dir, "diff.tar")
	root.Must(t, shale, "diff", "-u", "-f", diff, child)
	twin := firstLine(root.Must(t, shale, "import-layer", "-f", diff, "base"))
	tree := func(id string) string {
		return inside(`cd "$($SHALE mount ` + id +
			`)"; find . ! -path . -printf '%p %y %m %U:%G %s\n' | sort; cat etc/new; cd /; $SHALE unmount ` + id +
			` >&2`)
	}
	if one, other := tree(child), tree(twin); one != other || strings.Contains(one, "motd") {
		t.Errorf("the layer is\n%s\nits diff, applied again\n%s", one, other)
	}
	for _, id := range []string{twin, child, id} {
		root.Must(t, shale, "delete-layer", id)
	}
	found, err := root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(found.Broken, found.Stale...) {
		t.Errorf("left behind: %s", line)
	}
}

func firstLine(out string) string {
	line, _, _ := strings.Cut(out, "\n")
	return line
}

// layer writes the archive of a small root. Nothing in it needs more than a user's
// namespace can give.
func layer(t *testing.T, path string, owner func(*tar.Header)) harness.Archive {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := tar.NewWriter(file)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/motd", Mode: 0o640},
		{Name: "./etc/link", Typeflag: tar.TypeSymlink, Linkname: "motd"},
		{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o2755},
		{Name: "./usr/bin/tool", Mode: 0o4755},
		{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./usr/bin/tool", Mode: 0o4755},
		{Name: "./usr/pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
	} {
		h.ModTime, h.Format = time.Unix(1_600_000_000, 250_000_000), tar.FormatPAX
		var content []byte
		if h.Typeflag == 0 {
			content = testutil.Noise(h.Name, 5000)
		}
		if h.Typeflag == 0 || h.Typeflag == tar.TypeLink { // a link's header says again what its file's did
			owner(h)
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	digest, err := harness.FileDigest(path)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Archive{Path: path, Digest: digest}
}

// TestUnshareRunsACommandAsRoot asks what `shale unshare` promises by itself.
func TestUnshareRunsACommandAsRoot(t *testing.T) {
	shale := harness.Shale(t)
	if !testutil.AsUser(t) {
		return
	}
	root := harness.NewRoot(t.TempDir())
	if out := root.Must(t, shale, "unshare", "id", "-u"); out != "0" {
		t.Errorf("id -u says %q inside, want 0", out)
	}
	cmd := root.Command(t.Context(), shale, "unshare", "sh", "-c", "exit 7")
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("the command's exit code 7 became %v", err)
	}
}
