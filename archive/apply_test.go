package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
)

func TestApplyMakesWhatGNUTarMakes(t *testing.T) {
	testutil.Root(t)
	if !testutil.OnHost() {
		t.Skip("needs the host's root: devices and trusted attributes")
	}
	src := t.TempDir()
	richTree(t, src)
	for _, format := range [][]string{
		{"--format=pax", "--xattrs", "--xattrs-include=*"},
		{"--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=1.0"},
		{"--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"},
		{"--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.0"},
		{"--format=gnu"},
		{"--format=gnu", "--sparse"},
	} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			work := t.TempDir()
			archived := filepath.Join(work, "x.tar")
			run(t, "tar", "tar", append(format, "-C", src, "-cf", archived, ".")...)
			want := filepath.Join(work, "gnu")
			if err := os.Mkdir(want, 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, "tar", "tar", "--xattrs", "--xattrs-include=*", "-C", want, "-xpf", archived)
			data, err := os.ReadFile(archived)
			if err != nil {
				t.Fatal(err)
			}
			dir, split, res := applied(t, data, apply.Options{})
			testutil.SameTree(t, testutil.Snapshot(t, want), testutil.Snapshot(t, dir))
			sameReplay(t, data, dir, split)
			sum := sha256.Sum256(data)
			if res.DiffID.Encoded() != hex.EncodeToString(sum[:]) || res.CompressedDigest != res.DiffID ||
				res.DiffSize != int64(len(data)) || res.CompressedSize != res.DiffSize {
				t.Errorf("digests and sizes: %+v", res)
			}
			if slices.Contains(format, "--sparse") {
				for _, name := range []string{"sparse/head", "sparse/empty"} {
					if got, limit := blocks(t, filepath.Join(dir, name)),
						blocks(t, filepath.Join(src, name)); got > limit {
						t.Errorf("%s takes %d blocks, in the source %d", name, got, limit)
					}
				}
			}
			if want := []uint32{0, 1, 5, 7, 12, 1000, 3000000000}; !slices.Equal(res.UIDs, want) {
				t.Errorf("UIDs are %v, want %v", res.UIDs, want)
			}
		})
	}
}

