package tarstream

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// Sparse files, in the four forms that GNU tar has written (tar manual, "Storing Sparse
// Files"): a map in the old GNU header, and PAX formats 0.0, 0.1 and 1.0. A map says
// which pieces of the file are in the archive; the rest is holes.

// Limits on a sparse map; the second is that of archive/tar. A map is read into memory,
// 16 bytes an extent.
const (
	maxExtents       = 1 << 16
	maxMetadataBytes = 1 << 20 // of one extended header, long name or sparse map
)

var errSparseTooLong = fmt.Errorf("%w: archive/tar: sparse map too long", errdefs.ErrInvalid)

// readSparse finds the sparse map of h, if it has one, reading what of it lies in the
// stream.
func (t *Reader) readSparse(h *Header, block []byte, format format, pax *paxRecords) error {
	var err error
	switch {
	case h.Typeflag == TypeGNUSparse:
		err = t.readOldGNUSparse(h, block, format)
	default:
		err = t.readPAXSparse(h, pax)
	}
	if err != nil || h.Sparse == nil {
		return err
	}
	if !hasContent(h.Typeflag) || !validExtents(h.Sparse, h.RealSize) {
		return errHeader
	}
	var stored int64
	for _, e := range h.Sparse {
		stored += e.Length
	}
	if stored != h.Size {
		return fmt.Errorf("%w: archive/tar: sparse map stands for %d bytes, the entry has %d", errdefs.ErrInvalid,
			stored, h.Size)
	}
	return nil
}

// readOldGNUSparse reads the map of a GNU header of type S: four extents in the header,
// 21 in each extension block after it.
func (t *Reader) readOldGNUSparse(h *Header, block []byte, format format) error {
	if format != formatGNU {
		return errHeader
	}
	var n numbers
	h.RealSize = n.parse(block[483:495])
	h.Sparse = []Extent{}
	entries, more := block[386:482], block[482] > 0
	for read := len(entries); ; read += blockSize {
		if read >= maxMetadataBytes {
			return errSparseTooLong
		}
		for ; len(entries) >= 24 && entries[0] != 0; entries = entries[24:] {
			h.Sparse = append(h.Sparse, Extent{n.parse(entries[:12]), n.parse(entries[12:24])})
			if len(h.Sparse) > maxExtents {
				return errSparseTooLong
			}
		}
		if n.bad {
			return errHeader
		}
		if !more {
			return nil
		}
		ext, err := t.block()
		if err != nil {
			return Unexpected(err)
		}
		entries, more = ext[:504], ext[504] > 0
	}
}

// readPAXSparse reads the map that PAX records announce.
func (t *Reader) readPAXSparse(h *Header, pax *paxRecords) error {
	version1 := false
	switch major, minor := pax.get(paxSparseMajor), pax.get(paxSparseMinor); {
	case major == "0" && (minor == "0" || minor == "1"):
	case major == "1" && minor == "0":
		version1 = true
	case major != "" || minor != "":
		return nil // a version nobody knows: an ordinary file, as far as we can tell
	case pax.get(paxSparseMap) == "":
		return nil
	}
	if name := pax.get(paxSparseName); name != "" {
		h.Name = name
	}
	size := pax.get(paxSparseSize)
	if size == "" {
		size = pax.get(paxSparseRealSize)
	}
	h.RealSize = h.Size
	if size != "" {
		var err error
		if h.RealSize, err = strconv.ParseInt(size, 10, 64); err != nil {
			return errHeader
		}
	}
	if !hasContent(h.Typeflag) {
		return errHeader
	}
	if version1 {
		return t.readSparseMap1(h)
	}
	fields := strings.Split(pax.get(paxSparseMap), ",")
	if fields[0] == "" && len(fields) == 1 {
		fields = nil
	}
	n, err := strconv.ParseInt(pax.get(paxSparseNumBlocks), 10, 0)
	if err != nil || n < 0 || n > math.MaxInt/2 || int(n)*2 != len(fields) {
		return errHeader
	}
	return h.takeExtents(fields)
}

// readSparseMap1 reads the map of format 1.0, which stands in the content's first blocks:
// decimal numbers, a line each, the first their count.
func (t *Reader) readSparseMap1(h *Header) error {
	var text strings.Builder
	lines, wanted := int64(0), int64(1)
	for haveCount := false; ; {
		for lines < wanted {
			if text.Len() >= maxMetadataBytes {
				return errSparseTooLong
			}
			if h.Size < blockSize {
				return Unexpected(io.EOF)
			}
			block, err := t.block()
			if err != nil {
				return Unexpected(err)
			}
			h.Size -= blockSize
			text.Write(block)
			for _, c := range block {
				if c == '\n' {
					lines++
				}
			}
		}
		if haveCount {
			break
		}
		haveCount = true
		first, _, _ := strings.Cut(text.String(), "\n")
		n, err := strconv.ParseInt(first, 10, 0)
		if err != nil || n < 0 || n > math.MaxInt/2-1 {
			return errHeader
		}
		wanted += 2 * n
	}
	fields := strings.SplitN(text.String(), "\n", int(wanted)+1)
	return h.takeExtents(fields[1:wanted])
}

// takeExtents reads pairs of offset and length.
func (h *Header) takeExtents(fields []string) error {
	if len(fields)/2 > maxExtents {
		return errSparseTooLong
	}
	h.Sparse = make([]Extent, 0, len(fields)/2)
	for ; len(fields) >= 2; fields = fields[2:] {
		offset, err1 := strconv.ParseInt(fields[0], 10, 64)
		length, err2 := strconv.ParseInt(fields[1], 10, 64)
		if err1 != nil || err2 != nil {
			return errHeader
		}
		h.Sparse = append(h.Sparse, Extent{offset, length})
	}
	return nil
}

// validExtents reports whether the extents are in order, apart from each other, and
// inside a file of size bytes.
func validExtents(extents []Extent, size int64) bool {
	var end int64
	for _, e := range extents {
		if e.Offset < end || e.Length < 0 || e.Offset > math.MaxInt64-e.Length || e.Offset+e.Length > size {
			return false
		}
		end = e.Offset + e.Length
	}
	return size >= 0
}

// Unexpected turns an end of file in the middle of things into the error for it.
func Unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: this is no tar archive, or it was cut short: %w", errdefs.ErrInvalid,
			io.ErrUnexpectedEOF)
	}
	return err
}

// errFieldTooLong is for extended headers and long names that are larger than anybody's.
var errFieldTooLong = fmt.Errorf("%w: %w", errdefs.ErrInvalid, tar.ErrFieldTooLong)
