package compress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/inflate"
	"github.com/ulikunitz/xz"
)

// Streams are known by their first bytes, never by a name or a media type: a registry's
// label can be wrong, the bytes can't.

// magics are the first bytes of each compressed format.
var magics = []struct {
	kind  Kind
	bytes []byte
}{
	{Gzip, []byte{0x1f, 0x8b, 0x08}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Bzip2, []byte("BZh")},
	{Xz, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

// LongestMagic is how many bytes Detect wants to see.
const LongestMagic = 6

// maxZstdWindow bounds the memory that a zstd frame can ask for: 128 MiB, what the zstd
// command allows without --long. Levels up to 19 need 8 MiB.
const maxZstdWindow = 128 << 20

// String is the usual name of the compression: "gzip", "zstd"; "none" when there is none.
func (c Kind) String() string {
	switch c {
	case None:
		return "none"
	case Bzip2:
		return "bzip2"
	case Gzip:
		return "gzip"
	case Xz:
		return "xz"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression %d", int(c))
}

// Detect tells from a stream's first bytes (at least LongestMagic of them,
// unless the stream is shorter) how it is compressed.
func Detect(head []byte) Kind {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.bytes) {
			return m.kind
		}
	}
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.HasPrefix(head[1:], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd // It begins with a skippable frame (RFC 8878, 3.1.2), as what pzstd writes does.
	}
	return None
}

// NewReader finds out how r is compressed and returns the stream inside. What it can't
// recognize, an empty stream included, counts as uncompressed. Gzip members, zstd frames
// and bzip2 streams that follow each other are one stream.
//
// The decoders run in the goroutine that reads: there is nothing to wait for in Close, at
// whatever point it is called. Close does not close r. Damaged input is
// errdefs.ErrInvalid; errors of r itself are passed on as they are.
func NewReader(r io.Reader) (io.ReadCloser, Kind, error) {
	in := &inputErrors{R: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	head, err := buffered.Peek(LongestMagic)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, None, err
	}
	kind := Detect(head)
	plain, err := decoder(buffered, kind, in)
	if err != nil {
		return nil, kind, err
	}
	return plain, kind, nil
}

// decoder starts decompressing r, in which in stands for the stream's source.
func decoder(r *bufio.Reader, kind Kind, in *inputErrors) (*decoded, error) {
	d := &decoded{kind: kind, in: in, close: func() {}}
	var err error
	switch kind {
	case None:
		d.r = r
	case Gzip:
		d.r, err = inflate.NewReader(r)
	case Bzip2:
		d.r = bzip2.NewReader(r)
	case Xz:
		guard := newXzGuard(r)
		d.close = guard.stop
		d.r, err = xz.NewReader(guard)
	case Zstd:
		var z *zstd.Decoder
		// A concurrency of one makes the decoder work inside Read: no goroutine is there
		// to leak, and the second core is kept busy by the other stages of Tar.
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err == nil {
			d.r, d.close = z, z.Close
		}
	}
	if err != nil {
		d.close()
		return nil, d.wrap(err)
	}
	return d, nil
}

// decoded reads a decompressed stream and says of its errors whether the input or its
// source is to blame.
type decoded struct {
	r     io.Reader
	kind  Kind
	in    *inputErrors
	close func()
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.wrap(err)
	}
	return n, err
}

func (d *decoded) Close() error {
	d.close()
	return nil
}

func (d *decoded) wrap(err error) error {
	if d.in.err != nil {
		return d.in.err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // a header that is cut off; the decoders don't agree on its error
	}
	return fmt.Errorf("%v stream is %w: %w", d.kind, errdefs.ErrInvalid, err)
}

// inputErrors remembers the error of a stream's source, so that it can be told from one
// found in the stream.
type inputErrors struct {
	R   io.Reader
	err error
}

func (in *inputErrors) Read(p []byte) (int, error) {
	n, err := in.R.Read(p)
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}

// NewWriter returns a writer whose bytes go compressed to w: Gzip, Zstd or None;
// the others can only be read (errdefs.ErrUnsupported). Close ends the stream and must be
// called, since gzip is compressed by goroutines of its own; it does not close w. An
// error of w may come with a later Write, or with Close.
func NewWriter(w io.Writer, c Kind) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return newParallelGzip(w), nil
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("compress as %v: %w", c, errdefs.ErrUnsupported)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Kind is how a stream is compressed. The numbers are those of the "compression"
// field of a layer record.
type Kind int

// The known compressions. Bzip2 and Xz can only be read.
const (
	None  Kind = 0
	Bzip2 Kind = 1
	Gzip  Kind = 2
	Xz    Kind = 3
	Zstd  Kind = 4
)
