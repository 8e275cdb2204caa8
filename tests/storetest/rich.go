package storetest

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"
)

// RichTar has a file of each kind that a layer can have.
func RichTar(t *testing.T, word string) []byte {
	t.Helper()
	at := time.Unix(1_600_000_000, 0)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(h tar.Header, content string) {
		h.ModTime, h.Size, h.Format = at, int64(len(content)), tar.FormatPAX
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	put(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	put(tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	put(tar.Header{Name: "etc/" + word, Uid: 7, Gid: 8}, "the content of "+word)
	put(tar.Header{Name: "etc/twin"}, "the other file's own")
	put(tar.Header{Name: "etc/empty"}, "")
	put(tar.Header{Name: "etc/name", Typeflag: tar.TypeLink, Linkname: "etc/" + word, Uid: 7, Gid: 8}, "")
	put(tar.Header{Name: "etc/link", Typeflag: tar.TypeSymlink, Linkname: word, Mode: 0o777}, "")
	put(tar.Header{Name: "etc/cap", Mode: 0o755, PAXRecords: map[string]string{
		"SCHILY.xattr.user.note": "kept",
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}, "ping")
	put(tar.Header{Name: "etc/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, "")
	if word == "base" {
		put(tar.Header{Name: "etc/gone"}, "")
	} else {
		put(tar.Header{Name: "etc/.wh.gone"}, "")
	}
	put(tar.Header{Name: "opaque/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	put(tar.Header{Name: "opaque/.wh..wh..opq"}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
