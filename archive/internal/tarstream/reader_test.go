package tarstream

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/shalestore/shale/errdefs"
)

// streamOf makes the stream of blocks that a Reader reads, of any block size that is a
// multiple of 512.
func streamOf(data []byte, size int) *Stream {
	pieces := make(chan *Block, len(data)/size+1)
	pool := &blockPool{tokens: make(chan struct{}, cap(pieces))}
	for len(data) > 0 {
		b := &Block{data: data[:min(size, len(data))], pool: pool}
		b.Retain()
		pieces <- b
		data = data[len(b.data):]
	}
	close(pieces)
	end := io.EOF
	return &Stream{Ctx: context.Background(), Pieces: pieces, End: &end}
}

// errTooLarge is for members that a fuzz test had better not hold in memory.
var errTooLarge = errors.New("too large to compare")

// readMembers lists an archive by our reader.
func readMembers(data []byte, size int) (lines []string, err error) {
	r := &Reader{In: streamOf(data, size), Limit: -1}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, r.Drain()
		}
		if err != nil {
			return lines, err
		}
		var content []byte
		for left := h.Size; left > 0; {
			b, err := r.In.Next(left)
			if err != nil {
				return lines, Unexpected(err)
			}
			content = append(content, b...)
			left -= int64(len(b))
		}
		if h.Sparse != nil {
			if h.RealSize > 1<<20 {
				return lines, errTooLarge
			}
			whole := make([]byte, h.RealSize)
			for _, e := range h.Sparse {
				content = content[copy(whole[e.Offset:e.Offset+e.Length], content):]
			}
			content = whole
		}
		atime := ""
		if h.HasAtime {
			atime = time.Unix(h.Atime.Sec, h.Atime.Nsec).UTC().String()
		}
		xattrs := map[string]string{}
		for _, x := range h.Xattrs {
			if x.Value != "" { // archive/tar loses empty ones
				xattrs[x.Name] = x.Value
			}
		}
		lines = append(lines, fmt.Sprintf("%q %q %q mode=%d owner=%d:%d dev=%d:%d mtime=%v atime=%v %q %q", h.Typeflag,
			h.Name, h.Link, h.Mode, h.Uid, h.Gid,
			h.DevMajor, h.DevMinor, time.Unix(h.Mtime.Sec, h.Mtime.Nsec).UTC(), atime, xattrs, content))
	}
}

// goMembers lists it by archive/tar.
func goMembers(data []byte) (lines []string, err error) {
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		if h.Size > 1<<20 {
			return lines, errTooLarge
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return lines, err
		}
		atime := ""
		if !h.AccessTime.IsZero() {
			atime = h.AccessTime.UTC().String()
		}
		xattrs := map[string]string{}
		for k, v := range h.PAXRecords {
			if len(k) >= len(paxXattrPrefix) && k[:len(paxXattrPrefix)] == paxXattrPrefix && v != "" {
				xattrs[k[len(paxXattrPrefix):]] = v
			}
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			h.ModTime = time.Time{} // archive/tar says nothing more of these
		}
		lines = append(lines, fmt.Sprintf("%q %q %q mode=%d owner=%d:%d dev=%d:%d mtime=%v atime=%v %q %q", h.Typeflag,
			h.Name, h.Linkname, h.Mode, h.Uid, h.Gid,
			h.Devmajor, h.Devminor, h.ModTime.UTC(), atime, xattrs, content))
	}
}

// FuzzTarReader compares our reader with archive/tar: what we accept, it accepts, and
// reads as the same members. We refuse some of what it takes: sparse maps that don't fit
// their content, longer ones than anybody's, and an end where an announced member should
// be.
func FuzzTarReader(f *testing.F) {
	for _, h := range []tar.Header{
		{Name: "file", Mode: 0o644, Size: 5, Uid: 1000, Gid: 1000, ModTime: time.Unix(1700000000, 0)},
		{Name: "pax", Mode: 0o644, Size: 5, ModTime: time.Unix(-1, 5), AccessTime: time.Unix(7, 8),
			PAXRecords: map[string]string{"SCHILY.xattr.user.x": "v"}, Format: tar.FormatPAX},
		{Name: "gnu" + string(bytes.Repeat([]byte("long"), 50)), Size: 5, Uid: 1 << 30, Format: tar.FormatGNU},
		{Name: "link", Typeflag: tar.TypeLink, Linkname: "file"},
		{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "g", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
		f.Add(b.Bytes())
		w.Close()
		f.Add(b.Bytes())
	}
	for _, name := range []string{"x.sparse", "0"} {
		f.Add(sparseSeed(name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		fixChecksums(data)
		want, wantErr := goMembers(data)
		got, err := readMembers(data, 2*blockSize)
		again, errAgain := readMembers(data, 64*blockSize)
		if fmt.Sprint(got, err) != fmt.Sprint(again, errAgain) {
			t.Fatalf("the size of the blocks makes a difference:\n%v %v\n%v %v", got, err, again, errAgain)
		}
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errTooLarge) {
				t.Fatalf("%v is not errdefs.ErrInvalid", err)
			}
			return
		}
		if errors.Is(wantErr, errTooLarge) {
			return
		}
		if wantErr != nil {
			t.Fatalf("archive/tar says %v, we nothing; members:\n%v\n%v", wantErr, want, got)
		}
		if len(want) != len(got) {
			t.Fatalf("archive/tar reads %d members, we %d", len(want), len(got))
		}
		for i := range want {
			if want[i] != got[i] && want[i][:3] != "'g'" {
				t.Fatalf("member %d:\n%s\nfor archive/tar\n%s", i, got[i], want[i])
			}
		}
	})
}

// sparseSeed is a sparse member of format 1.0.
func sparseSeed(name string) []byte {
	records := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=2000",
		"GNU.sparse.name=" + name} {
		n := len(r) + 4 // two digits, the blank and the newline
		records += fmt.Sprintf("%d %s\n", n, r)
	}
	var b bytes.Buffer
	x := make([]byte, blockSize)
	copy(x, "PaxHeaders/x")
	copy(x[124:], fmt.Sprintf("%011o", len(records)))
	x[156] = tar.TypeXHeader
	copy(x[257:], "ustar\x0000")
	b.Write(x)
	b.WriteString(records)
	b.Write(make([]byte, padding(int64(len(records)))))
	h := make([]byte, blockSize)
	copy(h, "GNUSparseFile.0/x")
	copy(h[124:], fmt.Sprintf("%011o", blockSize+3))
	h[156] = tar.TypeReg
	copy(h[257:], "ustar\x0000")
	b.Write(h)
	body := make([]byte, 2*blockSize)
	copy(body, "1\n100\n3\n")
	copy(body[blockSize:], "abc")
	b.Write(body)
	fixChecksums(b.Bytes())
	return b.Bytes()
}

// fixChecksums gives every block that might be a header a right checksum: a fuzzer finds
// few.
func fixChecksums(data []byte) {
	for ; len(data) >= blockSize; data = data[blockSize:] {
		if string(data[257:262]) != "ustar" {
			continue
		}
		copy(data[148:156], "        ")
		sum := 0
		for _, c := range data[:blockSize] {
			sum += int(c)
		}
		copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
}
