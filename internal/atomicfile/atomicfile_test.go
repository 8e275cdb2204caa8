package atomicfile_test

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/testutil"
)

// The test binary writes one file when it is run under strace.
func TestMain(m *testing.M) {
	if path := os.Getenv("ATOMICFILE_TEST_WRITE"); path != "" {
		if err := atomicfile.Write(path, 0o600, os.Getenv("ATOMICFILE_TEST_SYNC") == "yes",
			[]byte("content")); err != nil {
			panic(err)
		}
		return
	}
	testutil.Main(m)
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.json")
	large := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for _, chunks := range [][][]byte{nil, {[]byte("one")}, {[]byte("two"), nil, []byte(" "), []byte("three")},
		{[]byte("["), large, []byte("]")}} {
		for _, sync := range []bool{true, false} {
			if err := atomicfile.Write(path, 0o640, sync, chunks...); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, bytes.Join(chunks, nil)) {
				t.Errorf("%d bytes, %v, want %d", len(got), err, len(bytes.Join(chunks, nil)))
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v, want 0640 whatever the umask", st.Mode(), err)
			}
			only(t, dir, "records.json")
		}
	}
}

func TestFailureLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.json")
	if err := atomicfile.Write(path, 0o600, true, []byte("old")); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	err := atomicfile.WriteFrom(path, 0o600, true, func(w *bufio.Writer) error {
		w.WriteString("half of the ne")
		_ = w.Flush()
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("%v, want the error of fill", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the file has %q", got)
	}
	only(t, dir, "records.json")

	if err := os.MkdirAll(filepath.Join(dir, "directory", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "directory"), 0o600, true, []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := atomicfile.Write(filepath.Join(dir, "missing", "file"), 0o600, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing directory: %v, want ErrNotExist", err)
	}
	only(t, dir, "directory", "records.json")
}

func TestFullDiskLeavesTheOldFile(t *testing.T) {
	testutil.Root(t)
	dir := testutil.LoopFS(t, "ext4", 16)
	path := filepath.Join(dir, "records.json")
	if err := atomicfile.Write(path, 0o600, true, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, 0o600, true, make([]byte, 32<<20)); err == nil {
		t.Fatal("32 MiB fit on 16")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the file has %q", got)
	}
	only(t, dir, "lost+found", "records.json")
}

// The order that makes a write survive a power cut, as the kernel sees it.
func TestOrderOfSystemCalls(t *testing.T) {
	strace := testutil.Tool(t, "strace", "strace")
	for _, tt := range []struct{ sync, want string }{
		{"yes", "write fdatasync rename fsync"},
		{"no", "write rename"},
	} {
		dir := t.TempDir()
		log := filepath.Join(dir, "log")
		cmd := exec.Command(strace, "-f", "-y", "-o", log, "-e",
			"trace=write,fdatasync,fsync,rename,renameat,renameat2", os.Args[0])
		cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_WRITE="+filepath.Join(dir, "file"), "ATOMICFILE_TEST_SYNC="+
			tt.sync)
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(out), "PTRACE") {
				t.Skipf("needs ptrace: %s", out)
			}
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		var calls []string
		for line := range strings.Lines(string(data)) {
			if m := regexp.MustCompile(`(write|fdatasync|fsync|rename)\w*\(.*`).FindStringSubmatch(line); m != nil &&
				strings.Contains(line, dir) {
				calls = append(calls, m[1])
			}
		}
		if got := strings.Join(calls, " "); got != tt.want {
			t.Errorf("sync %s: %s, want %s\n%s", tt.sync, got, tt.want, data)
		}
	}
}
