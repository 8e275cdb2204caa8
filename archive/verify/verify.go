package verify

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/crc64"
	"github.com/shalestore/shale/internal/layerdir"
)

// Options says what a layer's directory is to be held against.
type Options struct {
	// Content are the directories in which the files' content is looked for, in this
	// order: see Replay.
	Content []string
	// Own are the directories that hold the layer's own files, the newest first. Overlay
	// layers whose owners were translated have several, and then also hold copies of what
	// is beneath them.
	Own []string
	// Beneath are the tar-split files of the layers beneath, the lowest first, for a
	// driver whose layers hold a copy of those. It isn't used with whiteouts in overlay's
	// form. Without it, for a layer that has a parent, Partial must be set.
	Beneath []io.Reader
	// Partial: Own may hold more than the tar-split file tells.
	Partial bool
	// Whiteouts is the form in which the layer was unpacked.
	Whiteouts archive.WhiteoutForm
	// IDMap is the mapping of the owners on disk.
	IDMap idtools.Mapping
	// AnyOwner and AnyTime leave owners and times out. ForceMask leaves out type, owner
	// and mode of the files that don't carry their true ones in an attribute.
	AnyOwner, AnyTime, ForceMask bool
	// NoDevices: whoever unpacked the layer may not have been allowed to make devices.
	NoDevices bool
	// MaxBytes bounds the length of the tar: the one that is recorded, when it is known;
	// 0 means the bound of apply.Tar.
	MaxBytes int64
	// Progress is called now and then with the bytes of the tar read so far; nil for
	// none.
	Progress func(read int64)
}

// Result is what Layer has found.
type Result struct {
	// DiffID and DiffSize are of the tar, put together again. They mean nothing when
	// there are Damages of Content.
	DiffID   digest.Digest
	DiffSize int64
	// Damages are in the order of the tar, then in that of the directory.
	Damages []Damage
	// More is how many damages there are beyond those listed.
	More int
	// UIDs and GIDs are the distinct IDs in the headers, ascending.
	UIDs, GIDs []uint32
}

// Damage is one thing that isn't as the tar has it.
type Damage struct {
	// Path is absolute within the layer; "" is the tar-split file itself.
	Path string
	// What says how it differs: "+" for a file too many, "-" for one that is missing,
	// else field by field "mode:0644→0755".
	What string
	// Content tells that bytes of the tar are lost. Without it the tar can be put
	// together, and the directory made anew from it.
	Content bool
}

// String says path and difference in one, as containers/storage does.
func (d Damage) String() string {
	switch {
	case d.Path == "":
		return d.What
	case d.What == "+", d.What == "-":
		return d.What + d.Path
	case strings.Contains(d.What, " "):
		return d.Path + " " + d.What
	}
	return d.Path + "(" + d.What + ")"
}

// maxDamages is how many damages of one layer are listed.
const maxDamages = 200

// Exact reports whether the layer's tar can be put together.
func (v Result) Exact() bool {
	return v.More == 0 && !slices.ContainsFunc(v.Damages, func(d Damage) bool { return d.Content })
}

// Layer puts a layer's tar together as Replay does, but goes on after damage, and
// compares the layer's directory with what the tar says: names, types, owners, modes,
// times to the second, sizes, link targets, devices, capabilities and the attributes of
// users. The root itself is left out: its attributes are the parent's, or the tar's, or
// neither, as releases of containers/storage have it. Layer changes nothing, holds
// nothing open but what it reads, and keeps some 200 bytes in memory for each member of
// the tar.
//
// Damage is no error: errors are a directory that can't be read, and a context that has
// ended.
func Layer(ctx context.Context, tarSplit io.Reader, opts Options) (Result, error) {
	v := &verifier{opts: opts, expect: newExpectation(opts.Whiteouts == archive.RemoveWhiteouts),
		uids: tarstream.NewIDSet(),
		gids: tarstream.NewIDSet()}
	for _, beneath := range opts.Beneath {
		if err := v.read(ctx, beneath, nil); err != nil {
			return v.result, err
		}
		v.expect.layer++
	}
	v.own = true
	if err := v.read(ctx, tarSplit, opts.Content); err != nil {
		return v.result, err
	}
	if v.broken {
		return v.result, nil // what the tar describes isn't known
	}
	return v.result, v.compare(ctx)
}

type verifier struct {
	opts   Options
	expect *expectation
	own    bool // reading the layer's own tar-split file, not one beneath
	broken bool

	uids, gids tarstream.IDSet

	mu     sync.Mutex // guards result while the tar is read
	result Result
}

// damage notes one.
func (v *verifier) damage(d Damage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.result.Damages) == maxDamages {
		v.result.More++
		return
	}
	v.result.Damages = append(v.result.Damages, d)
}

