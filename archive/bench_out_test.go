package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// manyFiles makes 60,000 files of 10 KiB on average, ten to a directory, as a large npm
// or Python layer has them: about 600 MB.
func manyFiles(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	noise := testutil.Noise("files", 64<<10)
	for d := range 6000 {
		sub := filepath.Join(dir, fmt.Sprintf("p%02d/m%02d/d%04d", d%20, d%97, d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 10 {
			size := []int{0, 300, 900, 1500, 2500, 4000, 7000, 12000, 20000, 54000}[f]
			if err := os.WriteFile(fmt.Sprintf("%s/file%d.js", sub, f), noise[f*100:f*100+size], 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

// processor reports the processor time of a benchmark's loop, user's and kernel's, which
// says more than the wall on a busy machine.
func processor(b *testing.B) (report func()) {
	start := usage(b)
	return func() { b.ReportMetric((usage(b)-start).Seconds()/float64(b.N), "cpu-s/op") }
}

func usage(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hashed measures a tar writer as its callers use it: with the digest of what it writes.
func hashed(b *testing.B, write func(ctx context.Context, w io.Writer) error) {
	b.Helper()
	defer processor(b)()
	for b.Loop() {
		hash, n := sha256.New(), &counter{}
		if err := write(b.Context(), io.MultiWriter(hash, n)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n.n)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func BenchmarkOut(b *testing.B) {
	dir := manyFiles(b)
	b.Run("OverlayDiff", func(b *testing.B) {
		hashed(b, func(ctx context.Context, w io.Writer) error {
			return diff.WriteOverlay(ctx, w, dir, nil, false, diff.Options{})
		})
	})
	var data bytes.Buffer
	if err := diff.WriteOverlay(b.Context(), &data, dir, nil, false, diff.Options{}); err != nil {
		b.Fatal(err)
	}
	split := record(b, data.Bytes(), "")
	if save := os.Getenv("SHALE_BENCH_TAR"); save != "" {
		if err := os.WriteFile(save, data.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	data = bytes.Buffer{}
	b.Run("Replay", func(b *testing.B) {
		hashed(b, func(ctx context.Context, w io.Writer) error {
			return tarsplit.Replay(ctx, w, bytes.NewReader(split), []string{dir})
		})
	})
	other := b.TempDir()
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	b.Run("OverlayChanges", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			if _, err := diff.OverlayChanges(b.Context(), dir, []string{other}, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("TreeChanges", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			if _, err := diff.TreeChanges(b.Context(), dir, other, diff.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
