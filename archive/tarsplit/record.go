package tarsplit

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"io"
	"path"
	"strconv"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive/internal/hashset"
	"github.com/shalestore/shale/internal/crc64"
)

// A tar-split file (github.com/vbatts/tar-split) is what is left of a tar when the files'
// contents are taken out: gzip'd JSON, a record a line.
//
//	{"type":2,"payload":"<base64>","position":0}
//	{"type":1,"name":"a","size":6,"payload":"<base64 of CRC-64>","position":1}
//
// Type 2 has bytes of the tar as they are: headers, padding, the end. Type 1 says that
// here goes the content of the file "a".
//
// Together with the layer's files it gives the tar back, byte for byte. Every tool that
// shares the store reads and writes this form, so the records are the very ones that
// tar-split's own packer would write. In three cases that packer gives up or loses bytes,
// and the recorder puts the content itself among the bytes of the tar instead, which
// every reader understands:
//
//   - a second member of the same name: tar-split refuses to write or read two records of
//     one name;
//   - a sparse file: a record stands for the expanded file, which is not what was in the
//     tar;
//   - content that does not become a file of the layer, such as that of a whiteout.

// maxSegment bounds the bytes in one record of type 2, and with it the memory of writer
// and reader.
const maxSegment = 1 << 20

// Recorder encodes the records and hands them to a goroutine that compresses them.
// All methods do nothing on a nil recorder.
type Recorder struct {
	pending  []byte // of the tar, not yet in a record
	out      []byte
	full     chan []byte
	empty    chan []byte
	position int64
	names    *hashset.Set
	seed     maphash.Seed
	crc      uint64
	size     int64
}

// The records travel in buffers of about this size.
const bufferSize = 128 << 10

// NewRecorder makes a Recorder. Compress must run beside whoever calls its other methods.
func NewRecorder() *Recorder {
	s := &Recorder{full: make(chan []byte, 2), empty: make(chan []byte, 4), names: hashset.New(),
		seed: maphash.MakeSeed()}
	for range 3 {
		s.empty <- make([]byte, 0, bufferSize+4096)
	}
	s.out = <-s.empty
	return s
}

// Compress writes what the recorder encodes to w until the recorder is closed. Level 1 is
// what the other tools use; the file is read seldom.
func (s *Recorder) Compress(w io.Writer) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	for buf := range s.full {
		if err == nil {
			_, err = z.Write(buf)
		}
		s.empty <- buf[:0]
	}
	if err != nil {
		return err
	}
	return z.Close()
}

// Raw notes bytes of the tar.
func (s *Recorder) Raw(b []byte) {
	if s == nil {
		return
	}
	for len(s.pending)+len(b) > maxSegment {
		n := maxSegment - len(s.pending)
		s.pending = append(s.pending, b[:n]...)
		b = b[n:]
		s.writeSegment()
	}
	s.pending = append(s.pending, b...)
}

// Inlined reports whether the content of a member has to go among the bytes of the tar,
// because its name has come before.
func (s *Recorder) Inlined(name string) bool {
	return s != nil && !s.names.Add(maphash.String(s.seed, path.Clean(name)))
}

// Content adds a piece of the current file to its checksum.
func (s *Recorder) Content(b []byte) {
	if s != nil {
		s.crc = crc64.Update(s.crc, b)
		s.size += int64(len(b))
	}
}

// File writes the record of a file whose content has been seen.
func (s *Recorder) File(name string) {
	if s == nil {
		return
	}
	s.Record(name, s.size, s.crc)
	s.crc, s.size = 0, 0
}

// Record writes the record of a file by its size and the checksum of its content.
func (s *Recorder) Record(name string, size int64, crc uint64) {
	s.FlushSegment()
	s.out = append(s.out, `{"type":1,`...)
	switch {
	case name == "":
	case utf8.ValidString(name):
		s.out = append(s.out, `"name":`...)
		s.out = appendJSONString(s.out, name)
		s.out = append(s.out, ',')
	default:
		s.out = append(s.out, `"name_raw":"`...)
		s.out = base64.StdEncoding.AppendEncode(s.out, []byte(name))
		s.out = append(s.out, `",`...)
	}
	if size == 0 {
		s.out = append(s.out, `"payload":null`...)
	} else {
		s.out = append(s.out, `"size":`...)
		s.out = strconv.AppendInt(s.out, size, 10)
		s.out = append(s.out, `,"payload":"`...)
		var sum [8]byte
		binary.BigEndian.PutUint64(sum[:], crc)
		s.out = base64.StdEncoding.AppendEncode(s.out, sum[:])
		s.out = append(s.out, '"')
	}
	s.end()
}

// FlushSegment writes a record of the pending bytes, if there are any.
func (s *Recorder) FlushSegment() {
	if s != nil && len(s.pending) > 0 {
		s.writeSegment()
	}
}

// writeSegment writes a record of the pending bytes.
func (s *Recorder) writeSegment() {
	s.out = append(s.out, `{"type":2,"payload":"`...)
	s.out = appendBase64(s.out, s.pending)
	s.out = append(s.out, '"')
	s.end()
	s.pending = s.pending[:0]
}

// appendBase64 appends b in base64. Headers and padding are zeros for the most part,
// which need no encoding.
func appendBase64(out, b []byte) []byte {
	const (
		zeros  = 24 // bytes looked at together: whole words, and whole groups of three
		packed = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	)
	for len(b) > 0 {
		n := 0
		for len(b)-n >= zeros && !allZero(b[n:n+zeros]) {
			n += zeros
		}
		if len(b)-n < zeros {
			n = len(b)
		}
		out = base64.StdEncoding.AppendEncode(out, b[:n])
		for b = b[n:]; len(b) >= zeros && allZero(b[:zeros]); b = b[zeros:] {
			out = append(out, packed...)
		}
	}
	return out
}

// allZero looks at 24 bytes.
func allZero(b []byte) bool {
	return binary.NativeEndian.Uint64(b)|binary.NativeEndian.Uint64(b[8:])|binary.NativeEndian.Uint64(b[16:]) == 0
}

func (s *Recorder) end() {
	s.out = append(s.out, `,"position":`...)
	s.out = strconv.AppendInt(s.out, s.position, 10)
	s.out = append(s.out, "}\n"...)
	s.position++
	if len(s.out) >= bufferSize {
		s.flush()
	}
}

func (s *Recorder) flush() {
	s.full <- s.out
	s.out = <-s.empty
}

// Close writes what is left and lets compress end.
func (s *Recorder) Close() {
	if s == nil {
		return
	}
	s.FlushSegment()
	s.flush()
	close(s.full)
}

// appendJSONString appends s as encoding/json would encode it. Names of printable ASCII,
// nearly all, need no look at that package.
func appendJSONString(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			encoded, err := json.Marshal(s)
			if err != nil {
				return append(out, `""`...) // a string always marshals
			}
			return append(out, encoded...)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}
