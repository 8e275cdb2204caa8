package tarsplit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive/internal/readahead"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/crc64"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Replay writes a layer's tar to w, byte for byte as it once came: headers and padding
// from tarSplit, the gzip'd tar-split stream that was recorded then, and the content of
// files from the first of dirs that has them. The result is uncompressed.
//
// Names are looked up below each directory as if it were the root of the file system, so
// a damaged or hostile stream reads nothing outside. A file that is missing, that is no
// regular file, or whose size or checksum is not the recorded one is errdefs.ErrCorrupt,
// and the error names it; so is a stream that can't be read. Bytes written before an
// error are a correct beginning of the tar, except the content of a large file whose
// checksum fails at its end.
//
// Several files are read ahead at a time; memory stays below some megabytes whatever the
// layer holds.
func Replay(ctx context.Context, w io.Writer, tarSplit io.Reader, dirs []string) error {
	return ReplayWith(ctx, w, tarSplit, dirs, Observer{})
}

// Observer sees what Replay does; its functions may be nil, and may be called by several
// goroutines.
type Observer struct {
	// File is told of each file whose content the tar-split file leaves to the
	// directories, before that content comes.
	File func(name string, crc uint64)
	// Damaged is told of files that aren't what they were. Zeros stand for the rest of
	// such a file then, and the stream goes on.
	Damaged func(name string, why error)
}

// ReplayWith is Replay, told of what happens.
func ReplayWith(ctx context.Context, w io.Writer, tarSplit io.Reader, dirs []string, o Observer) error {
	var roots []*layerdir.Dir
	defer func() {
		for _, r := range roots {
			r.Release()
		}
	}()
	for _, dir := range dirs {
		root, err := layerdir.OpenRoot(dir)
		if err != nil {
			return err
		}
		roots = append(roots, root)
	}
	r := readahead.Stream[replayPiece]{
		Produce: func(ctx context.Context, emit func(replayPiece, int64) error) error {
			return readPieces(ctx, tarSplit, func(p replayPiece, size int64) error {
				if p.size > 0 && o.File != nil {
					o.File(p.name, p.crc)
				}
				return emit(p, size)
			})
		},
		Worker: func() readahead.Filler[replayPiece] { return &replayer{roots: roots, damaged: o.Damaged} },
	}
	return r.Run(ctx, w)
}

// replayPiece is a stretch of the tar: bytes that are known, then perhaps the content of
// a file.
type replayPiece struct {
	raw  []byte
	name string
	size int64
	crc  uint64
}

// readPieces turns the lines of a tar-split stream into pieces.
func readPieces(ctx context.Context, tarSplit io.Reader, emit func(replayPiece, int64) error) error {
	gz, err := gzip.NewReader(tarSplit)
	if err != nil {
		return fmt.Errorf("read tar-split: %w: %w", errdefs.ErrCorrupt, err)
	}
	defer gz.Close()
	lines := NewReader(gz)
	var store []byte // pieces' raw bytes share allocations of this size
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case e.Kind == Segment:
			if len(store) < len(e.Payload) {
				store = make([]byte, max(64<<10, len(e.Payload)))
			}
			n := copy(store, e.Payload)
			err = emit(replayPiece{raw: store[:n:n]}, int64(n))
			store = store[n:]
		case e.Size > 0:
			err = emit(replayPiece{name: e.Name, size: e.Size, crc: binary.BigEndian.Uint64(e.Payload)}, e.Size)
		}
		if err != nil {
			return err
		}
	}
}

// replayer fills pieces. Each worker has its own.
type replayer struct {
	roots   []*layerdir.Dir
	damaged func(name string, why error) // see observer
	// The directory of the last file, in one of the roots: a tar's members come directory
	// by directory.
	lastDir  string
	lastRoot int
	last     *layerdir.Dir
}

func (r *replayer) Drop(replayPiece) {}

func (r *replayer) Close() {
	if r.last != nil {
		r.last.Release()
	}
}

func (r *replayer) Fill(ctx context.Context, p replayPiece, out *readahead.ChunkWriter) error {
	if p.size == 0 {
		return out.Write(ctx, p.raw)
	}
	written := int64(0)
	fd, err := r.open(p.name, p.size)
	if err == nil {
		written, err = copyChecked(ctx, fd, p.size, p.crc, out)
		unix.Close(fd)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if r.damaged != nil {
		r.damaged(p.name, err)
		return out.Zeros(ctx, p.size-written)
	}
	return fmt.Errorf("file %q: %w: %w", p.name, errdefs.ErrCorrupt, err)
}

// open finds the file name in the first root that has something of that name.
func (r *replayer) open(name string, size int64) (int, error) {
	dir, base := path.Split(path.Clean("/" + name))
	for i := range r.roots {
		parent, err := r.parent(i, dir)
		if err == nil {
			var st unix.Stat_t
			if err = layerdir.StatAt(parent.FD, base, &st); err == nil {
				return openRecorded(parent.FD, base, &st, size)
			}
		}
		if !layerdir.Absent(err) {
			return -1, err
		}
	}
	return -1, unix.ENOENT
}

func openRecorded(dirfd int, base string, st *unix.Stat_t, size int64) (int, error) {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return -1, errors.New("is no regular file any more")
	case st.Size != size:
		return -1, fmt.Errorf("has %d bytes, not the recorded %d", st.Size, size)
	}
	return layerdir.OpenFileAt(dirfd, base, st)
}

// parent opens a directory of one of the roots. It stays open until the next call.
func (r *replayer) parent(root int, dir string) (*layerdir.Dir, error) {
	if r.last != nil && r.lastRoot == root && r.lastDir == dir {
		return r.last, nil
	}
	fd, err := openat.InRoot(r.roots[root].FD, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	r.Close()
	r.last, r.lastRoot, r.lastDir = layerdir.NewDir(fd), root, dir
	return r.last, nil
}

// copyChecked writes a file of size bytes to out and compares its checksum. It returns
// how many bytes are out.
func copyChecked(ctx context.Context, fd int, size int64, want uint64,
	out *readahead.ChunkWriter) (written int64, err error) {
	sum := uint64(0)
	for written < size {
		space, err := out.Room(ctx)
		if err != nil {
			return written, err
		}
		n, err := eintr.ReadFull(fd, space[:min(int64(len(space)), size-written)])
		if err != nil {
			return written, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return written, fmt.Errorf("shrank from %d to %d bytes while it was read", size, written)
		}
		sum = crc64.Update(sum, space[:n])
		if written+int64(n) == size && sum != want {
			return written, errors.New("file integrity checksum failed")
		}
		written += int64(n)
		out.Grow(n)
	}
	return written, nil
}
