package inflate

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// samples are contents that take the decoder through all its ways.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 700<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	skewed := make([]byte, 900<<10) // all literals, with codes of very different lengths
	for i := range skewed {
		skewed[i] = byte(1 << min(7, uint(r.ExpFloat64()*1.5)) * r.IntN(3))
	}
	text := []byte{}
	for len(text) < 1<<20 {
		from := r.IntN(len(noise) - 300)
		text = append(text, noise[from:from+1+r.IntN(20)]...)
		if len(text) > 100 { // matches of all distances and lengths
			dist := 1 + r.IntN(min(len(text), 40<<10))
			if r.IntN(2) == 0 {
				dist = 1 + r.IntN(20)
			}
			for range r.IntN(400) {
				text = append(text, text[len(text)-dist])
			}
		}
	}
	return map[string][]byte{
		"nothing": {}, "a byte": {7}, "zeros": make([]byte, 3<<20), "noise": noise, "skewed": skewed, "text": text,
	}
}

func pack(t testing.TB, level int, contents ...[]byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	for _, content := range contents {
		w, err := stdgzip.NewWriterLevel(&packed, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
		for len(content) > 0 {
			n := min(len(content), 300<<10)
			if _, err := w.Write(content[:n]); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil { // an empty stored block
				t.Fatal(err)
			}
			content = content[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return packed.Bytes()
}

func unpack(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func TestContentComesBack(t *testing.T) {
	for name, content := range samples() {
		for _, level := range []int{stdgzip.HuffmanOnly, stdgzip.NoCompression, stdgzip.BestSpeed, 6,
			stdgzip.BestCompression} {
			packed := pack(t, level, content)
			for how, r := range map[string]io.Reader{"whole": bytes.NewReader(packed),
				"halves":   iotest.HalfReader(bytes.NewReader(packed)),
				"with EOF": iotest.DataErrReader(bytes.NewReader(packed))} {
				if got, err := unpack(r); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s, level %d, %s: %d bytes of %d, %v", name, level, how, len(got), len(content), err)
				}
			}
		}
	}
}

func TestMembersAreOneStream(t *testing.T) {
	all := samples()
	packed := pack(t, 6, all["text"], nil, all["a byte"], all["zeros"])
	want := bytes.Join([][]byte{all["text"], all["a byte"], all["zeros"]}, nil)
	if got, err := unpack(iotest.OneByteReader(bytes.NewReader(packed))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// gzip(1) and tapes pad the last member with zeros.
func TestZerosBehindTheLastMember(t *testing.T) {
	packed := pack(t, 6, []byte("content"), []byte(" of two"))
	for _, n := range []int{1, 5000, 200 << 10} {
		got, err := unpack(iotest.HalfReader(bytes.NewReader(append(bytes.Clone(packed), make([]byte, n)...))))
		if err != nil || string(got) != "content of two" {
			t.Errorf("%d zeros: %q, %v", n, got, err)
		}
	}
}

func TestMatchDoesNotReachIntoFormerMember(t *testing.T) {
	// A member of one block with fixed codes: a match of length 3 and distance 1, then
	// the end.
	evil := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}, 0x03, 0x02, 0x00, 0, 0, 0, 0, 0, 0, 0, 0)
	if _, err := unpack(bytes.NewReader(append(pack(t, 6, []byte("secret")), evil...))); !errors.Is(err, ErrData) {
		t.Errorf("got %v, want an error of the data", err)
	}
}

func TestCutOffAnywhere(t *testing.T) {
	for _, level := range []int{stdgzip.NoCompression, 6} {
		packed := pack(t, level, samples()["text"][:3000])
		for n := range packed {
			if _, err := unpack(bytes.NewReader(packed[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("level %d, %d bytes of %d: %v", level, n, len(packed), err)
			}
		}
	}
}

func TestSourceErrorIsPassedOn(t *testing.T) {
	broken := errors.New("broken")
	packed := pack(t, 6, samples()["text"])
	for _, n := range []int{0, 5, 5000, len(packed)} {
		_, err := unpack(io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken)))
		if err != broken { //nolint:errorlint // it must not be wrapped
			t.Errorf("after %d bytes of %d: %v", n, len(packed), err)
		}
	}
}

func TestWhatIsNoGzipIsRefused(t *testing.T) {
	packed := pack(t, 6, samples()["text"][:3000])
	sum := bytes.Clone(packed)
	sum[len(sum)-6] ^= 1
	size := bytes.Clone(packed)
	size[len(size)-1] ^= 1
	for name, stream := range map[string][]byte{
		"checksum":      sum,
		"size":          size,
		"text":          []byte("no gzip at all, but long enough for a header"),
		"trailer":       append(bytes.Clone(packed), "something that is no member"...),
		"reserved flag": append([]byte{0x1f, 0x8b, 8, 0x20}, packed[4:]...),
		"behind zeros":  append(append(bytes.Clone(packed), 0, 0), packed...),
		"block kind":    append(bytes.Clone(packed[:10]), 0x07),
	} {
		if name == "block kind" {
			stream[3] = 0
		}
		if _, err := unpack(bytes.NewReader(stream)); !errors.Is(err, ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSameAsStandardLibrary feeds anything to both decoders.
func FuzzSameAsStandardLibrary(f *testing.F) {
	f.Add(pack(f, 6, samples()["text"][:2000]), 0, byte(0))
	f.Add(pack(f, 1, samples()["skewed"][:2000]), 30, byte(1))
	f.Add(pack(f, stdgzip.HuffmanOnly, samples()["noise"][:500], []byte("more")), 200, byte(64))
	f.Fuzz(func(t *testing.T, packed []byte, at int, flip byte) {
		if len(packed) > 0 {
			packed = bytes.Clone(packed)
			packed[((at%len(packed))+len(packed))%len(packed)] ^= flip
		}
		sameAsStandard(t, packed)
	})
}

func TestDamageIsWhatTheStandardLibraryFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, content := range samples() {
		packed := pack(t, 6, content[:min(len(content), 4000)])
		for range 3000 {
			damaged := bytes.Clone(packed)
			damaged[r.IntN(len(damaged))] ^= 1 << r.IntN(8)
			if !sameAsStandard(t, damaged) {
				t.Fatal(name)
			}
		}
	}
}

// sameAsStandard compares what both decoders make of the input: what they could decode,
// and whether it was all right.
func sameAsStandard(t *testing.T, packed []byte) bool {
	var want []byte
	std, stdErr := stdgzip.NewReader(bytes.NewReader(packed))
	if stdErr == nil {
		want, stdErr = io.ReadAll(io.LimitReader(std, 8<<20))
	}
	ours, err := NewReader(bytes.NewReader(packed))
	var got []byte
	if err == nil {
		got, err = io.ReadAll(io.LimitReader(ours, 8<<20))
	}
	if err != nil && strings.Contains(err.Error(), "reserved flags") {
		return true // the standard library doesn't look at them, RFC 1952 2.3.1.2 does
	}
	for rest := packed; err == nil && stdErr != nil && bytes.HasSuffix(rest, []byte{0}); {
		rest = rest[:len(rest)-1] // the standard library refuses zeros behind the last member
		if std, stdErr = stdgzip.NewReader(bytes.NewReader(rest)); stdErr == nil {
			want, stdErr = io.ReadAll(io.LimitReader(std, 8<<20))
		}
	}
	if (err == nil) != (stdErr == nil) {
		t.Errorf("ours: %v, the standard library: %v", err, stdErr)
		return false
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Error("other content than the standard library's")
		return false
	}
	return true
}
