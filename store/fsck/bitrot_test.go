package fsck_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store/fsck"
)

// One flipped bit, anywhere in the content of layers, in their recipes or in data items,
// is found, and nobody else is accused. SHALE_FLIPS says how many.
func TestBitRot(t *testing.T) {
	ctx := context.Background()
	flips := testutil.Count(t, "SHALE_FLIPS", 25, 1000)
	chance := rand.New(rand.NewPCG(testutil.Seed(t), 0))
	p := newPatient(t, "overlay")
	var files []string
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, p.dir)
		of := strings.Contains(name, "/diff/") || strings.HasSuffix(name, ".tar-split.gz") || e.Name() == "manifest" ||
			e.Name() == "config" || e.Name() == "state"
		// writing takes capabilities away
		if info, ierr := e.Info(); err == nil && of && e.Type().IsRegular() && ierr == nil && info.Size() > 0 &&
			e.Name() != "cap" {
			files = append(files, path)
		}
		return err
	})
	p.must(err)
	for range flips {
		path := files[chance.IntN(len(files))]
		info, err := os.Stat(path)
		p.must(err)
		before := p.read(path)
		after := bytes.Clone(before)
		bit := chance.IntN(8 * len(after))
		after[bit/8] ^= 1 << (bit % 8)
		rewrite := func(data []byte) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			p.must(err)
			_, err = f.Write(data)
			p.must(err)
			p.must(f.Close())
			p.must(os.Chtimes(path, info.ModTime(), info.ModTime()))
		}
		rewrite(after)
		report, err := fsck.Check(ctx, p.open(), fsck.CheckOptions{})
		p.must(err)
		objects := report.Objects()
		switch {
		case len(objects) == 0 && strings.HasSuffix(path, ".gz") && bytes.Equal(unzipped(before), unzipped(after)):
			// A time in the header of the gzip stream, say, which means nothing.
		case len(objects) != 1 || !strings.Contains(path, objects[0].ID):
			t.Errorf("bit %d of %s: %v", bit, path, report.Findings)
		}
		rewrite(before)
	}
	noGarbage(t, p.open())
}

func unzipped(data []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	all, err := io.ReadAll(r)
	if err != nil {
		return nil
	}
	return all
}
