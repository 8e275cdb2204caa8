package tarstream

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// This file reads one 512-byte tar header block. What it accepts is what Go's archive/tar
// accepts, since the tools that share the store read layers with that package: a layer
// must not mean one thing to them and another to us. A fuzz test compares the two.

const blockSize = 512

// errHeader is the one error for a block that is no tar header. The sentinel of
// archive/tar is in its chain, with its text.
var errHeader = fmt.Errorf("%w: %w", errdefs.ErrInvalid, tar.ErrHeader)

// Header is what a tar says about one member. Names and targets are as they stand there.
type Header struct {
	Index    int64 // counted from 0, for telling which of two errors came first
	Typeflag byte
	Name     string
	Link     string
	Size     int64 // of the content in the stream, before sparse expansion
	Mode     int64
	Uid, Gid int64
	Mtime    Timestamp
	Atime    Timestamp // hasAtime says whether there is one
	HasAtime bool
	DevMajor int64
	DevMinor int64
	Xattrs   []Xattr
	// sparse, when not nil, holds where the content's pieces belong in a file of realSize
	// bytes.
	Sparse   []Extent
	RealSize int64
}

// Timestamp is a point in time as utimensat(2) takes it: nsec counts forward from sec,
// also before 1970.
type Timestamp struct {
	Sec  int64
	Nsec int64
}

func (t Timestamp) Before(u Timestamp) bool {
	return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec
}

// Xattr is an extended attribute from a SCHILY.xattr. record.
type Xattr struct {
	Name  string
	Value string
}

// Extent is a piece of a sparse file.
type Extent struct{ Offset, Length int64 }

// The type flags beyond those that archive/tar names.
const (
	typeRegularOld = '\x00' // V7: a regular file, or a directory when the name ends in a slash
	TypeGNUSparse  = tar.TypeGNUSparse
)

// hasContent reports whether a member of this type is followed by size bytes of content.
// A size in the header of any other type is meaningless.
func hasContent(typeflag byte) bool {
	switch typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return false
	}
	return true
}

// format is the dialect of a header block, told from its magic bytes.
type format int

const (
	formatV7 format = iota
	formatUSTAR
	formatSTAR
	formatGNU
)

// identify checks the checksum of a header block and tells its dialect.
func identify(b []byte) (format, bool) {
	want, ok := parseOctal(b[148:156])
	if !ok {
		return 0, false
	}
	// POSIX sums unsigned bytes, Sun's tar signed ones; the checksum field itself counts
	// as spaces.
	var unsigned, high int64
	for _, c := range b[:blockSize] {
		unsigned += int64(c)
		high += int64(c >> 7)
	}
	for _, c := range b[148:156] {
		unsigned += ' ' - int64(c)
		high -= int64(c >> 7)
	}
	if want != unsigned && want != unsigned-256*high {
		return 0, false
	}
	switch magic := string(b[257:263]); {
	case magic == "ustar\x00" && string(b[508:512]) == "tar\x00":
		return formatSTAR, true
	case magic == "ustar\x00":
		return formatUSTAR, true
	case magic == "ustar " && string(b[263:265]) == " \x00":
		return formatGNU, true
	}
	return formatV7, true
}

// parseHeader reads the header block b.
func parseHeader(b []byte) (*Header, format, error) {
	format, ok := identify(b)
	if !ok {
		return nil, 0, errHeader
	}
	var n numbers
	h := &Header{
		Typeflag: b[156],
		Name:     cString(b[0:100]),
		Link:     cString(b[157:257]),
		Mode:     n.parse(b[100:108]),
		Uid:      n.parse(b[108:116]),
		Gid:      n.parse(b[116:124]),
		Size:     n.parse(b[124:136]),
		Mtime:    Timestamp{Sec: n.parse(b[136:148])},
	}
	if format == formatV7 {
		return h, format, n.err()
	}
	h.DevMajor = n.parse(b[329:337])
	h.DevMinor = n.parse(b[337:345])
	prefix := ""
	switch format {
	case formatUSTAR:
		prefix = cString(b[345:500])
	case formatSTAR:
		prefix = cString(b[345:476])
		h.Atime, h.HasAtime = Timestamp{Sec: n.parse(b[476:488])}, true
		n.parse(b[488:500]) // the change time, which nobody can set
	case formatGNU:
		var times numbers
		if b[345] != 0 {
			h.Atime, h.HasAtime = Timestamp{Sec: times.parse(b[345:357])}, true
		}
		if b[357] != 0 {
			times.parse(b[357:369])
		}
		// Before Go 1.8 archive/tar wrote a ustar prefix where GNU headers have times
		// (golang.org/issue/12594). Such a prefix is no number.
		if times.bad {
			h.Atime, h.HasAtime = Timestamp{}, false
			if p := cString(b[345:500]); isASCII(p) {
				prefix = p
			}
		}
	}
	if prefix != "" {
		h.Name = prefix + "/" + h.Name
	}
	return h, format, n.err()
}

// numbers parses the numeric fields of a header and remembers whether one was bad.
type numbers struct{ bad bool }

func (n *numbers) err() error {
	if n.bad {
		return errHeader
	}
	return nil
}

// parse reads a field in octal digits or, when its first bit is set, GNU's base 256:
// two's complement, big endian.
func (n *numbers) parse(b []byte) int64 {
	if b[0]&0x80 == 0 {
		v, ok := parseOctal(b)
		n.bad = n.bad || !ok
		return v
	}
	negative := b[0]&0x40 != 0
	var v uint64
	for i, c := range b {
		if negative {
			c = ^c
		}
		if i == 0 {
			c &= 0x7f
		}
		if v>>56 != 0 {
			n.bad = true
			return 0
		}
		v = v<<8 | uint64(c)
	}
	if v > math.MaxInt64 {
		n.bad = true
		return 0
	}
	if negative {
		return ^int64(v)
	}
	return int64(v)
}

// parseOctal reads octal digits between any number of spaces and NULs; an empty field is
// 0. What follows a NUL is not looked at.
func parseOctal(b []byte) (int64, bool) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == 0) {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	var v int64
	for _, c := range b {
		if c == 0 {
			break
		}
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0') // a field has at most 12 digits: no overflow
	}
	return v, true
}

// cString is the text up to the first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// isZero reports whether the block is one of the two that end an archive.
func isZero(b []byte) bool {
	return bytes.Equal(b[:blockSize], zeroBlock[:])
}

var zeroBlock [blockSize]byte
