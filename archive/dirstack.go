package archive

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openLevels is how many of a dirStack's directories are kept open. Those above are found
// again by "..", so that a tree of any depth is walked with a bounded number of
// descriptors and without a path that grows too long.
const openLevels = 48

// dirStack is the way from a root down to the directory that is being read.
type dirStack struct {
	levels []dirLevel
}

type dirLevel struct {
	dir      *dirRef // nil while closed
	dev, ino uint64
}

func newDirStack(root *dirRef) (*dirStack, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root.fd, &st); err != nil {
		return nil, err
	}
	return &dirStack{levels: []dirLevel{{dir: root.retain(), dev: st.Dev, ino: st.Ino}}}, nil
}

// top is the current directory. It stays valid until the next push, pop or close, or for
// as long as the caller retains it.
func (s *dirStack) top() *dirRef { return s.levels[len(s.levels)-1].dir }

// device is the device number of the current directory.
func (s *dirStack) device() uint64 { return s.levels[len(s.levels)-1].dev }

// push goes down into the directory name.
func (s *dirStack) push(name string) error {
	fd, err := openDirAt(s.top().fd, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	s.levels = append(s.levels, dirLevel{dir: newDirRef(fd), dev: st.Dev, ino: st.Ino})
	// The root stays open: there is no way to climb to it that could be trusted more than
	// having it.
	if old := len(s.levels) - 1 - openLevels; old > 0 {
		s.levels[old].dir.release()
		s.levels[old].dir = nil
	}
	return nil
}

// pop goes back up.
func (s *dirStack) pop() error {
	last := len(s.levels) - 1
	left := s.levels[last].dir
	defer left.release()
	s.levels = s.levels[:last]
	up := &s.levels[last-1]
	if up.dir != nil {
		return nil
	}
	fd, err := openDirAt(left.fd, "..")
	if err != nil {
		return fmt.Errorf("go back to the parent directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	up.dir = newDirRef(fd)
	if st.Dev != up.dev || st.Ino != up.ino {
		return fmt.Errorf("go back to the parent directory: it was moved while it was read")
	}
	return nil
}

func (s *dirStack) close() {
	for _, l := range s.levels {
		if l.dir != nil {
			l.dir.release()
		}
	}
	s.levels = nil
}
