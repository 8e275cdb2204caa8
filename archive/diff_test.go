package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func tarNames(t testing.TB, data []byte) (names []string) {
	t.Helper()
	for _, h := range tarHeaders(t, data) {
		names = append(names, h.Name)
	}
	return names
}

func tarHeaders(t testing.TB, data []byte) (list []*tar.Header) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
}

func treeDiff(t testing.TB, newDir, oldDir string, opts diff.Options) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := diff.WriteTree(t.Context(), &out, newDir, oldDir, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The same tree gives the same bytes, whenever and however many processors read it.
func TestDiffIsReproducible(t *testing.T) {
	oldDir, newDir := t.TempDir(), t.TempDir()
	for i := range 400 {
		testutil.Tree(t, newDir, fmt.Sprintf("d%d/f%d*%d @%d", i%7, i, i*321, i))
		testutil.Tree(t, oldDir, fmt.Sprintf("d%d/f%d*%d @%d", i%5, i, i*321, i))
	}
	first, firstAll := treeDiff(t, newDir, oldDir, diff.Options{}),
		treeDiff(t, newDir, "", diff.Options{})
	for _, procs := range []int{1, 2, 4} {
		before := runtime.GOMAXPROCS(procs)
		if !bytes.Equal(treeDiff(t, newDir, oldDir, diff.Options{}), first) ||
			!bytes.Equal(treeDiff(t, newDir, "", diff.Options{}), firstAll) {
			t.Errorf("with %d processors other bytes", procs)
		}
		runtime.GOMAXPROCS(before)
	}
}

// Owners and file capabilities go back to what the container sees, as in the peer's diff
// of the same directories.
func TestDiffMapsIDsLikeThePeer(t *testing.T) {
	s := newPeerStore(t, "vfs")
	maps := []string{"--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"}
	s.run(slices.Concat([]string{"create-layer", "-i", layerID(1)}, maps)...)
	v3 := `"\x01\x00\x00\x03\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00%s\x00"`
	testutil.Tree(t, s.content(layerID(1)), "root=x 100000:200000", "user=x 101005:200007",
		"cap-of-root=x 100000:200000 security.capability="+fmt.Sprintf(v3, `\xa0\x86\x01`),
		"cap-of-one=x 100000:200000 security.capability="+fmt.Sprintf(v3, `\xa1\x86\x01`))
	opts := diff.Options{IDMap: idtools.Mapping{
		UIDs: []idtools.Map{{ContainerID: 0, HostID: 100000, Size: 65536}},
		GIDs: []idtools.Map{{ContainerID: 0, HostID: 200000, Size: 65536}},
	}}
	got := treeDiff(t, s.content(layerID(1)), "", opts)
	sameTar(t, s.run("diff", "-u", layerID(1)), got)
	if h := tarHeaders(t, got); h[len(h)-1].Name != "user" || h[len(h)-1].Uid != 1005 || h[len(h)-1].Gid != 7 {
		t.Errorf("last entry is %+v", h[len(h)-1])
	}

	testutil.Tree(t, s.content(layerID(1)), "strange=x 7:7")
	err := diff.WriteTree(t.Context(), io.Discard, s.content(layerID(1)), "", opts)
	if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "/strange") {
		t.Errorf("an owner without a mapping: %v", err)
	}
}

