package corpus

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// TestArchives imports each archive of the corpus and asks for three things: the export
// has the same SHA-256, the mounted layer is the tree that GNU tar extracts, and the
// record and the tar-split data are the same as the peer writes for the same archive.
func TestArchives(t *testing.T) {
	testutil.Root(t)
	for _, archive := range All() {
		t.Run(archive.Name, func(t *testing.T) {
			if archive.Long {
				testutil.NeedsLong(t)
			}
			t.Log(archive.Why)
			check(t, archive, "overlay")
		})
	}
}

// TestArchivesWithVFS is the same with plain copies in place of overlay mounts.
func TestArchivesWithVFS(t *testing.T) {
	testutil.Root(t)
	for _, archive := range All() {
		if archive.Name == "gnutar-posix.tar" || archive.Name == "go-odd.tar" ||
			archive.Name == "gnutar-sparse-gnu.tar" {
			t.Run(archive.Name, func(t *testing.T) { check(t, archive, "vfs") })
		}
	}
}

func check(t *testing.T, archive Archive, driver string) {
	file := archive.Path(t)
	plain := uncompressed(t, file)
	digest, err := harness.FileDigest(plain)
	if err != nil {
		t.Fatal(err)
	}
	shale := harness.Shale(t)
	root, record := imported(t, shale, file, driver)

	if got, err := root.Digest(t.Context(), shale, "it"); err != nil || got != digest ||
		record["diff-digest"] != digest {
		t.Errorf("exported as %s, recorded as %v, want %s: %v", got, record["diff-digest"], digest, err)
	}

	id := record["id"].(string)
	got := testutil.Snapshot(t, root.Must(t, shale, "mount", id))
	root.Must(t, shale, "unmount", id)
	reference := t.TempDir()
	extract := exec.Command("tar", "--extract", "--delay-directory-restore", "--same-permissions", "--same-owner",
		"--numeric-owner", "--xattrs", "--xattrs-include=*", "--file", plain)
	extract.Dir = reference
	if out, err := extract.CombinedOutput(); err != nil {
		t.Fatalf("GNU tar: %v: %s", err, out)
	}
	want := testutil.Snapshot(t, reference)
	// Directories that the archive does not list are each tool's own invention: only
	// their type is compared.
	listed := listedNames(t, plain)
	for name := range want {
		if !listed[name] {
			want[name] = firstField(want[name])
			got[name] = firstField(got[name])
		}
	}
	testutil.SameTree(t, want, got)

	sound(t, root, shale)

	if archive.Beyond != "" {
		t.Logf("not compared with the peer: %s", archive.Beyond)
		return
	}
	peer := harness.Peer(t)
	peerRoot, peerRecord := imported(t, peer, file, driver)
	sound(t, peerRoot, shale)
	for _, own := range []string{"id", "created"} {
		delete(record, own)
		delete(peerRecord, own)
	}
	if !reflect.DeepEqual(record, peerRecord) {
		t.Errorf("the records differ:\nshale %v\npeer  %v", record, peerRecord)
	}
	if ours, theirs := tarSplit(t, root), tarSplit(t, peerRoot); !slices.Equal(ours, theirs) {
		t.Errorf("the tar-split data differ: %d entries, the peer's %d; first in %s", len(ours), len(theirs),
			firstDifference(ours, theirs))
	}
}

// sound fails the test unless "check" has nothing to say about the root, whichever tool
// made it.
func sound(t *testing.T, root harness.Root, shale harness.Tool) {
	t.Helper()
	if out, err := root.Do(t.Context(), shale, "check"); err != nil || out != "" {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// imported makes a root with the archive as its one layer, named "it", and returns the
// layer's record.
func imported(t *testing.T, tool harness.Tool, file, driver string) (harness.Root, map[string]any) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	root := harness.NewRoot(dir)
	if root.Driver = driver; driver != "overlay" {
		root.Options = nil
	}
	root.Must(t, tool, "import-layer", "-f", file, "-n", "it")
	records, err := root.Records(t.Context(), tool)
	if err != nil || len(records) != 1 {
		t.Fatalf("%s: %v, %v", tool.Name, records, err)
	}
	return root, records[0]
}

// uncompressed returns the path of the archive's plain tar.
func uncompressed(t *testing.T, file string) string {
	t.Helper()
	program := map[string]string{".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".xz": "xz"}[filepath.Ext(file)]
	if program == "" {
		return file
	}
	plain := filepath.Join(t.TempDir(), "plain.tar")
	out, err := os.Create(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, "-dc", file)
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return plain
}

func listedNames(t *testing.T, plain string) map[string]bool {
	t.Helper()
	file, err := os.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names := map[string]bool{}
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names[strings.TrimPrefix(path.Clean("/"+h.Name), "/")] = true
		if path.Clean("/"+h.Name) == "/" {
			names["."] = true
		}
	}
}

func firstField(line string) string {
	field, _, _ := strings.Cut(line, " ")
	return field
}

// splitEntry is a line of tar-split data: raw bytes of the archive, or a file whose
// content is in the layer.
type splitEntry struct {
	Type    int    `json:"type"`
	Name    string `json:"name"`
	NameRaw string `json:"name_raw"`
	Size    int64  `json:"size"`
	Payload string `json:"payload"`
}

// tarSplit reads the tar-split data of a root's only layer. Raw bytes that follow one
// another become one entry: where they are cut is chance, since it hangs on how much a
// read from a pipe returns.
func tarSplit(t *testing.T, root harness.Root) (entries []splitEntry) {
	t.Helper()
	const raw = 2
	found, err := filepath.Glob(filepath.Join(root.Graph, "*-layers", "*.tar-split.gz"))
	if err != nil || len(found) != 1 {
		t.Fatalf("tar-split files: %v, %v", found, err)
	}
	file, err := os.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for lines := json.NewDecoder(r); ; {
		var entry splitEntry
		err := lines.Decode(&entry)
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry.Type == raw {
			data, err := base64.StdEncoding.DecodeString(entry.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if last := len(entries) - 1; last >= 0 && entries[last].Type == raw {
				entries[last].Payload += string(data)
				continue
			}
			entry.Payload = string(data)
		}
		entries = append(entries, entry)
	}
}

func firstDifference(a, b []splitEntry) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("entry %d:\nshale %.300q\npeer  %.300q", i, fmt.Sprint(a[i]), fmt.Sprint(b[i]))
		}
	}
	return fmt.Sprintf("entry %d: one ends there", min(len(a), len(b)))
}

// TestSmallFilesIsAlwaysTheSame keeps the timed archive comparable between machines and
// years.
func TestSmallFilesIsAlwaysTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := WriteSmallFiles(file, 1000); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sha256.Sum256(data)),
		"e5dc2f31341cbffc00b1561efcca2ea85c7b114e431d637886af2452a3a87ff0"; got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}