// The records are those of tar-split's own packer, byte for byte, for archives that it
// can pack.
func TestApplyRecordsWhatTarSplitRecords(t *testing.T) {
	src := t.TempDir()
	testutil.Tree(t, src, "a/b=content", "a/empty=", "a/l->b", "c*700000", "<&>=1", "line\u2028sep=2", "hard=>c",
		strings.Repeat("long", 60)+"=3")
	if err := os.WriteFile(filepath.Join(src, "\xff\xfe"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := run(t, "tar", "tar", "-C", src, "--format=pax", "-cf", "-", ".")
	dir, split, _ := applied(t, data, apply.Options{})
	file, err := os.ReadFile(split)
	if err != nil {
		t.Fatal(err)
	}
	got, want := unzipped(t, file), unzipped(t, record(t, data, ""))
	if !bytes.Equal(got, want) {
		for i, line := range bytes.Split(got, []byte("\n")) {
			if w := bytes.Split(want, []byte("\n")); i >= len(w) || !bytes.Equal(line, w[i]) {
				t.Fatalf("line %d is\n%.300s\nwant\n%.300s", i, line, w[min(i, len(w)-1)])
			}
		}
	}
	sameReplay(t, data, dir, split)
}

// What tar-split itself can't record comes back all the same, also from tar-split's
// reader.
func TestApplyReplaysWhatReplacesItself(t *testing.T) {
	long := string(testutil.Noise("long", 300<<10))
	for name, members := range map[string][]member{
		"a file twice": {{name: "a", body: "first"}, {name: "a", body: "second"}},
		"a file twice, under two spellings": {{name: "a", body: "first"}, {name: "./a", body: "second"},
			{name: "/a", body: "third"}},
		"three times the same": {{name: "a", body: "x"}, {name: "a", body: "x"}, {name: "a", body: "x"}},
		"a large file twice": {{name: "a", body: long}, {name: "b", body: "b"},
			{name: "a", body: long[:200000]}},
		"a file after its directory is gone": {{name: "d/f", body: "f"}, {name: "d/e/g", body: "g"},
			{name: "d", typ: tar.TypeSymlink, link: "x"}, {name: "x/f", body: "2"}},
		"a directory twice":              {{name: "d/"}, {name: "d/f", body: "f"}, {name: "d/", mode: 0o700}},
		"an empty file, then a full one": {{name: "a"}, {name: "a", body: "full"}},
		"a file, then its whiteout":      {{name: "a", body: "a"}, {name: ".wh.a"}},
		"a whiteout with content":        {{name: ".wh.a", body: "why not"}},
		"a file through a symlink": {{name: "d/"}, {name: "l", typ: tar.TypeSymlink, link: "d"},
			{name: "l/f", body: "f"}, {name: "l", typ: tar.TypeSymlink, link: "e"}},
		"a name with dots":            {{name: "a/../b", body: "b"}},
		"a regular file with a slash": {{name: "a/", typ: tar.TypeReg, body: "b"}},
		"a hard link to a replaced file": {{name: "a", body: "1"}, {name: "h", typ: tar.TypeLink, link: "a"},
			{name: "a", body: "2"}},
		"a size where none belongs": {{name: "d/", size: "00000000777"}, {name: "f", body: "f"}},
		"global headers": {{name: "g", typ: tar.TypeXGlobalHeader, body: paxRecord("comment", "1")},
			{name: "a", body: "a"}, {name: "g", typ: tar.TypeXGlobalHeader, body: paxRecord("comment", "2")}},
	} {
		t.Run(name, func(t *testing.T) {
			data := tarball(members...)
			dir, split, _ := applied(t, data, apply.Options{})
			sameReplay(t, data, dir, split)
		})
	}
	data := tarball(member{name: "a", body: "1"}, member{name: "a", body: "2"})
	_, err := apply.Tar(context.Background(), t.TempDir(), bytes.NewReader(data), new(bytes.Buffer),
		apply.Options{})
	if !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("with a writer that can't be read again: %v", err)
	}
}

// The stream's end can look like anything.
func TestApplyKeepsTheEndAsItIs(t *testing.T) {
	file := member{name: "a", body: "content"}
	for name, data := range map[string][]byte{
		"no end marker":          joined(file),
		"one zero block":         append(joined(file), make([]byte, 512)...),
		"two":                    tarball(file),
		"twenty":                 append(tarball(file), make([]byte, 20*512)...),
		"garbage":                append(tarball(file), "anything at all"...),
		"another archive":        append(tarball(file), tarball(member{name: "b"})...),
		"a lot of garbage":       append(tarball(file), testutil.Noise("g", 3<<20)...),
		"padding cut off":        joined(file)[:512+7],
		"part of the padding":    joined(file)[:512+300],
		"nothing but end marker": tarball(),
	} {
		t.Run(name, func(t *testing.T) {
			dir, split, res := applied(t, data, apply.Options{})
			sameReplay(t, data, dir, split)
			if res.DiffSize != int64(len(data)) {
				t.Errorf("DiffSize is %d, want %d", res.DiffSize, len(data))
			}
			if _, err := os.Lstat(filepath.Join(dir, "b")); err == nil {
				t.Error("a member behind the end was extracted")
			}
		})
	}
}

func TestApplyOnTheOwnersOfAnIDMap(t *testing.T) {
	testutil.HostRoot(t)
	maps := []idtools.Map{{ContainerID: 0, HostID: 100000, Size: 1000}, {ContainerID: 1000, HostID: 5000, Size: 1}}
	data := tarball(member{name: "./", mode: 0o711}, member{name: "root"},
		member{name: "d/sub/user", uid: 1000, gid: 1000},
		member{name: "l", typ: tar.TypeSymlink, link: "x", uid: 5, gid: 6}, member{name: "p", typ: tar.TypeFifo, uid: 7,
			gid: 8})
	dir, _, res := applied(t, data, apply.Options{IDMap: idtools.Mapping{UIDs: maps, GIDs: maps}})
	got := testutil.Snapshot(t, dir)
	for path, want := range map[string]string{
		".": "owner=100000:100000", "root": "owner=100000:100000", "d": "owner=100000:100000",
		"d/sub":      "owner=100000:100000",
		"d/sub/user": "owner=5000:5000", "l": "owner=100005:100006", "p": "owner=100007:100008",
	} {
		if !strings.Contains(got[path], want+" ") {
			t.Errorf("%s is %s, want %s", path, got[path], want)
		}
	}
	if want := []uint32{0, 5, 7, 1000}; !slices.Equal(res.UIDs, want) {
		t.Errorf("UIDs are %v, want those of the headers, %v", res.UIDs, want)
	}
	data = tarball(member{name: "f", uid: 1001})
	if _, _, err := applyTo(t, t.TempDir(), data, apply.Options{IDMap: idtools.Mapping{UIDs: maps,
		GIDs: maps}}); err == nil || !strings.Contains(err.Error(), `entry "f"`) {
		t.Errorf("an unmapped owner: %v", err)
	}
}

func TestApplyUnderAForceMask(t *testing.T) {
	testutil.Root(t)
	mask := fs.FileMode(0o755)
	data := tarball(
		member{name: "./", mode: 0o700, uid: 3, gid: 4},
		member{name: "f", mode: 0o4640, uid: 1, gid: 2, body: "f"},
		member{name: "d/", mode: 0o1777, uid: 5, gid: 6},
		member{name: "l", typ: tar.TypeSymlink, link: "f", uid: 7, gid: 8},
		member{name: "p", typ: tar.TypeFifo, mode: 0o600},
		member{name: "c", typ: tar.TypeChar, dev: [2]int64{1, 3}, mode: 0o666},
		member{name: "b", typ: tar.TypeBlock, dev: [2]int64{259, 70000}, mode: 0o660, gid: 6},
		member{name: "h", typ: tar.TypeLink, link: "f"},
	)
	dir, _, _ := applied(t, data, apply.Options{ForceMask: &mask})
	got := testutil.Snapshot(t, dir)
	for path, want := range map[string]string{
		".": "3:4:0700:dir", "f": "1:2:4640:file", "d": "5:6:1777:dir", "p": "0:0:0600:pipe", "c": "0:0:0666:char-1-3",
		"b": "0:6:0660:block-259-70000", "h": "1:2:4640:file",
	} {
		if !strings.Contains(got[path], fmt.Sprintf("user.containers.override_stat=%q", want)) ||
			!strings.Contains(got[path], "mode=0755 owner=0:0") {
			t.Errorf("%s is %s, want %s", path, got[path], want)
		}
	}
	if !strings.HasPrefix(got["l"], "symlink") {
		t.Errorf("l is %s", got["l"])
	}
	dir, _, _ = applied(t, tarball(member{name: "f"}), apply.Options{ForceMask: &mask})
	if got := testutil.Snapshot(t, dir)["."]; !strings.Contains(got, `override_stat="0:0:0755:dir"`) {
		t.Errorf("the root that no entry spoke of: %s", got)
	}
}

func TestApplyOnTopOfWhatIsThere(t *testing.T) {
	for _, test := range []struct {
		name    string
		there   []string
		members []member
		form    archive.WhiteoutForm
		want    []string
	}{
		{"files are replaced", []string{"a=old 0600", "d/b=old"},
			[]member{{name: "a", body: "new"}, {name: "d/b", body: "new"}}, 0,
			[]string{`f a "new"`, "d d", `f d/b "new"`}},
		{"a replaced file's other name stays", []string{"a=old", "h=>a"}, []member{{name: "a", body: "new"}}, 0,
			[]string{`f a "new"`, `f h "old"`}},
		{"directories merge", []string{"d/old=1"}, []member{{name: "d/", mode: 0o700}, {name: "d/new", body: "2"}}, 0,
			[]string{"d d", `f d/new "2"`, `f d/old "1"`}},
		{"a directory makes way for a file", []string{"d/x/y=1"}, []member{{name: "d", body: "f"}}, 0,
			[]string{`f d "f"`}},
		{"a file makes way for a directory", []string{"d=1"}, []member{{name: "d/"}, {name: "d/f", body: "f"}}, 0,
			[]string{"d d", `f d/f "f"`}},
		{"a symlink is replaced, not followed", []string{"t=target", "l->t"}, []member{{name: "l", body: "f"}}, 0,
			[]string{`f l "f"`, `f t "target"`}},
		{"a symlink to a directory is replaced by one", []string{"t/x=1", "l->t"},
			[]member{{name: "l/"}, {name: "l/f", body: "f"}}, 0, []string{"d l", `f l/f "f"`, "d t", `f t/x "1"`}},
		{"a symlinked parent is followed", []string{"t/x=1", "l->t"}, []member{{name: "l/f", body: "f"}}, 0,
			[]string{"l l t", "d t", `f t/f "f"`, `f t/x "1"`}},
		{"whiteouts remove", []string{"a=1", "d/x/y=1", "k=1"},
			[]member{{name: ".wh.a"}, {name: ".wh.d"}, {name: ".wh.absent"}}, 0, []string{`f k "1"`}},
		{"an opaque marker removes what was there, not what came", []string{"d/old=1", "d/sub/old=1", "d/sub/keep=1",
			"d/both/old=1"},
			[]member{{name: "d/"}, {name: "d/new", body: "2"}, {name: "d/both/new", body: "2"},
				{name: "d/.wh..wh..opq"}, {name: "d/after", body: "3"}}, 0,
			[]string{"d d", `f d/after "3"`, "d d/both", `f d/both/new "2"`, `f d/new "2"`}},
		{"an opaque root", []string{"old=1", "d/x=1"}, []member{{name: ".wh..wh..opq"}, {name: "new", body: "2"}}, 0,
			[]string{`f new "2"`}},
		{"AUFS's own files are no files", []string{"k=1"},
			[]member{{name: ".wh..wh.plnk/"}, {name: ".wh..wh.plnk/1.2", body: "x"}, {name: ".wh..wh.aufs"},
				{name: ".wh..wh.orph/"}}, 0, []string{`f k "1"`}},
		{"overlay whiteouts are devices", []string{"old=1"}, []member{{name: ".wh.old"}, {name: "d/.wh.x"}},
			archive.OverlayTrusted, []string{"d d", "c d/x 0:0", "c old 0:0"}},
		{"a whiteout below a whiteout is nothing", nil, []member{{name: ".wh.d"}, {name: "d/.wh.x"}},
			archive.OverlayTrusted, []string{"c d 0:0"}},
		{"a file after its whiteout", nil, []member{{name: ".wh.a"}, {name: "a", body: "1"}}, archive.OverlayTrusted,
			[]string{`f a "1"`}},
		{"a whiteout after its file", nil, []member{{name: "a", body: "1"}, {name: ".wh.a"}}, archive.OverlayTrusted,
			[]string{`f a "1"`}},
		{"a whiteout after its file, over an older one", []string{"a=0"},
			[]member{{name: "a", body: "1"}, {name: ".wh.a"}}, archive.RemoveWhiteouts, []string{`f a "1"`}},
		{"a whiteout after its directory", []string{"d/old=0"}, []member{{name: "d/new", body: "1"}, {name: ".wh.d"}},
			archive.RemoveWhiteouts, []string{"d d", `f d/new "1"`}},
		{"literal whiteouts are files", []string{"a=1"}, []member{{name: ".wh.a"}, {name: "d/.wh..wh..opq"}},
			archive.LiteralWhiteouts, []string{`f .wh.a ""`, `f a "1"`, "d d", `f d/.wh..wh..opq ""`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.form == archive.OverlayTrusted {
				testutil.Root(t)
			}
			for _, writers := range []int{1, 2, 4} {
				dir := t.TempDir()
				testutil.Tree(t, dir, test.there...)
				data := tarball(test.members...)
				_, _, err := applyTo(t, dir, data, apply.Options{Whiteouts: test.form, Writers: writers})
				if err != nil {
					t.Fatal(err)
				}
				sameLines(t, test.want, listing(t, dir))
			}
		})
	}
}

func TestApplyMakesOpaqueDirectories(t *testing.T) {
	testutil.HostRoot(t)
	for form, attr := range map[archive.WhiteoutForm]string{archive.OverlayTrusted: "trusted.overlay.opaque",
		archive.OverlayUser: "user.overlay.opaque"} {
		dir, _, _ := applied(t, tarball(member{name: "d/.wh..wh..opq"}, member{name: ".wh.gone"}, member{name: "gone/"},
			member{name: "gone/new"}), apply.Options{Whiteouts: form})
		got := testutil.Snapshot(t, dir)
		for _, path := range []string{"d", "gone"} {
			if !strings.Contains(got[path], attr+`="y"`) {
				t.Errorf("%s is not opaque: %s", path, got[path])
			}
		}
	}
}

// Directories get their times however the archive is ordered, and keep them when they are
// closed and opened again.
func TestApplySetsDirectoryTimesLast(t *testing.T) {
	var members []member
	for i := range 1000 { // more than are kept open
		members = append(members, member{name: fmt.Sprintf("d%d/", i), time: int64(1000 + i)})
	}
	for i := range 1000 {
		members = append(members, member{name: fmt.Sprintf("d%d/f", i)})
	}
	members = append(members, member{name: "late/sub/f"}, member{name: "late/sub/", time: 77},
		member{name: "late/", time: 78}, member{name: "./", time: 79})
	dir, _, _ := applied(t, tarball(members...), apply.Options{})
	want := map[string]int64{"late/sub": 77, "late": 78, ".": 79}
	for i := range 1000 {
		want[fmt.Sprintf("d%d", i)] = int64(1000 + i)
	}
	for name, mtime := range want {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.ModTime().Unix() != mtime {
			t.Errorf("%s has time %d, want %d", name, st.ModTime().Unix(), mtime)
		}
	}
}

// Compressed streams give the digest of what came and of what was in it, to the last
// byte.
func TestApplyDecompresses(t *testing.T) {
	plain := tarball(member{name: "a", body: string(testutil.Noise("a", 700000))},
		member{name: "b/c", body: strings.Repeat("text ", 100000)})
	for _, kind := range []string{"gzip", "zstd", "bzip2", "xz"} {
		t.Run(kind, func(t *testing.T) {
			data := compressed(t, kind, plain)
			for name, data := range map[string][]byte{"whole": data,
				"in two members": append(compressed(t, kind, plain[:100000]), compressed(t, kind, plain[100000:])...)} {
				dir, split, res := applied(t, data, apply.Options{})
				if res.Compression.String() != kind {
					t.Errorf("%s: compression is %v", name, res.Compression)
				}
				if got, want := res.CompressedDigest.Encoded(),
					sha256.Sum256(data); got != hex.EncodeToString(want[:]) || res.CompressedSize != int64(len(data)) {
					t.Errorf("%s: compressed digest or size is wrong", name)
				}
				if got, want := res.DiffID.Encoded(), sha256.Sum256(plain); got != hex.EncodeToString(want[:]) ||
					res.DiffSize != int64(len(plain)) {
					t.Errorf("%s: DiffID or size is wrong", name)
				}
				sameReplay(t, plain, dir, split)
			}
		})
	}
}

// The error of the reader comes back as it is: it is not the archive's fault.
func TestApplyPassesTheReadersErrorOn(t *testing.T) {
	broken := errors.New("the network is gone")
	data := tarball(member{name: "a", body: string(testutil.Noise("a", 700000))})
	for _, stream := range [][]byte{data, compressed(t, "gzip", data), compressed(t, "zstd", data)} {
		for _, cause := range []error{broken, io.ErrUnexpectedEOF} {
			r := io.MultiReader(bytes.NewReader(stream[:len(stream)-2000]), errorReader{cause})
			_, err := apply.Tar(context.Background(), t.TempDir(), r, nil, apply.Options{})
			if !errors.Is(err, cause) {
				t.Errorf("error is %v, want %v", err, cause)
			}
			if errors.Is(cause, broken) && errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("a broken reader counts as invalid input: %v", err)
			}
		}
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// Cancelling stops promptly, also while a pipe has nothing to read, and leaves no
// goroutine and no descriptor.
func TestApplyStopsWithItsContext(t *testing.T) {
	checkLeaks(t)
	cause := errors.New("enough")
	data := tarball(member{name: "a", body: string(testutil.Noise("a", 5<<20))}, member{name: "b"})
	for name, at := range map[string]int{"in a header": 100, "in a file": 2 << 20, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			ctx, cancel := context.WithCancelCause(context.Background())
			go func() {
				w.Write(data[:at])
				cancel(cause)
			}()
			if _, err := apply.Tar(ctx, t.TempDir(), r, new(bytes.Buffer), apply.Options{}); !errors.Is(err,
				cause) {
				t.Errorf("error is %v, want %v", err, cause)
			}
		})
	}
}
