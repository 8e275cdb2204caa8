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
	at := fmt.Sprintf("byte %d (line %d): expected %s, %s", f.offset, line, f.want, found)
	return errdefs.CorruptFile{Path: path, At: at}
}
