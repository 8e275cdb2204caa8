package tarstream

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
)

// Reader walks the members of the uncompressed stream and lets the recorder see every
// byte that is not content.
type Reader struct {
	In    *Stream
	Split *tarsplit.Recorder
	Limit int64 // on the number of members
	Count int64 // of members so far
	pad   int64 // bytes between the last member's content and the next header
}

// Next returns the next member with everything that extended headers say of it, or io.EOF
// at the end of the archive. The content of the member before must have been read to its
// end.
//
// An archive that just stops between two members has ended too: some writers forget the
// two zero blocks.
func (t *Reader) Next() (*Header, error) {
	var pax *paxRecords
	var longName, longLink string
	for announced := false; ; announced = true {
		block, err := t.headerBlock()
		if errors.Is(err, io.EOF) && announced {
			err = Unexpected(err) // an extended header is about a member, which is missing
		}
		if err != nil {
			return nil, err
		}
		if isZero(block) {
			return nil, t.endMarker()
		}
		if t.Limit >= 0 && t.Count >= t.Limit {
			return nil, fmt.Errorf("layer is %w: it has more than %d entries", errdefs.ErrInvalid, t.Limit)
		}
		t.Count++
		h, format, err := parseHeader(block)
		if err != nil {
			return nil, err
		}
		if h.Size < 0 && hasContent(h.Typeflag) {
			return nil, errHeader
		}
		h.Index = t.Count
		switch h.Typeflag {
		case tar.TypeXHeader, tar.TypeXGlobalHeader:
			data, err := t.metadata(h.Size)
			if err != nil {
				return nil, err
			}
			records, err := parsePAX(data)
			if err != nil {
				return nil, err
			}
			if h.Typeflag == tar.TypeXGlobalHeader {
				// Returned for the record's sake; what it says of later members is
				// ignored, as the other tools do.
				if err := records.apply(h); err != nil {
					return nil, err
				}
				h.Size, h.Uid, h.Gid = 0, 0, 0
				return h, nil
			}
			pax = records
		case tar.TypeGNULongName, tar.TypeGNULongLink:
			data, err := t.metadata(h.Size)
			if err != nil {
				return nil, err
			}
			name, _, _ := strings.Cut(data, "\x00")
			if h.Typeflag == tar.TypeGNULongName {
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
func (t *Reader) finish(h *Header, block []byte, format format, pax *paxRecords, longName,
	longLink string) error {
	if err := pax.apply(h); err != nil {
		return err
	}
	if longName != "" {
		h.Name = longName
	}
	if longLink != "" {
		h.Link = longLink
	}
	if h.Typeflag == typeRegularOld {
		h.Typeflag = tar.TypeReg
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
	}
	if !hasContent(h.Typeflag) {
		h.Size = 0
	}
	if h.Size < 0 {
		return errHeader
	}
	t.pad = padding(h.Size)
	if err := t.readSparse(h, block, format, pax); err != nil {
		return err
	}
	if h.Sparse == nil {
		h.RealSize = h.Size
	}
	return nil
}

// padding is what follows size bytes of content up to the next block.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// block returns the next 512 bytes, which are metadata: header, map or end marker. They
// are valid until the next read.
func (t *Reader) block() ([]byte, error) {
	b, err := t.In.Next(blockSize)
	if err != nil {
		return nil, err
	}
	t.Split.Raw(b)
	if len(b) < blockSize {
		return nil, Unexpected(io.EOF) // blocks of the stream are whole multiples, except at its end
	}
	return b, nil
}

// headerBlock reads the block after the padding.
func (t *Reader) headerBlock() ([]byte, error) {
	if err := t.skipPadding(); err != nil {
		return nil, err
	}
	return t.block()
}

// metadata reads the content of an extended header or long name.
func (t *Reader) metadata(size int64) (string, error) {
	if size > maxMetadataBytes {
		return "", errFieldTooLong
	}
	var data strings.Builder
	for left := size; left > 0; {
		b, err := t.In.Next(left)
		if err != nil {
			return "", Unexpected(err)
		}
		t.Split.Raw(b)
		data.Write(b)
		left -= int64(len(b))
	}
	t.pad = padding(size)
	return data.String(), nil
}

// skipPadding reads up to the next header. A stream may end within the padding.
func (t *Reader) skipPadding() error {
	for t.pad > 0 {
		b, err := t.In.Next(t.pad)
		if err != nil {
			return err
		}
		t.Split.Raw(b)
		t.pad -= int64(len(b))
	}
	return nil
}

// endMarker reads the second of the two zero blocks that end an archive. One alone will
// do at the end of the stream.
func (t *Reader) endMarker() error {
	block, err := t.block()
	if err != nil {
		return err
	}
	if !isZero(block) {
		return errHeader
	}
	t.Split.FlushSegment() // as tar-split has it: what follows is a record of its own
	return io.EOF
}

// Drain reads what follows the end of the archive: zeros up to the record size, usually,
// but anything goes.
func (t *Reader) Drain() error {
	for {
		b, err := t.In.Next(BlockSize)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t.Split.Raw(b)
	}
}
