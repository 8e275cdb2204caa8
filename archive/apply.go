package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// Apply reads a layer's tar from r, compressed or not, and makes its files in the
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
// When ctx ends, Apply stops and returns its cause, as soon as a Read of r that is under
// way returns. If r has a method SetReadDeadline, as pipes and connections do, that is
// used to interrupt it. No goroutine is left behind in any case.
func Apply(ctx context.Context, dir string, r io.Reader, tarSplit io.Writer, opts ApplyOptions) (ApplyResult, error) {
	a, err := newApplier(ctx, dir, opts)
	if err != nil {
		return ApplyResult{}, err
	}
	err = a.run(r, tarSplit)
	if a.shadowed != nil {
		a.shadowed.file.Close()
	}
	if cerr := a.tree.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return ApplyResult{}, err
	}
	return a.result, nil
}

// applier is one Apply.
type applier struct {
	ctx      context.Context
	opts     ApplyOptions
	limits   Limits
	ids      idtools.Table
	proc     process
	tree     *tree
	writers  writers
	split    *splitRecorder
	taken    *hashSet // of directory and name: names given away by this apply
	seed     maphash.Seed
	rootSeen bool
	shadowed *shadows

	uids, gids idSet
	result     ApplyResult

	stopped atomic.Bool
	mu      sync.Mutex
	err     error
	errAt   int64
}

func newApplier(ctx context.Context, dir string, opts ApplyOptions) (*applier, error) {
	a := &applier{ctx: ctx, opts: opts, limits: opts.Limits.withDefaults(), taken: newHashSet(),
		seed: maphash.MakeSeed(), uids: newIDSet(), gids: newIDSet()}
	var err error
	if a.ids, err = opts.IDMap.Table(); err != nil {
		return nil, err
	}
	rootUID, rootGID, err := opts.IDMap.RootPair()
	if err != nil {
		return nil, err
	}
	if a.proc, err = thisProcess(); err != nil {
		return nil, err
	}
	if a.tree, err = newTree(dir); err != nil {
		return nil, err
	}
	a.writers = writers{a: a, tasks: make(chan *fileTask, queued)}
	a.tree.drain, a.tree.pending = a.writers.drain, a.writers.pending
	a.tree.passed = func(d *directory, name string) { a.take(d, name) }
	a.tree.parent = func(d *directory, name string) error {
		return a.makeParent(d, name, rootUID, rootGID)
	}
	return a, nil
}

