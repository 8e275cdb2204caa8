package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// short writes a change list as "A /a C /b D /c", the letters that people know from
// podman diff.
func short(changes []diff.Change) string {
	var b strings.Builder
	for i, c := range changes {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%c %s", "CAD"[c.Kind], c.Path)
	}
	return b.String()
}

func setOpaque(t *testing.T, dir, value string) {
	t.Helper()
	testutil.HostRoot(t)
	if err := unix.Lsetxattr(dir, "trusted.overlay.opaque", []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// What an upper directory means depends on what the lowers hold, of which the nearest
// that says anything decides.
func TestOverlayChanges(t *testing.T) {
	testutil.Root(t)
	cases := []struct {
		name   string
		upper  []string
		opaque string   // a directory of the upper to mark
		lowers []string // "1:a/b" is in the nearest
		want   string
		opq    bool // whether the tar has an opaque whiteout
	}{
		{name: "no lowers", upper: []string{"a/b=x"}, want: "A /a A /a/b"},
		{name: "a new file in an old directory", upper: []string{"a/ @5", "a/b=x"}, lowers: []string{"1:a/ @5"},
			want: "C /a A /a/b"},
		{name: "a changed file in an old directory", upper: []string{"a/b=x", "a/ @5"},
			lowers: []string{"1:a/b=y", "1:a/ @5"}, want: "C /a/b"},
		{name: "a directory's time", upper: []string{"a/ @5"}, lowers: []string{"1:a/ @6"}, want: "C /a"},
		{name: "a directory's time, in parts of a second that one side lacks", upper: []string{"a/ @5.5"},
			lowers: []string{"1:a/ @5"}, want: ""},
		{name: "a directory's mode", upper: []string{"a/ 0700 @5"}, lowers: []string{"1:a/ @5"}, want: "C /a"},
		{name: "the owner alone is no change of a directory", upper: []string{"a/ 7:7 @5"}, lowers: []string{"1:a/ @5"},
			want: ""},
		{name: "a whiteout", upper: []string{"a/ @5", "a/b%0:0", "a/ @5"}, lowers: []string{"1:a/b=x", "1:a/ @5"},
			want: "C /a D /a/b"},
		{name: "a whiteout of nothing", upper: []string{"b%0:0"}, lowers: []string{"1:a=x"}, want: "D /b"},
		{name: "another device is no whiteout", upper: []string{"b%0:1"}, lowers: []string{"1:a=x"}, want: "A /b"},
		{name: "hidden by a whiteout below", upper: []string{"a=x"}, lowers: []string{"1:a%0:0", "2:a=y"},
			want: "A /a"},
		{name: "hidden by a whiteout of its directory", upper: []string{"d/a=x", "d/ @5"},
			lowers: []string{"1:d%0:0", "2:d/a=y"}, want: "A /d A /d/a"},
		{name: "found in the second lower", upper: []string{"d/a=x", "d/ @5"}, lowers: []string{"1:d/ @5", "2:d/a=y"},
			want: "C /d/a"},
		{name: "a file that becomes a directory", upper: []string{"a/b=x"}, lowers: []string{"1:a=y"},
			want: "C /a A /a/b"},
		{name: "a directory that becomes a file", upper: []string{"a=x"}, lowers: []string{"1:a/b=y"}, want: "C /a"},
		{name: "through a link in a lower", upper: []string{"l/a=x"}, lowers: []string{"1:l->r", "1:r/a=y"},
			want: "C /l C /l/a"},
		{name: "a link that leads nowhere", upper: []string{"l/a=x"}, lowers: []string{"1:l->../../../../../../gone"},
			want: "C /l A /l/a"},
		{name: "a link to itself", upper: []string{"l/a=x"}, lowers: []string{"1:l->l"}, want: "C /l A /l/a"},
		{name: "replaced", upper: []string{"a/b=x"}, opaque: "a", lowers: []string{"1:a/b=y", "1:a/c=z"},
			want: "C /a D /a/c C /a/b", opq: true},
		{name: "opaque, but new", upper: []string{"a/b=x"}, opaque: "a", lowers: []string{"1:c=z"},
			want: "A /a A /a/b"},
		{name: "opaque, and whited out below", upper: []string{"a/b=x"}, opaque: "a",
			lowers: []string{"1:a%0:0", "2:a/b=y"}, want: "A /a A /a/b"},
		{name: "opaque, and its parent whited out below", upper: []string{"p/a/b=x"}, opaque: "p/a",
			lowers: []string{"1:p%0:0", "2:p/a/b=y"}, want: "A /p A /p/a A /p/a/b"},
		{name: "opaque, in the second lower", upper: []string{"p/a/b=x", "p/ @5"}, opaque: "p/a",
			lowers: []string{"1:p/ @5", "2:p/a/c=y"}, want: "C /p/a C /p D /p/a/c A /p/a/b", opq: true},
		{name: "opaque without lowers", upper: []string{"a/b=x"}, opaque: "a", want: "A /a A /a/b"},
		{name: "names in the order of a walk", upper: []string{"a/z=x", "a-b=x", "a.b=x"},
			want: "A /a A /a/z A /a-b A /a.b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var lowers []string
			for _, l := range c.lowers {
				root := filepath.Join(dir, l[:1])
				testutil.Tree(t, root, l[2:])
				if len(lowers) == 0 || lowers[len(lowers)-1] != root {
					lowers = append(lowers, root)
				}
			}
			upper := filepath.Join(dir, "upper")
			testutil.Tree(t, upper, c.upper...)
			if c.opaque != "" {
				setOpaque(t, filepath.Join(upper, c.opaque), "y")
			}
			changes, err := diff.OverlayChanges(t.Context(), upper, lowers, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := short(changes); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var out bytes.Buffer
			if err := diff.WriteOverlay(t.Context(), &out, upper, lowers, false,
				diff.Options{}); err != nil {
				t.Fatal(err)
			}
			if got := bytes.Contains(out.Bytes(), []byte("/.wh..wh..opq")); got != c.opq {
				t.Errorf("opaque whiteout: %v, want %v", got, c.opq)
			}
			if bytes.Contains(out.Bytes(), []byte("overlay.opaque")) {
				t.Error("overlay's own attribute is in the tar")
			}
		})
	}
}

// Each difference that counts, and those that don't.
func TestTreeChanges(t *testing.T) {
	testutil.Root(t)
	cases := []struct {
		name     string
		old, new []string
		want     string
	}{
		{"nothing", []string{"a/b=x @5", "a/ @5"}, []string{"a/b=x @5", "a/ @5"}, ""},
		{"content of the same size and time", []string{"a=x @5"}, []string{"a=y @5"}, ""},
		{"size", []string{"a=x @5"}, []string{"a=xx @5"}, "C /a"},
		{"time", []string{"a=x @5"}, []string{"a=x @6"}, "C /a"},
		{"time in parts of a second", []string{"a=x @5.25"}, []string{"a=x @5.5"}, "C /a"},
		{"time in parts of a second that one side lacks", []string{"a=x @5", "b=x @5.5"},
			[]string{"a=x @5.5", "b=x @5"}, ""},
		{"mode", []string{"a=x @5"}, []string{"a=x @5 04755"}, "C /a"},
		{"owner", []string{"a=x @5"}, []string{"a=x 1:0 @5"}, "C /a"},
		{"group", []string{"a=x @5"}, []string{"a=x 0:1 @5"}, "C /a"},
		{"device", []string{"a%1:3 @5"}, []string{"a%1:5 @5"}, "C /a"},
		{"link target", []string{"a->one @5"}, []string{"a->two @5"}, "C /a"},
		{"user attribute", []string{"a=x @5 user.k=1"}, []string{"a=x @5 user.k=2"}, "C /a"},
		{"user attribute gone", []string{"a=x @5 user.k=1"}, []string{"a=x @5"}, "C /a"},
		{"another user attribute", []string{"a=x @5 user.k=1"}, []string{"a=x @5 user.l=1"}, "C /a"},
		{"trusted attribute", []string{"a=x @5 trusted.k=1"}, []string{"a=x @5"}, ""},
		{"added and deleted", []string{"a=x @5"}, []string{"b=x @5"}, "A /b D /a"},
		{"deep inside", []string{"a/b/c=x @5", "a/b/d=x @5", "a/b/ @5", "a/ @5"},
			[]string{"a/b/c=yy @5", "a/b/ @5", "a/ @5"},
			"C /a C /a/b C /a/b/c D /a/b/d"},
		{"a whole directory", []string{"a/ @5", "z/ @5", "z/y/x=1"}, []string{"a/ @5", "b/c/d=1"},
			"A /b A /b/c A /b/c/d D /z"},
		{"a directory becomes a file", []string{"a/b=x"}, []string{"a=x"}, "C /a"},
		{"a file becomes a directory", []string{"a=x"}, []string{"a/b=x"}, "C /a A /a/b"},
		{"a directory becomes a device", []string{"a/b=x"}, []string{"a%%7:0"}, "C /a"},
		{"a directory's own change", []string{"a/b=x @5", "a/ @5"}, []string{"a/b=x @5", "a/ 0700 @5"}, "C /a"},
		{"order", []string{"b=x @5", "a/ @5", "a/x=1 @5", "a/ @5"}, []string{"a-=x", "a/y=x", "a/ @5", "c=1"},
			"C /a A /a/y D /a/x A /a- A /c D /b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			oldDir, newDir := filepath.Join(dir, "old"), filepath.Join(dir, "new")
			testutil.Tree(t, oldDir, c.old...)
			testutil.Tree(t, newDir, c.new...)
			changes, err := diff.TreeChanges(t.Context(), newDir, oldDir, diff.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := short(changes); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A mount may leave references to lower files in the upper. Whoever reads the upper alone
// would lose the files; so nobody does.
func TestUppersWithRedirectsAreLeftToTheComparison(t *testing.T) {
	testutil.Root(t)
	for _, c := range []struct {
		option string
		change func(dir string) error
	}{
		{"redirect_dir=on", func(dir string) error { return os.Rename(dir+"/some/dir", dir+"/some/moved") }},
		{"metacopy=on", func(dir string) error { return os.Chmod(dir+"/some/file", 0o600) }},
	} {
		t.Run(c.option, func(t *testing.T) {
			dir := t.TempDir()
			testutil.Tree(t, dir, "lower/some/file*5000", "lower/some/dir/x=1", "upper/", "work/", "merged/")
			merged := mountOverlay(t, dir, c.option)
			if err := c.change(merged); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			upper, lower := dir+"/upper", dir+"/lower"
			err := diff.WriteOverlay(t.Context(), &out, upper, []string{lower}, false, diff.Options{})
			if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "/some/") || out.Len() > 0 {
				t.Errorf("diff: %v after %d bytes", err, out.Len())
			}
			if _, err := diff.OverlayChanges(t.Context(), upper, []string{lower}, false); !errors.Is(err,
				errdefs.ErrUnsupported) {
				t.Errorf("changes: %v", err)
			}
			changes, err := diff.TreeChanges(t.Context(), merged, lower, diff.Options{})
			if err != nil || len(changes) == 0 {
				t.Errorf("comparison: %v, %v", changes, err)
			}
		})
	}
}

// mountOverlay mounts dir's upper over its lower.
func mountOverlay(t *testing.T, dir, options string) string {
	t.Helper()
	data := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	if options != "" {
		data += "," + options
	}
	merged := dir + "/merged"
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		t.Skipf("overlay with %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return merged
}

// In a user namespace overlay keeps its books in user.overlay.*, and those don't get into
// the tar either.
func TestOverlayDiffInAUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	dir := t.TempDir()
	testutil.Tree(t, dir, "lower/gone=x", "lower/replaced/old=x", "lower/kept=x", "upper/", "work/", "merged/")
	merged := mountOverlay(t, dir, "userxattr")
	if err := errors.Join(os.Remove(merged+"/gone"), os.RemoveAll(merged+"/replaced"),
		os.Mkdir(merged+"/replaced", 0o755),
		os.WriteFile(merged+"/replaced/new", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	upper, lowers := dir+"/upper", []string{dir + "/lower"}
	changes, err := diff.OverlayChanges(t.Context(), upper, lowers, true)
	if err != nil || short(changes) != "D /gone C /replaced D /replaced/old A /replaced/new" {
		t.Errorf("%s, %v", short(changes), err)
	}
	var out bytes.Buffer
	if err := diff.WriteOverlay(t.Context(), &out, upper, lowers, true, diff.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tarNames(t, out.Bytes()),
		" "); got != ".wh.gone replaced/ replaced/.wh..wh..opq replaced/new" {
		t.Errorf("tar holds %s", got)
	}
	if bytes.Contains(out.Bytes(), []byte("user.overlay")) {
		t.Error("overlay's own attributes are in the tar")
	}
}
