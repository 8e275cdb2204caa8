package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// apply applies data to a new directory and returns it with the tar-split file.
func applied(t testing.TB, data []byte, opts apply.Options) (dir, split string, res apply.Result) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	split, res, err := applyTo(t, dir, data, opts)
	if err != nil {
		t.Fatal(err)
	}
	return dir, split, res
}

func applyTo(t testing.TB, dir string, data []byte, opts apply.Options) (split string,
	res apply.Result, err error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "tar-split.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	res, err = apply.Tar(context.Background(), dir, bytes.NewReader(data), file, opts)
	return file.Name(), res, err
}

// reassembled is the tar that github.com/vbatts/tar-split makes from the layer and its
// tar-split file.
func reassembled(t testing.TB, dir, split string) []byte {
	t.Helper()
	file, err := os.Open(split)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := asm.WriteOutputTarStream(rootGetter{root}, storage.NewJSONUnpacker(z), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type rootGetter struct{ root *os.Root }

func (g rootGetter) Get(name string) (io.ReadCloser, error) {
	return g.root.Open(strings.TrimLeft(name, "/"))
}

// sameReplay checks that both tar-split's own code and Replay give back data.
func sameReplay(t testing.TB, data []byte, dir, split string) {
	t.Helper()
	if got := reassembled(t, dir, split); !bytes.Equal(got, data) {
		t.Errorf("tar-split's reassembly gives %d bytes, not the %d that came", len(got), len(data))
	}
	file, err := os.Open(split)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	if err := tarsplit.Replay(context.Background(), &out, file, []string{dir}); err != nil {
		t.Error(err)
	} else if !bytes.Equal(out.Bytes(), data) {
		t.Errorf("Replay gives %d bytes, not the %d that came", out.Len(), len(data))
	}
}

// richTree is a tree with one of everything that GNU tar can pack.
func richTree(t testing.TB, dir string) {
	testutil.Tree(t, dir,
		"etc/ 0750 1:2 @1600000000.5",
		"etc/empty= 0600 @1600000001.000000001",
		"etc/passwd=root:x:0:0 0644 @1600000001.123456789",
		"etc/shadow=secret 0000 0:42",
		"big*3000000 0640 1000:1000",
		"block*262144 0644",
		"exactly*1048576", "more*1048577",
		"bin/ 01777",
		"bin/su*700 04755 @-1.5",
		"bin/wall*701 02755 0:5",
		"bin/both*702 06711 3000000000:3000000001",
		"bin/cap*703 0755",
		"bin/hard=>bin/su",
		"bin/other=>bin/su",
		"link->../../outside", "abs->/etc/passwd", "dangling->nowhere @1500000000.25", "owned->x 12:34",
		"pipe| 0622 5:6",
		"dev/null%1:3 0666", "dev/zero%1:5 0640 7:8", "dev/loop%%7:200 0660 0:6",
		"x/attr=value user.one=1", "x/two=v user.two=2 trusted.three=3",
		"x/dir/ user.dir=yes 02775 0:50", "x/dir/inherits=no 0644 0:0",
		"deep/"+strings.Repeat("abcdefghi/", 25)+"file=deep",
		"<&>=1", "ünïcode=1", "line\u2028sep=1",
		"readonly/ 0555 @1400000000", "readonly/f=1 0444",
	)
	for name, size := range map[string]int64{"sparse/head": 5 << 20, "sparse/empty": 1 << 20} {
		sparse(t, filepath.Join(dir, name), size)
	}
	for _, name := range []string{"\xff\xfe-latin", "name with space", "quote\"back\\slash", "new\nline"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "setcap", "libcap2-bin", "cap_net_raw+ep", filepath.Join(dir, "bin/cap"))
	run(t, "setfacl", "acl", "-m", "u:1000:rwx,g:2000:r", filepath.Join(dir, "x/attr"))
	if err := os.MkdirAll(filepath.Join(dir, "acl/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.Tree(t, dir, "acl/plain=1 0644", "acl/sub/plain=1 0640")
	run(t, "setfacl", "acl", "-d", "-m", "u:1000:rwx", filepath.Join(dir, "acl"))
}

func sparse(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, "empty") {
		return
	}
	for _, at := range []int64{0, 1 << 20, 3<<20 + 4096} {
		if _, err := f.WriteAt(testutil.Noise(path, 5000), at); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t testing.TB, tool, pkg string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testutil.Tool(t, tool, pkg), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return out
}

func blocks(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

func unzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// listing is a tree in short: type, path, and content, target or device number.
func listing(t testing.TB, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(content) > 40 {
				lines = append(lines, fmt.Sprintf("f %s %d bytes", name, len(content)))
			} else {
				lines = append(lines, fmt.Sprintf("f %s %q", name, content))
			}
		case unix.S_IFDIR:
			lines = append(lines, "d "+name)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			lines = append(lines, "l "+name+" "+target)
		case unix.S_IFIFO:
			lines = append(lines, "p "+name)
		default:
			kind := "c"
			if st.Mode&unix.S_IFMT == unix.S_IFBLK {
				kind = "b"
			}
			lines = append(lines, fmt.Sprintf("%s %s %d:%d", kind, name, unix.Major(st.Rdev), unix.Minor(st.Rdev)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func compressed(t testing.TB, tool string, data []byte) []byte {
	t.Helper()
	cmd := exec.Command(testutil.Tool(t, tool, map[string]string{"gzip": "gzip", "zstd": "zstd", "bzip2": "bzip2",
		"xz": "xz-utils"}[tool]), "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkLeaks fails the test if it ends with more goroutines or descriptors than it began
// with.
func checkLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > goroutines {
			if time.Now().After(deadline) {
				stacks := make([]byte, 64<<10)
				t.Fatalf("%d goroutines more than before:\n%s", runtime.NumGoroutine()-goroutines,
					stacks[:runtime.Stack(stacks, true)])
			}
			runtime.Gosched()
		}
		if n := openFiles(t); n > files {
			t.Errorf("%d open files more than before", n-files)
		}
	})
}
