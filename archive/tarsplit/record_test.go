package tarsplit

import (
	"encoding/base64"
	"math/rand/v2"
	"testing"
)

// Runs of zeros of all lengths, at all places.
func TestAppendBase64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := make([]byte, r.IntN(300))
		for i := r.IntN(100); i < len(b); i += 1 + r.IntN(100) {
			b[i] = byte(r.Uint32())
		}
		if got, want := string(appendBase64([]byte("before"), b)), "before"+
			base64.StdEncoding.EncodeToString(b); got != want {
			t.Fatalf("%x: got %s, want %s", b, got, want)
		}
	}
}

func BenchmarkAppendBase64(b *testing.B) {
	header := make([]byte, 700) // and padding
	copy(header, "usr/share/doc/package/a-file-with-a-name")
	copy(header[100:], "0000644\x000000000\x000000000\x0000000001234\x0014524670123\x00012345\x00 0")
	copy(header[257:], "ustar\x0000root")
	copy(header[297:], "root")
	out := make([]byte, 0, 1024)
	b.SetBytes(int64(len(header)))
	for b.Loop() {
		out = appendBase64(out[:0], header)
	}
}