// In a store with a force mask the attribute tells what a file is. Elsewhere it is an
// attribute, and no way to a setuid bit.
func TestDiffReadsTheOverrideOnRequestOnly(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir,
		"dev=x 0700 user.containers.override_stat=0:5:0620:char-4-64",
		"dir/ 0700 user.containers.override_stat=3:4:1777:dir",
		"file=abc 0700 user.containers.override_stat=1:2:4755:file user.other=kept",
		"old=abc 0700 user.containers.override_stat=1:2:0644",
		"pipe=x 0700 user.containers.override_stat=1:2:0600:pipe")
	var lines []string
	for _, h := range tarHeaders(t, treeDiff(t, dir, "", diff.Options{OverrideStat: true})) {
		lines = append(lines, fmt.Sprintf("%s %c %d:%d %o %d:%d %d %v", h.Name, h.Typeflag, h.Uid, h.Gid, h.Mode,
			h.Devmajor, h.Devminor, h.Size, h.PAXRecords))
	}
	sameLines(t, []string{
		"dev 3 0:5 620 4:64 0 map[]",
		"dir/ 5 3:4 1777 0:0 0 map[]",
		"file 0 1:2 4755 0:0 3 map[SCHILY.xattr.user.other:kept]",
		"old 0 1:2 644 0:0 3 map[]",
		"pipe 6 1:2 600 0:0 0 map[]",
	}, lines)
	for _, h := range tarHeaders(t, treeDiff(t, dir, "", diff.Options{})) {
		if h.Mode != 0o700 || h.PAXRecords["SCHILY.xattr.user.containers.override_stat"] == "" {
			t.Errorf("%s: mode %o, %v", h.Name, h.Mode, h.PAXRecords)
		}
	}
	for _, bad := range []string{"", "1:2", "x:2:0644", "1:-2:0644", "1:2:999", "1:2:0644:dir", "1:2:0644:char",
		"1:2:0644:char-1", "1:2:0644:char-1-x", "1:2:0644:socket"} {
		testutil.Tree(t, dir, fmt.Sprintf("file=abc user.containers.override_stat=%q", bad))
		err := diff.WriteTree(t.Context(), io.Discard, dir, "", diff.Options{OverrideStat: true})
		if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "/file") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Sockets are left out, and what blocks or acts when it is opened is not opened.
func TestDiffOpensNoFIFOAndNoDevice(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "fifo|", "char%5:2", "block%%7:250", "link->fifo", "file=x")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: dir + "/socket"}); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	for _, name := range []string{"fifo", "char", "block"} {
		if _, err := unix.InotifyAddWatch(watch, dir+"/"+name, unix.IN_OPEN|unix.IN_DONT_FOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	names := strings.Join(tarNames(t, treeDiff(t, dir, "", diff.Options{})), " ")
	if names != "block char fifo file link" {
		t.Errorf("tar holds %s", names)
	}
	if _, err := diff.TreeChanges(t.Context(), dir, t.TempDir(), diff.Options{}); err != nil {
		t.Error(err)
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("%d bytes of news about files being opened, %v", n, err)
	}
}

// A tree deeper than any path can name is read like any other, and with few descriptors.
func TestDiffOfAVeryDeepTree(t *testing.T) {
	const levels = 4096
	dir := t.TempDir()
	t.Cleanup(func() { removeDeep(dir) })
	for _, tree := range []string{"old", "new"} {
		fd, err := unix.Open(filepath.Join(mustMkdir(t, dir, tree)), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range levels {
			if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
				t.Fatal(err)
			}
			next, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			unix.Close(fd)
			if err != nil {
				t.Fatal(err)
			}
			fd = next
		}
		file, err := unix.Openat(fd, tree, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(file, []byte("bottom"))
		unix.Close(file)
		unix.Close(fd)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 400
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()

	changes, err := diff.OverlayChanges(t.Context(), dir+"/new", []string{dir + "/old"}, false)
	if err != nil || len(changes) < 1 || !strings.HasSuffix(changes[len(changes)-1].Path, "/d/new") {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	var all bytes.Buffer
	if err := diff.WriteOverlay(t.Context(), &all, dir+"/new", []string{dir + "/old"}, false,
		diff.Options{}); err != nil {
		t.Fatal(err)
	}
	if names := tarNames(t, all.Bytes()); len(names) != levels+1 || len(names[levels]) != 2*levels+len("new") {
		t.Fatalf("%d entries", len(names))
	}
	compared := tarNames(t, treeDiff(t, dir+"/new", dir+"/old", diff.Options{}))
	if last := compared[len(compared)-2:]; !strings.HasSuffix(last[0], "d/new") ||
		!strings.HasSuffix(last[1], "d/.wh.old") {
		t.Fatalf("%d entries", len(compared))
	}
	split := record(t, tarOf(t, tar.Header{Name: strings.Repeat("d/", levels) + "new", Size: 6}), "")
	if err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(split), []string{dir + "/new"}); !errors.Is(err,
		errdefs.ErrCorrupt) ||
		!strings.Contains(err.Error(), "checksum") {
		t.Fatalf("the file at the bottom was not read: %v", err)
	}
}

// A file whose name would be read as a whiteout is named, or left out with what is
// beneath it; it never removes another one where the tar is unpacked.
func TestDiffOfNamesLikeWhiteouts(t *testing.T) {
	for _, c := range []struct{ name, tree string }{{"/.wh.literal", ".wh.literal=data"}, {"/.wh.", ".wh.=x"},
		{"/q/.wh..wh..opq", "q/.wh..wh..opq="}, {"/d/.wh.e", "d/.wh.e/f=x"}} {
		dir := t.TempDir()
		testutil.Tree(t, dir, c.tree, "kept=x")
		for name, write := range map[string]func(w io.Writer, opts diff.Options) error{
			"overlay": func(w io.Writer, opts diff.Options) error {
				return diff.WriteOverlay(t.Context(), w, dir, nil, false, opts)
			},
			"tree": func(w io.Writer, opts diff.Options) error { return diff.WriteTree(t.Context(), w, dir, "", opts) },
			"trees": func(w io.Writer, opts diff.Options) error {
				return diff.WriteTree(t.Context(), w, dir, t.TempDir(), opts)
			},
		} {
			err := write(io.Discard, diff.Options{})
			if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), c.name+":") &&
				!strings.Contains(err.Error(), c.name+"/f:") {
				t.Errorf("%s, %s: %v", name, c.name, err)
			}
			var left []string
			var out bytes.Buffer
			if err := write(&out, diff.Options{LeaveOut: func(path string) { left = append(left, path) }}); err != nil {
				t.Errorf("%s, %s: %v", name, c.name, err)
			}
			names := strings.Join(tarNames(t, out.Bytes()), " ")
			if len(left) == 0 || !strings.HasPrefix(left[0], c.name) || strings.Contains(names, ".wh.") ||
				!strings.Contains(names, "kept") {
				t.Errorf("%s, %s: left out %v, in the tar %s", name, c.name, left, names)
			}
		}
	}
}

// Overlays on an overlay write a whiteout as an empty file with an attribute (Linux 6.7).
func TestWhiteoutsInAttributes(t *testing.T) {
	testutil.HostRoot(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "lower/d/gone=x", "lower/d/kept=x", "upper/d/gone=", "upper/d/new=x")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Lsetxattr(dir+"/upper/d/gone", "trusted.overlay.whiteout", []byte("y"), 0))
	must(unix.Lsetxattr(dir+"/upper/d", "trusted.overlay.opaque", []byte("x"), 0))
	changes, err := diff.OverlayChanges(t.Context(), dir+"/upper", []string{dir + "/lower"}, false)
	if got := short(changes); err != nil || got != "C /d D /d/gone A /d/new" {
		t.Errorf("changes %s, %v", got, err)
	}
	var out bytes.Buffer
	must(diff.WriteOverlay(t.Context(), &out, dir+"/upper", []string{dir + "/lower"}, false, diff.Options{}))
	if got := strings.Join(tarNames(t, out.Bytes()), " "); got != "d/ d/.wh.gone d/new" {
		t.Errorf("the tar has %s", got)
	}
}