// run sets the stages up, waits for all of them and fills in the result.
func (a *applier) run(r io.Reader, tarSplit io.Writer) error {
	pool, err := newBlockPool()
	if err != nil {
		return fmt.Errorf("map %d bytes of memory: %w", streamBlocks*streamBlockSize, err)
	}
	defer pool.close()

	reading, stopReading := context.WithCancelCause(a.ctx)
	defer stopReading(nil)
	interruptible, _ := r.(interface{ SetReadDeadline(time.Time) error })
	if interruptible != nil {
		stop := context.AfterFunc(reading, func() { interruptible.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}

	var stages, fileWriters sync.WaitGroup
	src := newSource(reading, r, pool, a.limits, a.opts.Progress)
	src.start(stages.Go)
	if tarSplit != nil {
		a.split = newSplitRecorder()
		stages.Go(func() {
			if err := a.split.compress(tarSplit); err != nil {
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

	in := &blockStream{ctx: a.ctx, pieces: src.pieces, end: &src.end}
	tr := &tarReader{in: in, split: a.split, limit: a.limits.MaxEntries}
	if err := a.members(tr); err != nil {
		a.fail(tr.count, err)
	}
	a.split.close()
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
func (a *applier) members(tr *tarReader) error {
	var last *header
	for {
		if err := a.failed(); err != nil {
			return err
		}
		h, err := tr.next()
		if err == io.EOF {
			return tr.drain()
		}
		if err != nil {
			return streamError(last, err)
		}
		last = h
		a.result.Entries++
		inline := a.split.inlined(h)
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
func (a *applier) content(tr *tarReader, h *header, t *fileTask, inline bool) error {
	inline = inline || h.size > 0 && (t == nil || h.sparse != nil || t.aliased || !findable(h.name))
	given := false
	if t != nil && h.size > wholeFile {
		t.more = make(chan contentPiece, 16)
		defer close(t.more)
		a.writers.give(t)
		given = true
	}
	for left := h.size; left > 0; {
		b, err := tr.in.next(left)
		if err != nil {
			if t != nil && !given {
				a.drop(t)
			}
			return unexpected(err)
		}
		left -= int64(len(b))
		if inline {
			a.split.raw(b)
		} else {
			a.split.content(b)
		}
		if t == nil {
			continue
		}
		tr.in.cur.retain()
		piece := contentPiece{tr.in.cur, b}
		if given {
			t.more <- piece
		} else {
			t.pieces = append(t.pieces, piece)
		}
	}
	if !inline {
		a.split.file(h.name)
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
		p.block.release()
	}
	t.dir.release()
}

// finish completes the result.
func (a *applier) finish(src *source, tarSplit io.Writer) error {
	if err := a.overrideRoot(); err != nil {
		return err
	}
	if err := a.recordShadowed(tarSplit); err != nil {
		return err
	}
	a.result.Compression = src.kind
	a.result.DiffID = digest.NewDigest(digest.SHA256, src.uncompressed)
	a.result.DiffSize = src.written
	a.result.CompressedDigest, a.result.CompressedSize = a.result.DiffID, src.read.Load()
	if src.compressed != nil {
		a.result.CompressedDigest = digest.NewDigest(digest.SHA256, src.compressed)
	}
	a.result.Root = a.rootSeen
	a.result.UIDs, a.result.GIDs = a.uids.sorted(), a.gids.sorted()
	return nil
}

// overrideRoot notes the root's owner and mode where ForceMask has hidden them, also when
// no entry spoke of the root.
func (a *applier) overrideRoot() error {
	if a.opts.ForceMask == nil || a.rootSeen {
		return nil
	}
	if err := unix.Fsetxattr(a.tree.root.fd, overrideXattr, []byte("0:0:0755:dir"), 0); err != nil {
		return fmt.Errorf("set attribute %q of the root: %w", overrideXattr, err)
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
func entryError(h *header, err error) error {
	if !errors.Is(err, errdefs.ErrInvalid) {
		for _, errno := range hostileErrnos {
			if errors.Is(err, errno) {
				err = fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
				break
			}
		}
	}
	return fmt.Errorf("entry %s: %w", shown(h.name), err)
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
func streamError(last *header, err error) error {
	if last == nil {
		return fmt.Errorf("layer stream: %w", unexpected(err))
	}
	return fmt.Errorf("layer stream, after entry %s: %w", shown(last.name), unexpected(err))
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

// thisProcess reads what new files get from this process.
func thisProcess() (process, error) {
	p := process{uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid())}
	// umask(2) can be read only by changing it, which other threads would feel.
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return p, fmt.Errorf("read the umask: %w", err)
	}
	_, rest, ok := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if !ok || err != nil {
		return p, fmt.Errorf("read the umask: /proc/thread-self/status has none")
	}
	p.umask = uint32(mask)
	// The first user namespace is the one that maps all IDs to themselves
	// (user_namespaces(7)).
	ids, err := os.ReadFile("/proc/self/uid_map")
	p.userns = err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
	return p, nil
}

// idSet collects IDs, most of which come in runs of one.
type idSet struct {
	last uint32
	ids  map[uint32]struct{}
}

func newIDSet() idSet { return idSet{ids: make(map[uint32]struct{})} }

func (s *idSet) add(id uint32) {
	if len(s.ids) == 0 || id != s.last {
		s.ids[id] = struct{}{}
		s.last = id
	}
}

func (s *idSet) sorted() []uint32 {
	ids := make([]uint32, 0, len(s.ids))
	for id := range s.ids {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
