package catalog

import (
	"bytes"
	"fmt"

	"github.com/shalestore/shale/errdefs"
)

// damaged turns a fault of the grammar into an error that a person can act on.
func damaged(path string, data []byte, f *fault) error {
	line := 1 + bytes.Count(data[:f.offset], []byte{'\n'})
	found := "the file ends there"
	if !f.eof {
		found = fmt.Sprintf("found %q", data[f.offset:min(f.offset+16, len(data))])
	}
	return refused(path, fmt.Sprintf("byte %d (line %d): expected %s, %s", f.offset, line, f.want, found))
}

// refused is the error for a file that can't be read, whatever the reason: nothing will
// touch it until a person did.
func refused(path, why string) error {
	return fmt.Errorf(
		"%s is %w at %s; it was left as it is: repair it by hand, or put back a copy, while no program uses the store",
		path, errdefs.ErrCorrupt, why)
}
