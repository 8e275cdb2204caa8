package archive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/internal/testutil"
)

// A layer's files are those that containers/storage makes of the same tar, but for two
// things that it loses: times before 1970, and files that have no ACL in a directory with
// a default one.
func TestApplyMakesWhatThePeerMakes(t *testing.T) {
	s := newPeerStore(t, "overlay")
	if !testutil.OnHost() {
		t.Skip("needs the host's root: devices and trusted attributes")
	}
	src := t.TempDir()
	richTree(t, src)
	testutil.Tree(t, src, ".wh.gone=", "d/.wh..wh..opq=", "d/new=1", "d/.wh.old= 1:2")
	archived := filepath.Join(t.TempDir(), "x.tar")
	run(t, "tar", "tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--exclude=./acl", "-C", src, "-cf",
		archived, ".")
	s.run("import-layer", "-i", layerID(1), "-f", archived)
	data, err := os.ReadFile(archived)
	if err != nil {
		t.Fatal(err)
	}
	dir, _, _ := applied(t, data, apply.Options{Whiteouts: archive.OverlayTrusted})
	want, got := testutil.Snapshot(t, s.content(layerID(1))), testutil.Snapshot(t, dir)
	for path, line := range got {
		if strings.Contains(line, "mtime=-") {
			want[path], got[path] = testutil.Without(want, "mtime")[path], testutil.Without(got, "mtime")[path]
		}
		// Whiteouts have no time of their own: both leave the moment they were made.
		if strings.HasPrefix(line, "char ") && strings.Contains(line, "device=0:0") ||
			strings.HasPrefix(want[path], "dir ") && path == "d" {
			want[path], got[path] = testutil.Without(want, "mtime")[path], testutil.Without(got, "mtime")[path]
		}
	}
	testutil.SameTree(t, want, got)
}
