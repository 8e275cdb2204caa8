package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
)

// Changes is a WriteTx, whatever its records are.
type Changes interface {
	// Save is SaveTogether for one.
	Save() error

	stage(*save) error
	saved(err error)
}

// SaveTogether makes everything durable that was changed so far in these transactions,
// before they end: a deletion saves before it takes the files of a layer away. Files
// without a change are not written. After an error all these transactions are over, and
// whether the changes are on disk is for the next ones to find out.
//
// The files are renamed into place one after the other, in the order of the arguments,
// and synced in that order: whoever finds the change of a later one finds that of the
// earlier ones too, after a kill. So the number of syncs is that of one save, not of all.
func SaveTogether(all ...Changes) error {
	err := saveTogether(all)
	for _, tx := range all {
		tx.saved(err)
	}
	return err
}

func saveTogether(all []Changes) (err error) {
	var s save
	defer func() {
		for _, f := range s.files { // which removes what isn't in its place
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}
	}()
	for _, tx := range all {
		if err := tx.stage(&s); err != nil {
			return err
		}
	}
	return s.publish()
}

// Save makes everything that was changed so far durable, before the transaction ends; see
// SaveTogether.
func (tx *WriteTx[R]) Save() error { return SaveTogether(tx) }

// SyncBefore has a whole file system synced before the records saved next are seen: they
// promise what was written there. Where it is the one that the records are on, they need
// no syncs of their own then.
func (tx *WriteTx[R]) SyncBefore(fs *fsat.Syncer) { tx.after = append(tx.after, fs) }

// save is what several transactions want to have in their files.
type save struct {
	barrier fsat.Barrier // what must be on disk before the next names are seen
	files   []nextFile
}

type nextFile struct {
	*atomicfile.Next
	file    File
	state   *fileState
	reserve bool // its reserve may be missing or too small
	inPlace func()
}

// stage writes the files aside. The token comes first, so that nobody can hold the old
// content to be current.
func (tx *WriteTx[R]) stage(s *save) error {
	if err := tx.check(); err != nil || !tx.unsaved() {
		return err
	}
	if err := tx.settleNames(); err != nil {
		return err
	}
	for i, f := range tx.c.files {
		if size := tx.st.files[i].size(); tx.dirty[i] && size > maxFileSize {
			return fmt.Errorf("save %s: %w: its %d bytes are more than the limit of %d", f.Path,
				errdefs.ErrInvalid, size, maxFileSize)
		}
	}
	token, err := tx.locks.touch()
	full := atomicfile.IsFull(err)
	if full { // Btrfs writes nothing in place
		for i, f := range tx.c.files {
			if tx.dirty[i] {
				err = errors.Join(err, atomicfile.GiveUpReserve(f.Path))
			}
		}
		token, err = tx.locks.touch()
	}
	if err != nil {
		return err
	}
	tx.st.token, tx.st.wroteToken = token, true
	step.Reached(tx.ctx, string(tx.c.schema.Kind)+" token written")
	s.barrier.Gauge = &tx.c.gauge
	for _, fs := range tx.after {
		s.barrier.AddFS(fs)
	}
	for i, f := range tx.c.files {
		if !tx.dirty[i] {
			continue
		}
		state := &tx.st.files[i]
		next, err := prepare(f.Path, state.splice)
		if err != nil {
			return err
		}
		if !f.Volatile {
			next.AddTo(&s.barrier)
		}
		s.files = append(s.files, nextFile{next, f, state, full ||
			next.Stat().Size > max(state.stamp.size, state.reserve),
			func() { step.Reached(tx.ctx, string(tx.c.schema.Kind)+" records written") }})
	}
	return nil
}

// saved ends the transaction after an error. Without one all is saved.
func (tx *WriteTx[R]) saved(err error) {
	if err != nil {
		tx.broken = err
		tx.end()
		return
	}
	clear(tx.dirty)
	tx.after = nil
}

func prepare(path string, fill func(*bufio.Writer) error) (*atomicfile.Next, error) {
	next, err := atomicfile.Prepare(path, 0o600, fill)
	if errors.Is(err, fs.ErrNotExist) {
		root, rel := beneathRoot(path)
		if err := openat.MakeDirs(root, filepath.Dir(rel)); err != nil {
			return nil, err
		}
		next, err = atomicfile.Prepare(path, 0o600, fill)
	}
	if atomicfile.IsFull(err) {
		if spare, rerr := atomicfile.PrepareInReserve(path, 0o600, fill); rerr == nil {
			return spare, nil
		}
	}
	return next, err
}

// publish renames what is written aside into place, durably where that is asked for:
// first the contents, then the names.
func (s *save) publish() error {
	if err := s.barrier.Sync(); err != nil {
		return err
	}
	for _, f := range s.files {
		if err := f.Rename(); err != nil {
			return err
		}
		f.state.hidden = nil
		f.state.stamp = stampOf(f.Stat())
		if !f.file.Volatile {
			s.barrier.AddDir(filepath.Dir(f.file.Path), f.Stat().Dev)
		}
		f.inPlace()
	}
	if err := s.barrier.Sync(); err != nil {
		return err
	}
	for _, f := range s.files {
		if f.reserve {
			f.state.reserve = atomicfile.KeepReserve(f.file.Path, f.Stat().Size)
		}
	}
	return nil
}

// splice writes the file's array from the elements' own bytes.
func (f *fileState) splice(w *bufio.Writer) error {
	_ = w.WriteByte('[') // bufio keeps the first error
	for i, e := range f.elements {
		if i > 0 {
			_ = w.WriteByte(',')
		}
		_, _ = w.Write(e.raw)
	}
	return w.WriteByte(']')
}

func (f *fileState) size() int {
	n := 1 + max(1, len(f.elements))
	for _, e := range f.elements {
		n += len(e.raw)
	}
	return n
}
