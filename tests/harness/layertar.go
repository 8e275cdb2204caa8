package harness

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

// Archive is a layer tar on disk, its digest known.
type Archive struct {
	Path   string
	Digest string // of the uncompressed bytes
}

// SmallArchive writes a tar of n files of a size each into dir, some of them hard links
// and symbolic links, and directories for every hundred. Two archives of different names
// have no content in common.
func SmallArchive(t testing.TB, dir, name string, n, size int) Archive {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(h *tar.Header, data []byte) {
		h.ModTime, h.Format = time.Unix(1_700_000_000, 123_456_789), tar.FormatPAX
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	put(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, nil)
	for i := range n {
		at := fmt.Sprintf("%s/%03d/", name, i/100)
		if i%100 == 0 {
			put(&tar.Header{Typeflag: tar.TypeDir, Name: at, Mode: 0o750, Uid: i % 7, Gid: i % 5}, nil)
		}
		file := at + strconv.Itoa(i)
		switch {
		case i%50 == 49:
			put(&tar.Header{Typeflag: tar.TypeLink, Name: file, Linkname: at + strconv.Itoa(i-1), Mode: 0o4755}, nil)
		case i%50 == 48:
			put(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o4755,
				PAXRecords: map[string]string{"SCHILY.xattr.user.note": name}}, testutil.Noise(file, size))
		case i%50 == 47:
			put(&tar.Header{Typeflag: tar.TypeSymlink, Name: file, Linkname: "../" + strconv.Itoa(i-1)}, nil)
		default:
			put(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Uid: i % 3}, testutil.Noise(file, size))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return Archive{path, fmt.Sprintf("sha256:%x", sha256.Sum256(buf.Bytes()))}
}
