package mount

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/sys/mountinfo"
)

// maxLine is how much of a line of the mount table is read. An overlay's options come
// last there and may take a megabyte (500 lower directories by path, in
// proc_pid_mountinfo(5)'s octal escapes); what stands before them, three paths of at most
// PATH_MAX among it, fits four times. The parser takes lines of less than 64 KiB.
const maxLine = 60 << 10

// readTable returns the mounts of this mount namespace that the filter keeps, without the
// tails of very long options. It reads the table of this thread, since another thread may
// be in another namespace.
func readTable(filter mountinfo.FilterFunc) ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if errors.Is(err, os.ErrNotExist) { // before Linux 3.17
		f, err = os.Open("/proc/self/mountinfo")
	}
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close()
	found, err := mountinfo.GetMountsFromReader(&shortLines{from: bufio.NewReaderSize(f, maxLine)}, filter)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return found, nil
}

// shortLines reads lines and cuts each off after maxLine bytes.
type shortLines struct {
	from *bufio.Reader
	rest []byte // of the line to hand out, in from's buffer
}

func (s *shortLines) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next reads a line, whose cut-off form is a copy, since finding its end overwrites the
// buffer.
func (s *shortLines) next() error {
	line, err := s.from.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = append(append([]byte(nil), line[:maxLine-1]...), '\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = s.from.ReadSlice('\n')
		}
	}
	s.rest = line
	if len(line) > 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
