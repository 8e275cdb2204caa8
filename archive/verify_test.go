package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/verify"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// applied unpacks a tar and returns its directory and its tar-split file.
func unpacked(t *testing.T, data []byte, opts apply.Options) (dir string, split []byte) {
	t.Helper()
	dir = t.TempDir()
	file, err := os.Create(filepath.Join(t.TempDir(), "split"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := apply.Tar(context.Background(), dir, bytes.NewReader(data), file, opts); err != nil {
		t.Fatal(err)
	}
	split, err = os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return dir, split
}

func verifyLayer(t *testing.T, split []byte, dir string, opts verify.Options) verify.Result {
	t.Helper()
	opts.Content, opts.Own = []string{dir}, []string{dir}
	v, err := verify.Layer(context.Background(), bytes.NewReader(split), opts)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What Apply makes of a tar is what Verify expects of it, however odd the tar is.
func TestVerifyWhatApplyMade(t *testing.T) {
	testutil.Root(t)
	overlay, stranger := archive.OverlayTrusted, 3
	if !testutil.OnHost() {
		overlay, stranger = archive.OverlayUser, 0
	}
	file := func(name string, size int64) tar.Header { return tar.Header{Name: name, Mode: 0o644, Size: size} }
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to, Mode: 0o600}
	}
	symlink := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	for name, headers := range map[string][]tar.Header{
		"nothing":                      {},
		"directories that aren't said": {file("a/b/c/d", 10)},
		"a directory after its files":  {file("a/b", 3), {Name: "a/", Typeflag: tar.TypeDir, Mode: 0o700}},
		"the root":                     {dir("./"), file("./a", 1)},
		"absolute names":               {dir("/a/"), file("/a/b", 2)},
		"the same name again":          {file("a", 5), file("a", 9), file("./a", 0)},
		"a name of several kinds":      {file("a", 5), dir("a/"), file("a/b", 1), symlink("a", "b"), file("a", 4)},
		"through a symlink":            {dir("d/"), symlink("l", "d"), file("l/f", 6), file("d/g", 2)},
		"hard links": {file("a", 5), link("b", "a"), link("c", "./b"),
			{Name: "d", Typeflag: tar.TypeLink, Linkname: "/a", Mode: 0o4755, Uid: stranger}},
		"hard link to a symlink":      {symlink("a", "nowhere"), link("b", "a")},
		"hard link whose target goes": {file("a", 5), link("b", "a"), file("a", 7)},
		"whiteouts": {dir("d/"), file("d/.wh.a", 0), file(".wh.b", 0), file("d/.wh..wh..opq", 0),
			file("d/c", 3)},
		"a whiteout of its own":     {file("a", 5), file(".wh.a", 0)},
		"a file after its whiteout": {file(".wh.a", 0), file("a", 5), file(".wh.d", 0), dir("d/"), file("d/f", 1)},
		"a whiteout with content":   {file(".wh.a", 7), file("b", 1)},
		"AUFS's own": {dir(".wh..wh.plnk/"), file(".wh..wh.plnk/1.2", 5), file(".wh..wh.aufs", 0),
			file("a", 1)},
		"devices and a FIFO": {{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5},
			{Name: "b", Typeflag: tar.TypeBlock, Devmajor: 7},
			{Name: "p", Typeflag: tar.TypeFifo}, {Name: "zero", Typeflag: tar.TypeChar}},
	} {
		data := tarOf(t, headers...)
		for form, opts := range map[string]apply.Options{
			"overlay": {Whiteouts: overlay}, "copies": {Whiteouts: archive.RemoveWhiteouts},
			"literal": {Whiteouts: archive.LiteralWhiteouts},
		} {
			t.Run(name+" "+form, func(t *testing.T) {
				dir, split := unpacked(t, data, opts)
				v := verifyLayer(t, split, dir, verify.Options{Whiteouts: opts.Whiteouts})
				if len(v.Damages) > 0 || v.DiffID != digest.FromBytes(data) || v.DiffSize != int64(len(data)) {
					t.Errorf("%+v", v)
				}
			})
		}
	}
}

// A tar-split file is read with distrust: whatever it says, Verify ends, with damage and
// without harm.
func TestVerifyHostileTarSplitFiles(t *testing.T) {
	testutil.Root(t)
	data := tarOf(t, tar.Header{Name: "a", Mode: 0o644, Size: 1000}, tar.Header{Name: "b", Mode: 0o644, Size: 10})
	dir, split := unpacked(t, data, apply.Options{Whiteouts: archive.OverlayTrusted})
	for n := 0; n < len(split); n += max(len(split)/40, 1) {
		if v := verifyLayer(t, split[:n], dir, verify.Options{Whiteouts: archive.OverlayTrusted}); v.Exact() &&
			v.DiffID == digest.FromBytes(data) {
			t.Errorf("cut after %d of %d bytes: sound", n, len(split))
		}
	}
	for name, lines := range map[string]string{
		"a file larger than any": `{"type":1,"name":"a","size":4611686018427387904,"payload":"AAAAAAAAAAA=",` +
			`"position":0}`,
		"a way out": `{"type":1,"name":"../../../../etc/hostname","size":5,"payload":"AAAAAAAAAAA=","position":0}`,
		"no tar":    `{"type":2,"payload":"` + strings.Repeat("QUJD", 400) + `","position":0}`,
		"no JSON":   "{",
	} {
		t.Run(name, func(t *testing.T) {
			v := verifyLayer(t, gzipped(t, lines), dir, verify.Options{Whiteouts: archive.OverlayTrusted,
				MaxBytes: 1 << 20})
			if v.Exact() {
				t.Errorf("%+v", v)
			}
		})
	}
}

// Of a tree that was changed all over, as many differences are listed as fit and the
// others counted.
func TestVerifyCountsWhatItDoesNotList(t *testing.T) {
	testutil.Root(t)
	data := tarOf(t, tar.Header{Name: "a", Mode: 0o644, Size: 3})
	dir, split := unpacked(t, data, apply.Options{Whiteouts: archive.OverlayTrusted})
	for n := range 500 {
		if err := unix.Mkfifo(filepath.Join(dir, fmt.Sprint("extra", n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := verifyLayer(t, split, dir, verify.Options{Whiteouts: archive.OverlayTrusted})
	if len(v.Damages)+v.More != 500 || v.More == 0 || v.DiffID != digest.FromBytes(data) {
		t.Errorf("%d listed, %d more, %s", len(v.Damages), v.More, v.DiffID)
	}
}