// read goes through the tar that a tar-split file stands for. Without content, zeros take
// the place of all files.
func (v *verifier) read(ctx context.Context, tarSplit io.Reader, content []string) error {
	pool, err := tarstream.NewBlockPool()
	if err != nil {
		return fmt.Errorf("map %d bytes of memory: %w", tarstream.Blocks*tarstream.BlockSize, err)
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel()

	stream, into := io.Pipe()
	defer stream.Close()
	fromTree := map[string]uint64{} // names of the files whose content isn't in it, and its checksum
	var names sync.Mutex
	var replayed error
	watch := tarsplit.Observer{
		File: func(name string, crc uint64) {
			names.Lock()
			fromTree[cleanName(name)] = crc
			names.Unlock()
		},
		Damaged: v.lost,
	}
	if content == nil {
		watch.Damaged = func(string, error) {} // zeros will do
	}
	stages.Go(func() {
		replayed = tarsplit.ReplayWith(ctx, into, tarSplit, content, watch)
		into.CloseWithError(replayed)
	})
	limits, progress := archive.Limits{MaxRatio: -1}, v.opts.Progress
	if limits.MaxBytes = v.opts.MaxBytes; !v.own {
		limits.MaxBytes, progress = 0, nil
	}
	src := tarstream.NewSource(ctx, stream, pool, limits.WithDefaults(), progress)
	src.Start(stages.Go)

	tr := &tarstream.Reader{In: &tarstream.Stream{Ctx: ctx, Pieces: src.Pieces, End: &src.End},
		Limit: archive.Limits{}.WithDefaults().MaxEntries}
	err = v.members(tr, func(name string) (uint64, bool) {
		names.Lock()
		defer names.Unlock()
		crc, ok := fromTree[name]
		delete(fromTree, name) // a second member of the name has its content in the tar-split file
		return crc, ok
	})
	if err != nil {
		cancel()
	}
	delete(v.expect.root.children, archive.AUFSLinks)
	stream.CloseWithError(err)
	stages.Wait()
	if ctx := context.Cause(ctx); err == nil && ctx != nil {
		return ctx
	}
	if err != nil {
		v.broken = true
		if replayed != nil && !errors.Is(replayed, err) && !errors.Is(replayed, context.Canceled) {
			err = replayed
		}
		if v.own {
			v.damage(Damage{What: err.Error(), Content: true})
		}
		return nil
	}
	if v.own {
		v.result.DiffSize = src.Written
		v.result.DiffID = digest.NewDigest(digest.SHA256, src.Uncompressed)
		v.result.UIDs, v.result.GIDs = v.uids.Sorted(), v.gids.Sorted()
	}
	return nil
}

// lost notes a file whose content isn't what it was.
func (v *verifier) lost(name string, why error) {
	v.damage(Damage{Path: "/" + cleanName(name), What: describeLoss(why), Content: true})
}

func describeLoss(why error) string {
	if layerdir.Absent(why) {
		return "is missing"
	}
	return why.Error()
}

// cleanName is a member's name as a path below the layer's root.
func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// members reads the members of a tar into the expectation. recorded tells the checksum of
// a file whose content the tar-split file leaves to the tree.
func (v *verifier) members(tr *tarstream.Reader, recorded func(name string) (uint64, bool)) error {
	for {
		h, err := tr.Next()
		if err == io.EOF { //nolint:errorlint // one that is wrapped is a failure of the source, not the archive's end
			return tr.Drain()
		}
		if err != nil {
			return fmt.Errorf("the tar that the tar-split file gives is broken: %w", err)
		}
		if base := path.Base(h.Name); v.own && h.Typeflag != tar.TypeXGlobalHeader &&
			!strings.HasPrefix(base, archive.WhiteoutPrefix) {
			v.uids.Add(uint32(h.Uid))
			v.gids.Add(uint32(h.Gid))
		}
		n := v.expect.add(h)
		sum := uint64(0)
		for left := h.Size; left > 0; {
			b, err := tr.In.Next(left)
			if err != nil {
				return fmt.Errorf("the tar that the tar-split file gives is broken: %w", tarstream.Unexpected(err))
			}
			left -= int64(len(b))
			if n != nil && h.Sparse == nil {
				sum = crc64.Update(sum, b)
			}
		}
		if n == nil {
			continue
		}
		if crc, ok := recorded(cleanName(h.Name)); ok {
			n.crc, n.checked = crc, v.own
		} else {
			// A second member of one name and the like: its content is in the tar-split
			// file, and nobody has looked at the tree's yet. Where the content belongs in
			// a file with holes, only its size is compared.
			n.crc, n.checked = sum, h.Sparse != nil
		}
	}
}
