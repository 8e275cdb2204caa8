package compress

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/shalestore/shale/errdefs"
)

// maxXzDictionary is what xz -9 uses. An xz block announces how much of its output a
// decoder must be able to look back at, up to 4 GiB, and the decoder allocates that at
// once; so whoever sends a layer of a hundred bytes would take as much of our memory.
const maxXzDictionary = 64 << 20

// xzGuard passes an xz file on and reads along (the .xz file format, version 1.2.1): of
// every block of every stream in it, it sees the header before the decoder does, and ends
// with an error at one that wants too large a dictionary. It finds the blocks by walking
// over the LZMA2 chunks, whose headers say how long they are. Whether anything else is
// right is for the decoder to say.
type xzGuard struct {
	in    *bufio.Reader
	next  func() error // reads the next piece of structure into ahead
	ahead []byte       // read, not yet passed on
	skip  int64        // bytes after ahead that are passed on unread

	check   int   // size of the check behind each block
	block   int64 // bytes of this block so far, its header included
	numbers uint64
}

func newXzGuard(in *bufio.Reader) *xzGuard {
	g := &xzGuard{in: in}
	g.next = g.streamHeader
	return g
}

func (g *xzGuard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(g.ahead) == 0 && g.skip == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.ahead) > 0 {
		n := copy(p, g.ahead)
		g.ahead = g.ahead[:copy(g.ahead, g.ahead[n:])]
		return n, nil
	}
	n, err := g.in.Read(p[:min(int64(len(p)), g.skip)])
	g.skip -= int64(n)
	return n, err
}

// take reads n bytes of structure. At the end of the input it hands on what there is: the
// decoder knows what to say of that.
func (g *xzGuard) take(n int) ([]byte, error) {
	start := len(g.ahead)
	g.ahead = append(g.ahead, make([]byte, n)...)
	got, err := io.ReadFull(g.in, g.ahead[start:])
	g.ahead = g.ahead[:start+got]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		g.next = func() error { return io.EOF }
		if len(g.ahead) > 0 {
			return nil, errCut
		}
		return nil, io.EOF
	}
	return g.ahead[start:], err
}

// errCut says that the input has ended within a piece of structure, which is passed on as
// far as it goes.
var errCut = fmt.Errorf("cut short")

func passCut(err error) error {
	if errors.Is(err, errCut) {
		return nil
	}
	return err
}

// rest passes everything on: what comes is no xz file, and the decoder will say so.
func (g *xzGuard) rest() {
	g.next = func() error { return io.EOF }
	g.skip = 1<<63 - 1
}

func (g *xzGuard) streamHeader() error {
	head, err := g.take(4)
	if err != nil {
		return passCut(err)
	}
	if string(head) == "\x00\x00\x00\x00" { // padding between streams
		return nil
	}
	if string(head) != "\xfd7zX" {
		g.rest()
		return nil
	}
	flags, err := g.take(8)
	if err != nil {
		return passCut(err)
	}
	sizes := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	g.check = sizes[flags[3]&15]
	g.next = g.blockHeader
	return nil
}

func (g *xzGuard) blockHeader() error {
	first, err := g.take(1)
	if err != nil {
		return passCut(err)
	}
	if first[0] == 0 {
		g.block, g.numbers = 1, 0
		g.next = g.indexCount
		return nil
	}
	size := (int(first[0]) + 1) * 4
	header, err := g.take(size - 1)
	if err != nil {
		return passCut(err)
	}
	if err := checkXzFilters(header); err != nil {
		return err
	}
	g.block = int64(size)
	g.next = g.chunk
	return nil
}

// checkXzFilters reads a block header from its flags on and refuses large dictionaries.
func checkXzFilters(header []byte) error {
	damaged := fmt.Errorf("xz block header: %w: damaged", errdefs.ErrInvalid)
	flags, at := header[0], 1
	number := func() (v uint64, ok bool) {
		for shift := 0; at < len(header) && shift < 63; shift += 7 {
			b := header[at]
			at++
			v |= uint64(b&0x7f) << shift
			if b < 0x80 {
				return v, true
			}
		}
		return 0, false
	}
	for _, present := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&present != 0 {
			if _, ok := number(); !ok {
				return damaged
			}
		}
	}
	for range int(flags&3) + 1 {
		id, ok := number()
		if !ok {
			return damaged
		}
		size, ok := number()
		if !ok || size > uint64(len(header)-at) {
			return damaged
		}
		properties := header[at : at+int(size)]
		at += int(size)
		if id != 0x21 { // LZMA2
			continue
		}
		if len(properties) != 1 || properties[0] > 40 {
			return damaged
		}
		bits := properties[0]
		if dictionary := uint64(2|bits&1) << (bits/2 + 11); dictionary > maxXzDictionary {
			return fmt.Errorf("xz block: %w: it wants a dictionary of %d MiB, and the limit is %d MiB",
				errdefs.ErrInvalid, dictionary>>20, maxXzDictionary>>20)
		}
	}
	return nil
}

// chunk reads the header of an LZMA2 chunk.
func (g *xzGuard) chunk() error {
	control, err := g.take(1)
	if err != nil {
		return passCut(err)
	}
	g.block++
	kind := control[0]
	switch {
	case kind == 0: // the last one; then padding to four bytes, and the check
		g.skip = -g.block&3 + int64(g.check)
		g.next = g.blockHeader
		return nil
	case kind == 1 || kind == 2: // uncompressed
		size, err := g.take(2)
		if err != nil {
			return passCut(err)
		}
		g.skip = int64(size[0])<<8 + int64(size[1]) + 1
		g.block += 2 + g.skip
		return nil
	case kind < 0x80:
		g.rest()
		return nil
	}
	n := 4
	if kind >= 0xc0 { // with new properties
		n = 5
	}
	sizes, err := g.take(n)
	if err != nil {
		return passCut(err)
	}
	g.skip = int64(sizes[2])<<8 + int64(sizes[3]) + 1
	g.block += int64(n) + g.skip
	return nil
}

// number reads a multibyte integer of the index.
func (g *xzGuard) number() (v uint64, err error) {
	for shift := 0; shift < 63; shift += 7 {
		b, err := g.take(1)
		if err != nil {
			return 0, err
		}
		g.block++
		v |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("xz index: %w: damaged", errdefs.ErrInvalid)
}

func (g *xzGuard) indexCount() (err error) {
	blocks, err := g.number()
	if err != nil {
		return passCut(err)
	}
	if blocks > 1<<60 {
		return fmt.Errorf("xz index: %w: it lists %d blocks", errdefs.ErrInvalid, blocks)
	}
	g.numbers = 2 * blocks
	g.next = g.indexNumber
	return nil
}

// indexNumber passes one number on, and after the last one the padding, the checksum and
// the stream's footer.
func (g *xzGuard) indexNumber() error {
	if g.numbers == 0 {
		g.skip = -g.block&3 + 4 + 12
		g.next = g.streamHeader
		return nil
	}
	g.numbers--
	_, err := g.number()
	return passCut(err)
}
