package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/internal/testutil"
)

// What Apply takes apart Replay puts together, also where tar-split's own recorder loses
// bytes or gives up.
func TestAppliedTarsComeOutAgain(t *testing.T) {
	testutil.Root(t)
	gnu := testutil.Tool(t, "tar", "tar")
	src := t.TempDir()
	testutil.Tree(t, src, "a=start", "dir/big*3000000", "dir/link=>a", "dir/sym->../a", "ünï=x",
		"owner=x 70000:3000000 @-5.5", "xattr=x user.k=v")
	for _, script := range []string{"truncate -s 5M sparse",
		"printf mid | dd of=sparse bs=1 seek=3000001 conv=notrunc status=none"} {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	tars := map[string][]byte{
		"a name that comes twice": tarOf(t, tar.Header{Name: "x", Size: 700}, tar.Header{Name: "y", Size: 1},
			tar.Header{Name: "./x", Size: 900}),
		"a whiteout with content": tarOf(t, tar.Header{Name: ".wh.x", Size: 70}, tar.Header{Name: "y", Size: 1}),
		"a link that has content": tarOf(t, tar.Header{Name: "y", Size: 600},
			tar.Header{Name: "z", Linkname: "y", Typeflag: tar.TypeLink}),
	}
	for _, format := range []string{"gnu", "oldgnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1",
		"pax --sparse-version=1.0", "pax --xattrs"} {
		cmd := exec.Command("sh", "-c", fmt.Sprintf("exec %s -C %s --sparse --format=%s -cf - .", gnu, src, format))
		data, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		tars["GNU tar, "+format] = data
	}
	for name, data := range tars {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			split, err := os.Create(filepath.Join(t.TempDir(), "split")) // a file: Apply may read again what it wrote
			if err != nil {
				t.Fatal(err)
			}
			defer split.Close()
			if _, err := apply.Tar(t.Context(), dir, bytes.NewReader(data), split,
				apply.Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := split.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := tarsplit.Replay(t.Context(), &got, split, []string{dir}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d bytes came back as %d others", len(data), got.Len())
			}
		})
	}
}

// A container's changes, taken out as a tar and applied on the same parent, give the same
// tree: overlay for overlay, xattrs, times in whole seconds and all.
func TestDiffAppliedElsewhereGivesTheSameUpper(t *testing.T) {
	testutil.HostRoot(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "lower/gone=x", "lower/replaced/old=x", "lower/etc/passwd=root @5", "upper/ @1700000000",
		"work/", "merged/", "again/ @1700000000")
	merged := mountOverlay(t, dir, "")
	cmd := exec.Command("sh", "-ec", `rm gone; rm -r replaced; mkdir -m 1777 replaced
		echo n > replaced/new; ln replaced/new replaced/link
		echo x >> etc/passwd; chown 5:6 etc/passwd; mkfifo p; mknod c c 1 3; ln -s /abs s
		find . -exec touch -h -d @1700000000 {} +`)
	cmd.Dir = merged
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var out bytes.Buffer
	if err := diff.WriteOverlay(t.Context(), &out, dir+"/upper", []string{dir + "/lower"}, false,
		diff.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Tar(t.Context(), dir+"/again", bytes.NewReader(out.Bytes()), nil,
		apply.Options{Whiteouts: archive.OverlayTrusted}); err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := diff.WriteOverlay(t.Context(), &second, dir+"/again", []string{dir + "/lower"}, false,
		diff.Options{}); err != nil {
		t.Fatal(err)
	}
	sameTar(t, out.Bytes(), second.Bytes())
}
