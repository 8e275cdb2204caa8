package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// record makes the tar-split stream of a tar, as containers/storage does, and puts the
// contents of its files into dir.
func record(t testing.TB, data []byte, dir string) []byte {
	t.Helper()
	var split bytes.Buffer
	gz := gzip.NewWriter(&split)
	in, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(data), storage.NewJSONPacker(gz),
		&filePutter{t, dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return split.Bytes()
}

type filePutter struct {
	t   testing.TB
	dir string
}

func (p *filePutter) Put(name string, r io.Reader) (int64, []byte, error) {
	if p.dir == "" {
		return storage.NewDiscardFilePutter().Put(name, r)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return 0, nil, err
	}
	path := filepath.Join(p.dir, filepath.Join("/", name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return 0, nil, err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return 0, nil, err
	}
	return storage.NewDiscardFilePutter().Put(name, bytes.NewReader(content))
}

// tarOf writes a tar of regular files by Go's own package.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(testutil.Noise(h.Name, int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What went in comes out, whatever kind of tar it was.
func TestReplayGivesTheBytesThatCame(t *testing.T) {
	plain := tarOf(t, tar.Header{Name: "a", Size: 5}, tar.Header{Name: "d/", Typeflag: tar.TypeDir},
		tar.Header{Name: "d/b", Size: 1000})
	long := strings.Repeat("x", 200)
	cases := map[string][]byte{
		"plain": plain,
		"PAX": tarOf(t, tar.Header{Name: "ünï", Size: 7, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}}),
		"GNU long names": tarOf(t, tar.Header{Name: long, Size: 600, Format: tar.FormatGNU},
			tar.Header{Name: "l", Linkname: long, Typeflag: tar.TypeSymlink, Format: tar.FormatGNU}),
		"names that aren't UTF-8": tarOf(t, tar.Header{Name: "\xff\xfe/\x80", Size: 9, Format: tar.FormatGNU}),
		"absolute and dotted names": tarOf(t, tar.Header{Name: "/abs", Size: 1}, tar.Header{Name: "./dot/./x", Size: 2},
			tar.Header{Name: "./", Typeflag: tar.TypeDir}, tar.Header{Name: "q\"uo\\te\n<&>", Size: 3}),
		"hard links": tarOf(t, tar.Header{Name: "one", Size: 4},
			tar.Header{Name: "two", Linkname: "one", Typeflag: tar.TypeLink}),
		"a large file among small ones": tarOf(t, tar.Header{Name: "s", Size: 10},
			tar.Header{Name: "big", Size: 3<<20 + 17},
			tar.Header{Name: "t", Size: 10}),
		"no files":              tarOf(t),
		"nothing at all":        {},
		"garbage after the end": append(bytes.Clone(plain), testutil.Noise("tail", 70000)...),
		"zeros after the end":   append(bytes.Clone(plain), make([]byte, 3<<20)...),
		"end blocks missing":    plain[:len(plain)-1024],
		"one end block":         plain[:len(plain)-512],
		"padding that isn't zeros": append(append(bytes.Clone(plain[:512+5]), bytes.Repeat([]byte{0xaa}, 507)...),
			plain[1024:]...),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			split := record(t, data, dir)
			var got bytes.Buffer
			if err := tarsplit.Replay(t.Context(), &got, bytes.NewReader(split), []string{dir}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Fatalf("%d bytes came back as %d others", len(data), got.Len())
			}
		})
	}
}

// Whatever happened to a file since it was recorded, the replay stops with an error that
// names it, and promptly.
func TestReplayNamesTheDamagedFile(t *testing.T) {
	data := tarOf(t, tar.Header{Name: "first", Size: 100}, tar.Header{Name: "d/victim", Size: 1 << 20},
		tar.Header{Name: "last", Size: 100})
	cases := []struct {
		name   string
		damage func(path string) error
		says   string
	}{
		{"a flipped bit", func(p string) error { return flipBit(p, 1<<19) }, "checksum failed"},
		{"cut short", func(p string) error { return os.Truncate(p, 1000) }, "1000 bytes"},
		{"longer", func(p string) error { return os.Truncate(p, 1<<20+1) }, "1048577 bytes"},
		{"gone", os.Remove, "no such file"},
		{"a link to its like", func(p string) error {
			return errors.Join(os.Rename(p, p+"2"), os.Symlink("victim2", p))
		}, "no regular file"},
		{"a FIFO", func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) }, "no regular file"},
		{"a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
			"no regular file"},
		{"its directory a link out of the layer", func(p string) error {
			d := filepath.Dir(p)
			return errors.Join(os.Rename(d, filepath.Join(filepath.Dir(d), "..", "outside")),
				os.Symlink("../outside", d))
		}, "no such file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "layer")
			split := record(t, data, dir)
			if err := c.damage(filepath.Join(dir, "d/victim")); err != nil {
				t.Fatal(err)
			}
			err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(split), []string{dir})
			if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "d/victim") ||
				!strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want one that names d/victim and says %q", err, c.says)
			}
		})
	}
}

func flipBit(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b[:], at)
	return err
}

// The directories are asked in order, and a name that the first has is not looked for in
// the second.
func TestReplayTakesTheFirstDirectoryThatHasTheFile(t *testing.T) {
	data := tarOf(t, tar.Header{Name: "a/x", Size: 10}, tar.Header{Name: "a/y", Size: 10})
	one, two := t.TempDir(), t.TempDir()
	split := record(t, data, two)
	if err := errors.Join(os.Mkdir(one+"/a", 0o755), os.Rename(two+"/a/x", one+"/a/x")); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := tarsplit.Replay(t.Context(), &got, bytes.NewReader(split), []string{one, two}); err != nil ||
		!bytes.Equal(got.Bytes(), data) {
		t.Fatalf("%v, %d bytes", err, got.Len())
	}
	if err := os.WriteFile(two+"/a/x", make([]byte, 10), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(split), []string{two, one}); !errors.Is(err,
		errdefs.ErrCorrupt) {
		t.Fatalf("got %v, want the first directory's file to count", err)
	}
}
