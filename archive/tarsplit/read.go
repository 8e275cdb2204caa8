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
	"github.com/shalestore/shale/internal/jsonscan"
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
	var bad error
	s := jsonscan.Scanner{Data: line}
	start := s.Space(0)
	if s.At(start) != '{' {
		return e, errSyntax
	}
	end := s.Members(start, 1, func(key, keyEnd int, _ bool, at, atEnd int) bool {
		value, ok := line[at:atEnd], false
		switch string(line[key+1 : keyEnd-1]) {
		case "type":
			e.Kind, ok = number(value)
		case "size":
			e.Size, ok = number(value)
		case "position":
			_, ok = number(value)
		case "name":
			name, ok = text(value)
		case "name_raw":
			nameRaw, ok = decode64(nil, value)
		case "payload":
			e.Payload = nil
			if ok = string(value) == "null"; !ok {
				r.raw, ok = decode64(r.raw, value)
				e.Payload = r.raw
			}
		}
		if !ok {
			bad = fmt.Errorf("unknown key or bad value: %.40q", line[key+1:keyEnd-1])
		}
		return ok
	})
	if bad != nil {
		return e, bad
	}
	if end < 0 || s.End(end, "the object") < 0 {
		key := line[:max(bytes.LastIndex(line[:s.Fault.Offset], []byte(`":`)), 0)]
		key = key[bytes.LastIndexByte(key, '"')+1:]
		return e, fmt.Errorf("%w: expected %s, in or after %q", errSyntax, s.Fault.Want, key)
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

// Decoding the lines of a layer with encoding/json takes longer than reading its files.
// So it decodes only strings that have escapes.

func number(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

func text(value []byte) ([]byte, bool) {
	if s, plain := jsonscan.PlainText(value); plain {
		return s, true
	}
	var s string
	if value[0] != '"' || !utf8.Valid(value) || json.Unmarshal(value, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

// decode64 decodes a string of base64, into buf if it has the room.
func decode64(buf, value []byte) ([]byte, bool) {
	if value[0] != '"' {
		return buf, false
	}
	s := value[1 : len(value)-1]
	if bytes.IndexByte(s, '\\') >= 0 {
		s, _ = text(value)
	}
	if len(s)%4 != 0 {
		return buf, false
	}
	want := base64.StdEncoding.DecodedLen(len(s))
	if cap(buf) < want {
		buf = make([]byte, want)
	}
	n, err := base64.StdEncoding.Decode(buf[:cap(buf)], s)
	want -= len(s) - len(bytes.TrimRight(s, "="))
	// it would pass over line ends, which no JSON string has
	return buf[:n], err == nil && n == want
}
