package layerdir

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openLevels is how many of a Stack's directories are kept open. Those above are found
// again by "..", so that a tree of any depth is walked with a bounded number of
// descriptors and without a path that grows too long.
const openLevels = 48

// Stack is the way from a root down to the directory that is being read.
type Stack struct {
	levels []dirLevel
}

type dirLevel struct {
	dir      *Dir // nil while closed
	dev, ino uint64
}

func NewStack(root *Dir) (*Stack, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root.FD, &st); err != nil {
		return nil, err
	}
	return &Stack{levels: []dirLevel{{dir: root.Retain(), dev: st.Dev, ino: st.Ino}}}, nil
}

// Top is the current directory. It stays valid until the next push, pop or close, or for
// as long as the caller retains it.
func (s *Stack) Top() *Dir { return s.levels[len(s.levels)-1].dir }

// Device is the device number of the current directory.
func (s *Stack) Device() uint64 { return s.levels[len(s.levels)-1].dev }

// Push goes down into the directory name.
func (s *Stack) Push(name string) error {
	fd, err := OpenDirAt(s.Top().FD, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	s.levels = append(s.levels, dirLevel{dir: NewDir(fd), dev: st.Dev, ino: st.Ino})
	// The root stays open: there is no way to climb to it that could be trusted more than
	// having it.
	if old := len(s.levels) - 1 - openLevels; old > 0 {
		s.levels[old].dir.Release()
		s.levels[old].dir = nil
	}
	return nil
}

// ErrMoved tells of a deep directory that there is no way back from.
var ErrMoved = errors.New("it was moved or removed while it was read")

// Pop goes back up.
func (s *Stack) Pop() error {
	last := len(s.levels) - 1
	left := s.levels[last].dir
	defer left.Release()
	s.levels = s.levels[:last]
	up := &s.levels[last-1]
	if up.dir != nil {
		return nil
	}
	fd, err := OpenDirAt(left.FD, "..")
	if err != nil {
		return fmt.Errorf("go back to the parent directory: %w: %w", ErrMoved, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	up.dir = NewDir(fd)
	if st.Dev != up.dev || st.Ino != up.ino {
		return fmt.Errorf("go back to the parent directory: %w", ErrMoved)
	}
	return nil
}

func (s *Stack) Close() {
	for _, l := range s.levels {
		if l.dir != nil {
			l.dir.Release()
		}
	}
	s.levels = nil
}
