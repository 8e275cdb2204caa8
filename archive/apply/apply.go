package apply

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/hashset"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Tar reads a layer's tar from r, compressed or not, and makes its files in the
// existing directory dir, which may have content already: a directory merges with the one
// that is there, anything else replaces what is there. tarSplit, when not nil, gets the
// tar-split file from which Replay makes the very same tar again; see recordShadowed for
// what it must be able to do in rare cases.
//
// The stream is read once, to its last byte. Everything happens at the same time, in a
// bounded amount of memory that does not depend on the layer: reading and hashing,
// decompressing, hashing what comes out, parsing and recording, and writing files,
// opts.Writers of them at once. Nothing is synced; that is for the caller, who knows what
// else has to reach the disk and when.
//
// Whatever the archive says, nothing outside dir is read or changed. Errors name the
// entry: entry "a/b": hard link to "x": no such file or directory. Input that is damaged,
// hostile or beyond opts.Limits is errdefs.ErrInvalid. Of several errors the one of the
// earliest entry is returned. After an error, files made so far are left: dir is to be
// thrown away.
//
// When ctx ends, Tar stops and returns its cause, as soon as a Read of r that is under
// way returns. If r has a method SetReadDeadline, as pipes and connections do, that is
// used to interrupt it. No goroutine is left behind in any case.
func Tar(ctx context.Context, dir string, r io.Reader, tarSplit io.Writer, opts Options) (Result, error) {
	a, err := newApplier(ctx, dir, opts)
	if err != nil {
		return Result{}, err
	}
	err = a.run(r, tarSplit)
	if a.shadowed != nil {
		a.shadowed.file.Close()
	}
	if cerr := a.tree.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Result{}, err
	}
	return a.result, nil
}

// applier is one Tar.
type applier struct {
	ctx      context.Context
	opts     Options
	limits   archive.Limits
	ids      idtools.Mapping
	proc     process
	rootUID  uint32 // the host's IDs of the container's root
	rootGID  uint32
	tree     *tree
	writers  writers
	split    *tarsplit.Recorder
	taken    *hashset.Set // of directory and name: names given away by this apply
	seed     maphash.Seed
	rootSeen bool
	scratch  bool // files of AUFS's own are there, for hard links to them
	shadowed *shadows

	uids, gids tarstream.IDSet
	result     Result

	stopped atomic.Bool
	mu      sync.Mutex
	err     error
	errAt   int64
}

func newApplier(ctx context.Context, dir string, opts Options) (*applier, error) {
	a := &applier{ctx: ctx, opts: opts, limits: opts.Limits.WithDefaults(), taken: hashset.New(),
		seed: maphash.MakeSeed(), uids: tarstream.NewIDSet(), gids: tarstream.NewIDSet()}
	var err error
	if a.ids, err = opts.IDMap, opts.IDMap.Validate(); err != nil {
		return nil, err
	}
	if a.rootUID, a.rootGID, err = opts.IDMap.RootPair(); err != nil {
		return nil, err
	}
	if a.proc, err = thisProcess(); err != nil {
		return nil, err
	}
	a.writers = writers{a: a, tasks: make(chan *fileTask, queued)}
	a.tree, err = newTree(a, dir)
	return a, err
}

