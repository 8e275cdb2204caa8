package atomicfile_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/atomicfile"
	"golang.org/x/sys/unix"
)

// Content that is written into a reserve replaces the file in one step, and the file that
// was there is the next reserve.
func TestReserve(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "records", "file")
	reserve := filepath.Join(root, "shale", "reserve", "records.file")
	write := func(content string) error {
		next, err := atomicfile.PrepareInReserve(path, 0o600, func(w *bufio.Writer) error {
			_, err := w.WriteString(content)
			return err
		})
		if err != nil {
			return err
		}
		if err := next.Rename(); err != nil {
			return err
		}
		return next.Close()
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", strings.Repeat("longer", 5000), "short"} {
		if err := write(content); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != content || err != nil {
			t.Errorf("got %.20q, %v, want %.20q", got, err, content)
		}
	}
	if got, err := os.ReadFile(reserve); len(got) != 30000 || err != nil {
		t.Errorf("the reserve has %d bytes, %v", len(got), err)
	}
	atomicfile.KeepReserve(path, 100<<10)
	var st unix.Stat_t
	if err := unix.Stat(reserve, &st); err != nil || st.Blocks*512 < 200<<10 {
		t.Errorf("the reserve has %d blocks, %v", st.Blocks, err)
	}
	// It is never the file itself, nor anything that a link leads to.
	if err := os.Remove(reserve); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, reserve); err != nil {
		t.Fatal(err)
	}
	if err := write("through a hard link"); err == nil {
		t.Error("a hard link was written to")
	}
	if err := os.RemoveAll(filepath.Join(root, "shale")); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(root, "shale")); err != nil {
		t.Fatal(err)
	}
	atomicfile.KeepReserve(path, 1)
	if err := write("through a symlink"); err == nil {
		t.Error("a symlink was followed")
	}
	if left, err := os.ReadDir(elsewhere); len(left) > 0 || err != nil {
		t.Errorf("left elsewhere: %v, %v", left, err)
	}
	if got, err := os.ReadFile(path); string(got) != "short" || err != nil {
		t.Errorf("in the end %.20q, %v", got, err)
	}
}
