// Package limits measures what can be measured without a clock: memory, and how often a
// command makes the disk wait.
package limits

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/corpus"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// A hundred bytes of xz may ask for a dictionary of gigabytes. They are refused, and
// nothing of the size is ever allocated.
func TestHostileXz(t *testing.T) {
	testutil.Root(t)
	dir, shale := t.TempDir(), harness.Shale(t)
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, make([]byte, 10240), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testutil.Tool(t, "xz", "xz-utils"), small).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hostile, err := os.ReadFile(small + ".xz")
	if err != nil {
		t.Fatal(err)
	}
	hostile[16] = 37 // the dictionary's size, in a block header of 12 bytes that ends in its CRC-32
	binary.LittleEndian.PutUint32(hostile[20:], crc32.ChecksumIEEE(hostile[12:20]))
	cmd := harness.NewRoot(dir).Command(t.Context(), shale, "import-layer")
	cmd.Stdin = bytes.NewReader(hostile)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "dictionary of 1536 MiB") {
		t.Errorf("import: %v: %s", err, out)
	}
	if peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10; peak > 64 {
		t.Errorf("%d MB to refuse it", peak)
	}
}

// TestMemory imports and exports layers that tempt a store to keep much in memory, and
// asks the kernel for the most that each process ever had.
func TestMemory(t *testing.T) {
	testutil.Root(t)
	const limit = 200 // MB, on any layer
	for _, layer := range []struct {
		name string
		long bool
		make func(t *testing.T, path string)
	}{
		{"60,000 small files", true, func(t *testing.T, path string) { corpus.SmallFiles.Make(t, path) }},
		{"one file of 700 MB of zeros, zstd", true, func(t *testing.T, path string) {
			compressed(t, path, "zstd", 1, 700<<20)
		}},
		{"one file of 300 MB of zeros, zstd", false, func(t *testing.T, path string) {
			compressed(t, path, "zstd", 1, 300<<20)
		}},
		{"one file of 300 MB of zeros, xz -9", true, func(t *testing.T, path string) {
			compressed(t, path, "xz", 1, 300<<20, "-9")
		}},
		{"25 files of 10 MB, gzip", false, func(t *testing.T, path string) { compressed(t, path, "gzip", 25, 10<<20) }},
		{"100,000 empty files in one directory", true, func(t *testing.T, path string) {
			compressed(t, path, "gzip", 100_000, 0)
		}},
	} {
		t.Run(layer.name, func(t *testing.T) {
			if layer.long {
				testutil.NeedsLong(t)
			}
			shale, dir := harness.Shale(t), t.TempDir()
			archive := filepath.Join(dir, "layer")
			layer.make(t, archive)
			root := harness.NewRoot(dir)
			for _, args := range [][]string{
				{"import-layer", "-i", "it", "-f", archive},
				{"layers", "-j"},
				{"diff", "-u", "-f", filepath.Join(dir, "exported"), "it"},
				{"delete-layer", "it"},
			} {
				cmd := root.Command(t.Context(), shale, args...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v: %s", args, err, out)
				}
				peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
				t.Logf("%s: %d MB", args[0], peak)
				if peak > limit {
					t.Errorf("%s had %d MB of memory, the limit is %d", args[0], peak, limit)
				}
			}
		})
	}
}

// compressed pipes a tar of n files of zeros through a compressor.
func compressed(t *testing.T, path, program string, n, size int, level ...string) {
	t.Helper()
	tool := testutil.Tool(t, program, program)
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, w := io.Pipe()
	if level == nil {
		level = []string{"-1"}
	}
	cmd := exec.Command(tool, append(level, "-c")...)
	cmd.Stdin, cmd.Stdout = r, out
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<16)
		archive := tar.NewWriter(buffered)
		zeros := make([]byte, 1<<20)
		for i := range n {
			_ = archive.WriteHeader(&tar.Header{Name: fmt.Sprintf("directory/file-%d", i), Mode: 0o644,
				Size: int64(size)})
			for left := size; left > 0; left -= min(left, len(zeros)) {
				archive.Write(zeros[:min(left, len(zeros))])
			}
		}
		archive.Close()
		w.CloseWithError(buffered.Flush())
	}()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncs counts the calls that wait for the disk. There must be some, or nothing is
