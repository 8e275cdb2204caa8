package archive_test

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
)

var compressors = []string{"gzip", "zstd", "bzip2", "xz"}

func TestDecompressKnowsAStreamByItsFirstBytes(t *testing.T) {
	plain := append(bytes.Repeat([]byte("text "), 50000), testutil.Noise("noise", 100000)...)
	for _, tool := range compressors {
		data := compressed(t, tool, plain)
		streams := map[string][]byte{"one stream": data, "two streams": append(bytes.Clone(data), data...)}
		if tool == "zstd" {
			streams["a skippable frame first"] = append([]byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"), data...)
		}
		for name, data := range streams {
			r, kind, err := compress.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatalf("%s: %v", tool, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || kind.String() != tool || !bytes.Equal(got[:len(plain)], plain) ||
				len(got) != len(plain)*(len(data)/len(compressed(t, tool, plain))) {
				t.Errorf("%s, %s: %d bytes of %v, %v", tool, name, len(got), kind, err)
			}
			r.Close()
		}
	}
	for name, data := range map[string][]byte{"nothing": {}, "a byte": {0x1f}, "text": []byte("text"),
		"zeros": make([]byte, 5000)} {
		r, kind, err := compress.NewReader(bytes.NewReader(data))
		if err != nil || kind != compress.None {
			t.Fatalf("%s: %v, %v", name, kind, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Of a broken stream nothing hangs, nothing stays behind, and the error tells what is
// broken (CVE-2021-20291).
func TestDecompressBrokenStreams(t *testing.T) {
	checkLeaks(t)
	plain := testutil.Noise("noise", 300000)
	for _, tool := range compressors {
		whole := compressed(t, tool, plain)
		for cut := 6; cut < len(whole); cut += len(whole)/20 + 1 {
			if err := readThrough(t, whole[:cut]); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%s cut off at %d: %v", tool, cut, err)
			}
			flipped := bytes.Clone(whole)
			flipped[cut] ^= 0x40
			err := readThrough(t, flipped)
			if err != nil && !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%s with a bit flipped at %d: %v", tool, cut, err)
			}
		}
		broken := errors.New("the network is gone")
		r, _, err := compress.NewReader(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), errorReader{broken}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, broken) {
			t.Errorf("%s: error is %v, want the reader's own", tool, err)
		}
		r.Close()
	}
}

func readThrough(t *testing.T, data []byte) error {
	t.Helper()
	r, _, err := compress.NewReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Closing at any point returns at once and leaves nothing behind.
func TestDecompressClosedEarly(t *testing.T) {
	checkLeaks(t)
	plain := testutil.Noise("noise", 3<<20)
	for _, tool := range compressors {
		whole := compressed(t, tool, plain)
		for _, n := range []int64{0, 1, 100, 1 << 20} {
			r, _, err := compress.NewReader(bytes.NewReader(whole))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- r.Close() }()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: Close after %d bytes hangs", tool, n)
			}
		}
	}
}

func TestCompress(t *testing.T) {
	checkLeaks(t)
	plain := append(bytes.Repeat([]byte("text "), 100000), testutil.Noise("noise", 100000)...)
	for kind, tool := range map[compress.Kind]string{compress.Gzip: "gzip", compress.Zstd: "zstd"} {
		var b bytes.Buffer
		w, err := compress.NewWriter(&b, kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(testutil.Tool(t, tool, tool), "-dc")
		cmd.Stdin = &b
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s gets %d bytes, %v", tool, len(got), err)
		}
		if w, err = compress.NewWriter(failingWriter{}, kind); err != nil {
			t.Fatal(err)
		}
		_, werr := w.Write(testutil.Noise("more", 3<<20))
		if cerr := w.Close(); werr == nil && cerr == nil {
			t.Errorf("%v: the writer's error is lost", kind)
		}
	}
	for _, kind := range []compress.Kind{compress.Bzip2, compress.Xz, 17} {
		if _, err := compress.NewWriter(io.Discard, kind); !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%v: %v", kind, err)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func FuzzDecompress(f *testing.F) {
	for _, tool := range compressors {
		f.Add(compressed(f, tool, []byte("some text, some text, some text")))
	}
	f.Add(bytes.Repeat(zipped(nil), 100))
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, kind, err := compress.NewReader(bytes.NewReader(data))
		if err == nil {
			_, err = io.CopyN(io.Discard, r, 16<<20)
			r.Close()
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%v: %v is not errdefs.ErrInvalid", kind, err)
		}
		if kind == compress.Gzip && errors.Is(err, io.EOF) {
			if _, err := gzip.NewReader(bytes.NewReader(data)); err != nil {
				t.Error("gzip without a gzip header")
			}
		}
	})
}
