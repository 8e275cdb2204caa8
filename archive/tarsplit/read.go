package tarsplit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/shalestore/shale/errdefs"
)

// lineMax bounds one line of a tar-split stream, in bytes. The largest hold, in
// base64, a megabyte of padding or the headers of one member: a PAX header, a long name
// and a long link name, each of a megabyte at most.
const lineMax = 8 << 20

// The types of tar-split's lines (github.com/vbatts/tar-split, tar/storage).
const (
	File    = 1 // a member's content, kept in the layer's directory
	Segment = 2 // bytes of the tar as they were: headers, padding
)

// Entry is one line of a tar-split stream.
type Entry struct {
	Kind    int64
	Name    string // of a file, as it stood in the tar, any bytes
	Size    int64  // of a file's content, in bytes
	Payload []byte // a segment's bytes, or the CRC-64 of a file's content; valid until the next line is read
}

// Reader reads the lines of an uncompressed tar-split stream. Each is a flat JSON
// object: a type, a name (in "name_raw" as base64 when it is not UTF-8), a size, a
// payload in base64, and a position, which counts the lines.
type Reader struct {
	in   *bufio.Reader
	long []byte // a line that is longer than in's buffer
	raw  []byte // the payload of the line
	line int
}

// NewReader reads a tar-split file that is decompressed already.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, 128<<10)}
}

// Next returns the next line, or io.EOF after the last. What breaks the format is
// errdefs.ErrCorrupt.
func (r *Reader) Next() (Entry, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return Entry{}, err
		}
		r.line++
		if len(bytes.Trim(line, " \t\r\n")) == 0 {
			continue
		}
		e, err := r.parse(line)
		if err != nil {
			return e, fmt.Errorf("tar-split line %d: %w: %w", r.line, errdefs.ErrCorrupt, err)
		}
		return e, nil
	}
}

func (r *Reader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if err == nil {
		return line, nil
	}
	r.long = append(r.long[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(r.long) > lineMax {
			return nil, fmt.Errorf("tar-split line %d: %w: longer than %d bytes", r.line+1, errdefs.ErrCorrupt,
				lineMax)
		}
		line, err = r.in.ReadSlice('\n')
		r.long = append(r.long, line...)
	}
	if err == io.EOF && len(r.long) > 0 {
		err = nil // a last line without its end: parsing tells whether something is missing
	}
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read tar-split: %w: %w", errdefs.ErrCorrupt, err)
	}
	return r.long, err
}

var errSyntax = errors.New("no tar-split entry")

func (r *Reader) parse(line []byte) (Entry, error) {
	e := Entry{}
	var name, nameRaw []byte
	p := jsonLine{rest: line}
	if !p.take('{') {
		return e, errSyntax
	}
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return e, errSyntax
		}
		key, ok := p.text()
		if !ok || !p.take(':') {
			return e, errSyntax
		}
		switch string(key) {
		case "type":
			e.Kind, ok = p.number()
		case "size":
			e.Size, ok = p.number()
		case "position":
			_, ok = p.number()
		case "name":
			name, ok = p.text()
		case "name_raw":
			nameRaw, ok = p.base64(nil)
		case "payload":
			if p.null() {
				e.Payload = nil
				break
			}
			r.raw, ok = p.base64(r.raw)
			e.Payload = r.raw
		default:
			return e, fmt.Errorf("unknown key %.40q", key)
		}
		if !ok {
			return e, fmt.Errorf("bad value of %q", key)
		}
	}
	if p.space(); len(p.rest) > 0 {
		return e, errSyntax
	}
	e.Name = string(name)
	if len(nameRaw) > 0 {
		e.Name = string(nameRaw)
	}
	switch {
	case e.Kind != File && e.Kind != Segment:
		return e, fmt.Errorf("unknown type %d", e.Kind)
	case e.Size < 0:
		return e, fmt.Errorf("size %d", e.Size)
	case e.Kind == File && e.Size > 0 && len(e.Payload) != 8:
		return e, fmt.Errorf("checksum of %d bytes", len(e.Payload))
	}
	return e, nil
}

// jsonLine takes a flat JSON object apart. Decoding the lines of a layer with
// encoding/json takes longer than reading its files.
type jsonLine struct{ rest []byte }

func (p *jsonLine) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\t' || p.rest[0] == '\r' || p.rest[0] == '\n') {
		p.rest = p.rest[1:]
	}
}

func (p *jsonLine) take(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *jsonLine) null() bool {
	p.space()
	if !bytes.HasPrefix(p.rest, []byte("null")) {
		return false
	}
	p.rest = p.rest[4:]
	return true
}

func (p *jsonLine) number() (int64, bool) {
	p.space()
	n := 0
	for n < len(p.rest) && (p.rest[n] == '-' || (p.rest[n] >= '0' && p.rest[n] <= '9')) {
		n++
	}
	digits := bytes.TrimPrefix(p.rest[:n], []byte("-"))
	if len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	v, err := strconv.ParseInt(string(p.rest[:n]), 10, 64)
	p.rest = p.rest[n:]
	return v, err == nil
}

// plain reports whether the bytes of a string stand for themselves: printable ASCII
// without escapes. Names of other alphabets take the longer way through encoding/json.
func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// base64 takes a string of base64 and decodes it, into buf if it has the room.
func (p *jsonLine) base64(buf []byte) ([]byte, bool) {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return buf, false
	}
	var text []byte
	if end := bytes.IndexByte(p.rest[1:], '"'); end >= 0 && bytes.IndexByte(p.rest[1:1+end], '\\') < 0 {
		text, p.rest = p.rest[1:1+end], p.rest[end+2:]
	} else {
		var ok bool
		if text, ok = p.text(); !ok {
			return buf, false
		}
	}
	want := base64.StdEncoding.DecodedLen(len(text))
	if cap(buf) < want {
		buf = make([]byte, want)
	}
	n, err := base64.StdEncoding.Decode(buf[:cap(buf)], text)
	want -= len(text) - len(bytes.TrimRight(text, "="))
	// it would pass over line ends, which no JSON string has
	return buf[:n], err == nil && n == want && len(text)%4 == 0
}

// text takes a string. Most have no escapes and come back as they lie in the line.
func (p *jsonLine) text() ([]byte, bool) {
	if !p.take('"') {
		return nil, false
	}
	end := bytes.IndexByte(p.rest, '"')
	if end < 0 {
		return nil, false
	}
	if plain(p.rest[:end]) {
		s := p.rest[:end]
		p.rest = p.rest[end+1:]
		return s, true
	}
	for end = 0; end < len(p.rest) && p.rest[end] != '"'; end++ {
		if p.rest[end] == '\\' {
			end++
		}
	}
	if end >= len(p.rest) {
		return nil, false
	}
	var s string
	if !utf8.Valid(p.rest[:end]) || json.Unmarshal(append(append([]byte{'"'}, p.rest[:end]...), '"'), &s) != nil {
		return nil, false
	}
	p.rest = p.rest[end+1:]
	return []byte(s), true
}
