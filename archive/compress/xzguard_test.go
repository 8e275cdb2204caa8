package compress

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/ulikunitz/xz"
)

func xzPacked(t *testing.T, data []byte, flags ...string) []byte {
	t.Helper()
	cmd := exec.Command(testutil.Tool(t, "xz", "xz-utils"), append(flags, "--stdout")...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func throughGuard(data []byte) ([]byte, error) {
	var out bytes.Buffer
	_, err := io.Copy(&out, iotest.OneByteReader(newXzGuard(bufio.NewReader(bytes.NewReader(data)))))
	return out.Bytes(), err
}

// Whatever xz itself writes comes through as it is: several blocks, several streams,
// padding between them, each kind of check; and also what is cut or damaged.
func TestXzGuardPassesOn(t *testing.T) {
	data := append(testutil.Noise("xz", 300_000), bytes.Repeat([]byte("compressible "), 50_000)...)
	for name, packed := range map[string][]byte{
		"plain":          xzPacked(t, data),
		"xz -9":          xzPacked(t, data, "-9"),
		"blocks":         xzPacked(t, data, "--block-size=65536", "--check=sha256"),
		"no check":       xzPacked(t, data, "--check=none"),
		"threads":        xzPacked(t, data, "--threads=2", "--block-size=100000"),
		"two streams":    append(xzPacked(t, data), append(make([]byte, 8), xzPacked(t, data, "--check=crc32")...)...),
		"nothing":        xzPacked(t, nil),
		"trailing bytes": append(xzPacked(t, data), "and more than that"...),
		"cut":            xzPacked(t, data)[:100_000],
		"cut header":     xzPacked(t, data)[:9],
		"empty":          nil,
	} {
		if got, err := throughGuard(packed); err != nil || !bytes.Equal(got, packed) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(packed), err)
		}
	}
}

// A dictionary beyond the limit is refused before the decoder sees it, in the first
// block, in a later one and in a second stream.
func TestXzGuardRefusesLargeDictionaries(t *testing.T) {
	data := testutil.Noise("xz", 100_000)
	small := xzPacked(t, data, "--block-size=65536")
	huge := bytes.Clone(xzPacked(t, data))
	// The block header is 12 bytes long: size, flags, the filter's ID, the size of its
	// properties, the dictionary's code, padding, CRC-32.
	huge[16] = 37
	binary.LittleEndian.PutUint32(huge[20:], crc32.ChecksumIEEE(huge[12:20]))
	for name, packed := range map[string][]byte{"first block": huge,
		"second stream": append(bytes.Clone(small), huge...), "later block": spliceBlock(t, small, huge)} {
		_, err := throughGuard(packed)
		if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "1536 MiB, and the limit is 64 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	decoder, err := xz.NewReader(newXzGuard(bufio.NewReader(bytes.NewReader(huge))))
	if err == nil {
		_, err = io.Copy(io.Discard, decoder)
	}
	if !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("through the decoder: %v", err)
	}
}

// spliceBlock puts the blocks of another file behind those of the first, instead of its
// index.
func spliceBlock(t *testing.T, first, other []byte) []byte {
	t.Helper()
	// The footer is 12 bytes long and tells in its second word how long the index before
	// it is.
	at := len(first) - 12
	at -= 4 * (int(binary.LittleEndian.Uint32(first[at+4:])) + 1)
	return append(bytes.Clone(first[:at]), other[12:]...)
}

func FuzzXzGuard(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3"))
	f.Add([]byte("\xfd7zXZ\x00\x00\x01\x69\x22\xde\x36\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := throughGuard(data); err == nil && !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes come through", len(got), len(data))
		} else if !bytes.HasPrefix(data, got) {
			t.Error("other bytes come through")
		}
	})
}