// run sets the stages up, waits for all of them and fills in the result.
func (a *applier) run(r io.Reader, tarSplit io.Writer) error {
	pool, err := tarstream.NewBlockPool()
	if err != nil {
		return fmt.Errorf("map %d bytes of memory: %w", tarstream.Blocks*tarstream.BlockSize, err)
	}
	defer pool.Close()

	reading, stopReading := context.WithCancelCause(a.ctx)
	defer stopReading(nil)
	interruptible, _ := r.(interface{ SetReadDeadline(time.Time) error })
	if interruptible != nil {
		stop := context.AfterFunc(reading, func() { _ = interruptible.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}

	var stages, fileWriters sync.WaitGroup
	src := tarstream.NewSource(reading, r, pool, a.limits, a.opts.Progress)
	src.Start(stages.Go)
	if tarSplit != nil {
		a.split = tarsplit.NewRecorder()
		stages.Go(func() {
			if err := a.split.Compress(tarSplit); err != nil {
				a.fail(math.MaxInt64, fmt.Errorf("write tar-split: %w", err))
			}
		})
	}
	n := a.opts.Writers
	if n <= 0 {
		n = 2
	}
	for range n {
		fileWriters.Go(a.writers.run)
	}

	in := &tarstream.Stream{Ctx: a.ctx, Pieces: src.Pieces, End: &src.End}
	tr := &tarstream.Reader{In: in, Split: a.split, Limit: a.limits.MaxEntries}
	if err := a.members(tr); err != nil {
		a.fail(tr.Count, err)
	}
	a.split.Close()
	close(a.writers.tasks)
	fileWriters.Wait()
	if a.failed() != nil {
		stopReading(errStopped)
	}
	stages.Wait()
	if err := a.failed(); err != nil {
		if cause := context.Cause(a.ctx); cause != nil {
			return cause
		}
		return err
	}
	return a.finish(src, tarSplit)
}

// errStopped ends the stages before the one that found an error.
var errStopped = errors.New("apply stopped")

// members goes through the archive.
func (a *applier) members(tr *tarstream.Reader) error {
	var last *tarstream.Header
	for {
		if err := a.failed(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF { //nolint:errorlint // one that is wrapped is a failure of the source, not the archive's end
			return tr.Drain()
		}
		if err != nil {
			return streamError(last, err)
		}
		last = h
		a.result.Entries++
		inline := a.split.Inlined(h.Name)
		task, err := a.plan(h)
		if err != nil {
			return entryError(h, err)
		}
		if err := a.content(tr, h, task, inline); err != nil {
			return entryError(h, err)
		}
	}
}

// content reads the content of h, for the record and for the task, if there is one, which
// it gives to the writers.
func (a *applier) content(tr *tarstream.Reader, h *tarstream.Header, t *fileTask, inline bool) error {
	inline = inline || h.Size > 0 && (t == nil || h.Sparse != nil || t.aliased || !findable(h.Name))
	given := false
	if t != nil && h.Size > wholeFile {
		t.more = make(chan contentPiece, 16)
		defer close(t.more)
		a.writers.give(t)
		given = true
	}
	for left := h.Size; left > 0; {
		b, err := tr.In.Next(left)
		if err != nil {
			if t != nil && !given {
				a.drop(t)
			}
			return tarstream.Unexpected(err)
		}
		left -= int64(len(b))
		if inline {
			a.split.Raw(b)
		} else {
			a.split.Content(b)
		}
		if t == nil {
			continue
		}
		tr.In.Cur.Retain()
		piece := contentPiece{tr.In.Cur, b}
		if given {
			t.more <- piece
		} else {
			t.pieces = append(t.pieces, piece)
		}
	}
	if !inline {
		a.split.File(h.Name)
	}
	if t != nil && !given {
		a.writers.give(t)
	}
	return nil
}

// findable reports whether a file can be looked up by its name as it stands in the tar,
// which is what readers of the record do.
func findable(name string) bool {
	return !strings.HasSuffix(name, "/") && !strings.HasSuffix(name, "/.") && !strings.Contains("/"+name+"/", "/../")
}

// drop lets go of a task that no writer will get.
func (a *applier) drop(t *fileTask) {
	for _, p := range t.pieces {
		p.block.Release()
	}
	t.dir.release()
}

// finish completes the result.
func (a *applier) finish(src *tarstream.Source, tarSplit io.Writer) error {
	if src.Written == 0 {
		return fmt.Errorf("layer stream is %w: it is empty, where a tar without members has two blocks of zeros",
			errdefs.ErrInvalid)
	}
	if err := a.overrideRoot(); err != nil {
		return err
	}
	if err := a.recordShadowed(tarSplit); err != nil {
		return err
	}
	if err := a.removeScratch(); err != nil {
		return err
	}
	a.result.Compression = src.Kind
	a.result.DiffID = digest.NewDigest(digest.SHA256, src.Uncompressed)
	a.result.DiffSize = src.Written
	a.result.CompressedDigest, a.result.CompressedSize = a.result.DiffID, src.Read.Load()
	if src.Compressed != nil {
		a.result.CompressedDigest = digest.NewDigest(digest.SHA256, src.Compressed)
	}
	a.result.Root = a.rootSeen
	a.result.UIDs, a.result.GIDs = a.uids.Sorted(), a.gids.Sorted()
	return nil
}

// overrideRoot notes the root's owner and mode where ForceMask has hidden them, also when
// no entry spoke of the root.
func (a *applier) overrideRoot() error {
	if a.opts.ForceMask == nil || a.rootSeen {
		return nil
	}
	if err := xattr.Open(a.tree.root.fd).Set(archive.OverrideStatXattr, []byte("0:0:0755:dir"), 0); err != nil {
		return fmt.Errorf("set attribute %q of the root: %w", archive.OverrideStatXattr, err)
	}
	return nil
}

// fail notes an error of the entry with the given index and makes everybody stop. The one
// of the earliest entry stays.
func (a *applier) fail(index int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil || index < a.errAt {
		a.err, a.errAt = err, index
	}
	a.stopped.Store(true)
}

// failed returns the error, once there is one.
func (a *applier) failed() error {
	if !a.stopped.Load() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// entryError says which entry an error is about, and counts what the kernel refuses
// because of the archive's content as invalid input.
func entryError(h *tarstream.Header, err error) error {
	hostile := func(errno unix.Errno) bool { return errors.Is(err, errno) }
	if !errors.Is(err, errdefs.ErrInvalid) && slices.ContainsFunc(hostileErrnos, hostile) {
		err = fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
	}
	return fmt.Errorf("entry %s: %w", shown(h.Name), err)
}

// hostileErrnos are what system calls answer to names, targets and attributes that make
// no sense.
var hostileErrnos = []unix.Errno{
	unix.ENAMETOOLONG, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.EXDEV, unix.EINVAL, unix.E2BIG, unix.ERANGE,
	unix.EILSEQ, unix.ENOENT,
	unix.EEXIST, unix.EMLINK, unix.EFBIG, unix.ENOTEMPTY, unix.EPERM, unix.ENOTSUP,
}

// streamError is for what is found between the entries, after the one that was read last,
// if any.
func streamError(last *tarstream.Header, err error) error {
	if last == nil {
		return fmt.Errorf("layer stream: %w", tarstream.Unexpected(err))
	}
	return fmt.Errorf("layer stream, after entry %s: %w", shown(last.Name), tarstream.Unexpected(err))
}

// shown is a name from an archive as errors show it: quoted, and without its middle when
// it is longer than anybody reads.
func shown(name string) string {
	const end = 60
	if len(name) <= 2*end {
		return strconv.Quote(name)
	}
	return strconv.Quote(name[:end]) + "..." + strconv.Quote(name[len(name)-end:])
}