func mustMkdir(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// removeDeep takes trees apart from the top, where names are short.
func removeDeep(dir string) {
	for _, tree := range []string{"old", "new"} {
		for {
			inner := filepath.Join(dir, tree, "d")
			if os.Rename(filepath.Join(inner, "d"), filepath.Join(dir, "next")) != nil {
				break
			}
			os.RemoveAll(inner)
			_ = os.Rename(filepath.Join(dir, "next"), inner)
		}
	}
}

// atFirstWrite does something as soon as bytes flow, while the readers are still far from
// the end.
type atFirstWrite struct {
	bytes.Buffer
	do func() error
}

func (w *atFirstWrite) Write(p []byte) (int, error) {
	if w.do != nil {
		do := w.do
		w.do = nil
		if err := do(); err != nil {
			return 0, err
		}
	}
	return w.Buffer.Write(p)
}

// While a container lives its files change under the reader. What can be left out is;
// what would make a wrong tar is an error.
func TestDiffOfATreeThatChanges(t *testing.T) {
	const size = 20 << 20
	cases := []struct {
		name   string
		change func(dir string) error
		says   string // "" for no error
	}{
		{"a file shrinks", func(d string) error { return os.Truncate(d+"/a-big", size/2) }, "/a-big: shrank from"},
		{"a file grows", func(d string) error { return os.Truncate(d+"/a-big", size+1) }, "/a-big: grew beyond"},
		{"files vanish", func(d string) error { return os.RemoveAll(d + "/many/m9") }, ""},
		{"a file becomes a link", func(d string) error {
			return errors.Join(os.Remove(d+"/z"), os.Symlink("a-big", d+"/z"))
		}, ""},
		{"a directory becomes a link", func(d string) error {
			return errors.Join(os.RemoveAll(d+"/many/m9"), os.Symlink("/", d+"/many/m9"))
		}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			testutil.Tree(t, dir, fmt.Sprintf("a-big*%d", size), "z=end")
			for i := range 10 {
				for j := range 400 {
					testutil.Tree(t, dir, fmt.Sprintf("many/m%d/f%d=x", i, j))
				}
			}
			w := &atFirstWrite{do: func() error { return c.change(dir) }}
			err := diff.WriteTree(t.Context(), w, dir, "", diff.Options{})
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range tarHeaders(t, w.Bytes()) {
				if strings.HasPrefix(h.Name, "many/m9/") &&
					(c.name == "files vanish" || strings.Count(h.Name, "/") > 2) {
					t.Fatalf("tar holds %s", h.Name)
				}
			}
		})
	}
}

