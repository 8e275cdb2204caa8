package archive

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// tarReader walks the members of the uncompressed stream and lets the recorder see every
// byte that is not content.
type tarReader struct {
	in    *blockStream
	split *splitRecorder
	limit int64 // on the number of members
	count int64 // of members so far
	pad   int64 // bytes between the last member's content and the next header
}

// next returns the next member with everything that extended headers say of it, or io.EOF
// at the end of the archive. The content of the member before must have been read to its
// end.
//
// An archive that just stops between two members has ended too: some writers forget the
// two zero blocks.
func (t *tarReader) next() (*header, error) {
	var pax *paxRecords
	var longName, longLink string
	for announced := false; ; announced = true {
		block, err := t.headerBlock()
		if err == io.EOF && announced {
			err = unexpected(err) // an extended header is about a member, which is missing
		}
		if err != nil {
			return nil, err
		}
		if isZero(block) {
			return nil, t.endMarker()
		}
		if t.limit >= 0 && t.count >= t.limit {
			return nil, fmt.Errorf("layer is %w: it has more than %d entries", errdefs.ErrInvalid, t.limit)
		}
		t.count++
		h, format, err := parseHeader(block)
		if err != nil {
			return nil, err
		}
		if h.size < 0 && hasContent(h.typeflag) {
			return nil, errHeader
		}
		h.index = t.count
		switch h.typeflag {
		case tar.TypeXHeader, tar.TypeXGlobalHeader:
			data, err := t.metadata(h.size)
			if err != nil {
				return nil, err
			}
			records, err := parsePAX(data)
			if err != nil {
				return nil, err
			}
			if h.typeflag == tar.TypeXGlobalHeader {
				// Returned for the record's sake; what it says of later members is
				// ignored, as the other tools do.
				if err := records.apply(h); err != nil {
					return nil, err
				}
				h.size, h.uid, h.gid = 0, 0, 0
				return h, nil
			}
			pax = records
		case tar.TypeGNULongName, tar.TypeGNULongLink:
			data, err := t.metadata(h.size)
			if err != nil {
				return nil, err
			}
			name, _, _ := strings.Cut(data, "\x00")
			if h.typeflag == tar.TypeGNULongName {
				longName = name
			} else {
				longLink = name
			}
		default:
			return h, t.finish(h, block, format, pax, longName, longLink)
		}
	}
}

// finish puts together what the extended headers say about the member h.
func (t *tarReader) finish(h *header, block []byte, format tarFormat, pax *paxRecords, longName,
	longLink string) error {
	if err := pax.apply(h); err != nil {
		return err
	}
	if longName != "" {
		h.name = longName
	}
	if longLink != "" {
		h.link = longLink
	}
	if h.typeflag == typeRegularOld {
		h.typeflag = tar.TypeReg
		if strings.HasSuffix(h.name, "/") {
			h.typeflag = tar.TypeDir
		}
	}
	if !hasContent(h.typeflag) {
		h.size = 0
	}
	if h.size < 0 {
		return errHeader
	}
	t.pad = padding(h.size)
	if err := t.readSparse(h, block, format, pax); err != nil {
		return err
	}
	if h.sparse == nil {
		h.realSize = h.size
	}
	return nil
}

// padding is what follows size bytes of content up to the next block.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// block returns the next 512 bytes, which are metadata: header, map or end marker. They
// are valid until the next read.
func (t *tarReader) block() ([]byte, error) {
	b, err := t.in.next(blockSize)
	if err != nil {
		return nil, err
	}
	t.split.raw(b)
	if len(b) < blockSize {
		return nil, unexpected(io.EOF) // blocks of the stream are whole multiples, except at its end
	}
	return b, nil
}

// headerBlock reads the block after the padding.
func (t *tarReader) headerBlock() ([]byte, error) {
	if err := t.skipPadding(); err != nil {
		return nil, err
	}
	return t.block()
}

// metadata reads the content of an extended header or long name.
func (t *tarReader) metadata(size int64) (string, error) {
	if size > maxMetadataBytes {
		return "", errFieldTooLong
	}
	var data strings.Builder
	for left := size; left > 0; {
		b, err := t.in.next(left)
		if err != nil {
			return "", unexpected(err)
		}
		t.split.raw(b)
		data.Write(b)
		left -= int64(len(b))
	}
	t.pad = padding(size)
	return data.String(), nil
}

// skipPadding reads up to the next header. A stream may end within the padding.
func (t *tarReader) skipPadding() error {
	for t.pad > 0 {
		b, err := t.in.next(t.pad)
		if err != nil {
			return err
		}
		t.split.raw(b)
		t.pad -= int64(len(b))
	}
	return nil
}

// endMarker reads the second of the two zero blocks that end an archive. One alone will
// do at the end of the stream.
func (t *tarReader) endMarker() error {
	block, err := t.block()
	if err != nil {
		return err
	}
	if !isZero(block) {
		return errHeader
	}
	t.split.flushSegment() // as tar-split has it: what follows is a record of its own
	return io.EOF
}

// drain reads what follows the end of the archive: zeros up to the record size, usually,
// but anything goes.
func (t *tarReader) drain() error {
	for {
		b, err := t.in.next(streamBlockSize)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		t.split.raw(b)
	}
}
