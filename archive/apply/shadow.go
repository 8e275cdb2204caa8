package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/crc64"
	"github.com/shalestore/shale/internal/layerdir"
	"golang.org/x/sys/unix"
)

// A member can take the place of an earlier one of the same layer: the same name comes
// twice, a whiteout follows its file, a directory becomes a symlink. The earlier one's
// content is then in the tar but not in the layer, and its record in the tar-split file,
// long written, points to nothing. So the content is put aside when its file is removed,
// and at the end the tar-split file is written anew with that content in it. It is rare:
// containers/storage refuses most such layers.

// TarSplitFile is what Tar needs of its tarSplit argument in that case; an *os.File
// open for reading and writing is one.
type TarSplitFile interface {
	io.ReadWriteSeeker
	Truncate(size int64) error
}

// shadows are the contents put aside, one after the other in a file without a name.
type shadows struct {
	file  *os.File
	size  int64
	known map[shadowKey]int64 // offset in file
}

// shadowKey finds a content by what its record says of it. Two contents with one key
// would be mixed up; the digest of the replayed tar tells.
type shadowKey struct {
	crc  uint64
	size int64
}

// shadow puts the content of the file name in dirfd aside, which is about to be removed.
func (a *applier) shadow(dirfd int, name string, st *unix.Stat_t) error {
	if a.split == nil || st.Size == 0 {
		return nil
	}
	if a.shadowed == nil {
		file, err := tempFile(a.tree.root.fd)
		if err != nil {
			return err
		}
		a.shadowed = &shadows{file: file, known: make(map[shadowKey]int64)}
	}
	fd, err := layerdir.OpenFileAt(dirfd, name, st)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), name)
	defer from.Close()
	var sum crc64.Sum
	n, err := io.Copy(io.MultiWriter(a.shadowed.file, &sum), from)
	if err != nil {
		return fmt.Errorf("put the replaced file's content aside: %w", err)
	}
	a.shadowed.known[shadowKey{uint64(sum), n}] = a.shadowed.size
	a.shadowed.size += n
	return nil
}

// tempFile makes a file without a name on the file system of the directory.
func tempFile(dirfd int) (*os.File, error) {
	fd, err := unix.Openat(dirfd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	return os.NewFile(uintptr(fd), "temporary file"), nil
}

// recordShadowed writes the tar-split file anew, if contents were put aside. It returns
// errdefs.ErrUnsupported if w is no TarSplitFile.
func (a *applier) recordShadowed(w io.Writer) error {
	if a.shadowed == nil {
		return nil
	}
	old, ok := w.(TarSplitFile)
	if !ok {
		return fmt.Errorf("record a layer that replaces its own files: the tar-split writer can't be read again: %w",
			errdefs.ErrUnsupported)
	}
	anew, err := tempFile(a.tree.root.fd)
	if err != nil {
		return err
	}
	defer anew.Close()
	if err := a.rewriteSplit(old, anew); err != nil {
		return fmt.Errorf("rewrite tar-split: %w", err)
	}
	if _, err := anew.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := old.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := old.Truncate(0); err != nil {
		return err
	}
	_, err = io.Copy(old, anew)
	return err
}

// rewriteSplit copies the records from old to anew with the contents put aside among the
// bytes of the tar.
func (a *applier) rewriteSplit(old io.ReadSeeker, anew io.Writer) error {
	if _, err := old.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(old)
	if err != nil {
		return err
	}
	out := tarsplit.NewRecorder()
	written := make(chan error, 1)
	go func() { written <- out.Compress(anew) }()
	err = a.copyRecords(tarsplit.NewReader(z), out)
	out.Close()
	if werr := <-written; err == nil {
		err = werr
	}
	return err
}

func (a *applier) copyRecords(in *tarsplit.Reader, out *tarsplit.Recorder) error {
	buf := make([]byte, 64<<10)
	for {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Kind == tarsplit.Segment {
			out.Raw(e.Payload)
			continue
		}
		var crc uint64
		if e.Size > 0 {
			crc = binary.BigEndian.Uint64(e.Payload)
			if offset, ok := a.shadowed.known[shadowKey{crc, e.Size}]; ok {
				content := io.NewSectionReader(a.shadowed.file, offset, e.Size)
				if _, err := io.CopyBuffer(rawWriter{out}, struct{ io.Reader }{content}, buf); err != nil {
					return err
				}
				continue
			}
		}
		out.Record(e.Name, e.Size, crc)
	}
}

// rawWriter writes bytes of the tar to a recorder.
type rawWriter struct{ s *tarsplit.Recorder }

func (w rawWriter) Write(p []byte) (int, error) {
	w.s.Raw(p)
	return len(p), nil
}