// Cancelling ends a diff and a replay at once, and leaves neither goroutines nor
// descriptors; so does a reader that goes away.
func TestOutIsCancelled(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for i := range 3000 {
		testutil.Tree(t, dir, fmt.Sprintf("d%d/f%d*2000", i%50, i))
	}
	testutil.Tree(t, dir, "zz*9000000")
	split := record(t, treeDiff(t, dir, "", diff.Options{}), "")
	goroutines, open := runtime.NumGoroutine(), openFiles(t)
	wentAway := errors.New("went away")
	for name, write := range map[string]func(ctx context.Context, w io.Writer) error{
		"overlay": func(ctx context.Context, w io.Writer) error {
			return diff.WriteOverlay(ctx, w, dir, nil, false, diff.Options{})
		},
		"trees": func(ctx context.Context, w io.Writer) error {
			return diff.WriteTree(ctx, w, dir, other, diff.Options{})
		},
		"replay": func(ctx context.Context, w io.Writer) error {
			return tarsplit.Replay(ctx, w, bytes.NewReader(split), []string{dir})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err := write(ctx, &atFirstWrite{do: func() error { cancel(); return nil }}); !errors.Is(err,
				context.Canceled) {
				t.Errorf("cancelled in the middle: %v", err)
			}
			if err := write(ctx, io.Discard); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled before: %v", err)
			}
			if err := write(t.Context(), &atFirstWrite{do: func() error { return wentAway }}); !errors.Is(err,
				wentAway) {
				t.Errorf("reader gone: %v", err)
			}
		})
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diff.OverlayChanges(cancelled, dir, []string{other}, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := diff.TreeChanges(cancelled, dir, other, diff.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines are left of %d", now, goroutines)
	}
	if now := openFiles(t); now != open {
		t.Errorf("%d descriptors are open, %d were", now, open)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// More attributes than a reader of the tar would take are refused, not written.
func TestDiffRefusesEndlessAttributes(t *testing.T) {
	dir := testutil.LoopFS(t, "xfs", 320)
	testutil.Tree(t, dir, "f=x")
	value := bytes.Repeat([]byte("v"), 60000)
	for i := range 20 {
		if err := unix.Lsetxattr(dir+"/f", fmt.Sprintf("user.k%d", i), value, 0); err != nil {
			t.Fatal(err)
		}
	}
	err := diff.WriteTree(t.Context(), io.Discard, dir, "", diff.Options{})
	if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "/f: ") {
		t.Fatal(err)
	}
}

// Progress tells the bytes so far, and ends at their sum.
func TestDiffReportsProgress(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "a*1000000", "b*5")
	last := int64(0)
	out := treeDiff(t, dir, "", diff.Options{Progress: func(n int64) {
		if n <= last {
			t.Errorf("%d after %d", n, last)
		}
		last = n
	}})
	if last != int64(len(out)) {
		t.Errorf("%d, not %d", last, len(out))
	}
}

// A tar of the year 1600 or 2500, of a user beyond the octal field's reach: what USTAR
// can't hold goes into PAX.
func TestDiffKeepsValuesOutOfTheOrdinary(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "a=x @-2000000000.75 4294967294:4294967293", "b=x @4102444800.999999999")
	h := tarHeaders(t, treeDiff(t, dir, "", diff.Options{}))
	if !h[0].ModTime.Equal(time.Unix(-2000000001, 0)) || h[0].Uid != 4294967294 || h[0].Gid != 4294967293 ||
		!h[1].ModTime.Equal(time.Unix(4102444800, 0)) {
		t.Errorf("%+v\n%+v", h[0], h[1])
	}
}