// durable; few, and as many for 600 files as for 10, or imports are slow where it
// matters.
func TestSyncs(t *testing.T) {
	testutil.Root(t)
	strace := testutil.Tool(t, "strace", "strace")
	shale, dir := harness.Shale(t), t.TempDir()
	root := harness.NewRoot(dir)
	small, large := harness.SmallArchive(t, dir, "small", 10, 100), harness.SmallArchive(t, dir, "large", 600, 100)
	root.Must(t, shale, "create-layer", "-i", "base") // the store's own beginnings are not counted

	count := func(args ...string) map[string]int {
		t.Helper()
		cmd := root.Command(t.Context(), shale, args...)
		trace := filepath.Join(dir, "trace")
		cmd.Args = append([]string{strace, "-f", "-qq", "-o", trace, "-e",
			"trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync"}, cmd.Args...)
		cmd.Path = strace
		if out, err := cmd.CombinedOutput(); err != nil {
			if bytes.Contains(out, []byte("Operation not permitted")) {
				t.Skipf("needs ptrace: %s", out)
			}
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		data, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		calls := map[string]int{}
		for line := range strings.Lines(string(data)) {
			_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
			// strace's word for a thread that was just ending
			if name, _, ok := strings.Cut(strings.TrimSpace(call), "("); ok && name != "???" &&
				!strings.HasPrefix(name, "<") {
				calls[name]++
				calls["all"]++
			}
		}
		t.Logf("%s: %v", args[0], calls)
		return calls
	}

	few, many := count("import-layer", "-i", "small", "-f", small.Path),
		count("import-layer", "-i", "large", "-f", large.Path)
	if few["all"] != many["all"] {
		t.Errorf("an import of 10 files syncs %d times, of 600 files %d times", few["all"], many["all"])
	}
	if many["syncfs"]+many["fsync"] == 0 || many["all"] > 10 {
		t.Errorf("an import syncs %v: want the files once, the record and its directories, and no more", many)
	}
	for _, args := range [][]string{
		{"create-layer", "-i", "child", "base"}, {"set-metadata", "-m", "x", "child"}, {"delete-layer", "child"},
	} {
		if calls := count(args...); calls["all"] == 0 || calls["all"] > 8 {
			t.Errorf("%s syncs %v: want at least 1 and at most 8", args[0], calls)
		}
	}
	for _, args := range [][]string{{"layers", "-j"}, {"mount", "base"}, {"unmount", "base"},
		{"diff", "-u", "-f", "/dev/null", "large"}} {
		if calls := count(args...); calls["all"] != 0 {
			t.Errorf("%s syncs %v: it changes nothing that outlives a reboot", args[0], calls)
		}
	}
}

// TestUnmountWaitsAlone has the mount end after the locks are given back: the kernel
// syncs the whole file system then, whatever an import is writing to it.
func TestUnmountWaitsAlone(t *testing.T) {
	testutil.Root(t)
	strace := testutil.Tool(t, "strace", "strace")
	shale, dir := harness.Shale(t), t.TempDir()
	root := harness.NewRoot(dir)
	root.Must(t, shale, "create-layer", "-i", "layer")
	root.Must(t, shale, "mount", "layer")
	cmd := root.Command(t.Context(), shale, "unmount", "layer")
	trace := filepath.Join(dir, "trace")
	cmd.Args = append([]string{strace, "-f", "-qq", "-y", "-o", trace, "-e", "trace=openat,umount2,close"}, cmd.Args...)
	cmd.Path = strace
	if out, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("Operation not permitted")) {
			t.Skipf("needs ptrace: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var held string
	opened := regexp.MustCompile(`openat\(.*/overlay/layer/merged",.*O_PATH.* = (\d+)`)
	for line := range strings.Lines(string(data)) {
		switch m := opened.FindStringSubmatch(line); {
		case m != nil:
			held = m[1]
		case strings.Contains(line, "umount2("):
			got = append(got, "unmount")
		case strings.Contains(line, "close(") && strings.Contains(line, "/mountpoints.lock>"):
			// which gives the lock back
			got = append(got, "unlock mountpoints")
		case strings.Contains(line, "close(") && strings.Contains(line, "/layers.lock>"):
			got = append(got, "unlock layers")
		case held != "" && strings.Contains(line, "close("+held+"<"):
			got = append(got, "let go")
		}
	}
	got = got[max(0, slices.Index(got, "unmount")):]
	if want := []string{"unmount", "unlock mountpoints", "unlock layers", "let go"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}
