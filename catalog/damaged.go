package catalog

import (
	"bytes"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/jsonscan"
)

// damaged turns a fault of the grammar into an error that a person can act on.
func damaged(path string, data []byte, f *jsonscan.Fault) error {
	line := 1 + bytes.Count(data[:f.Offset], []byte{'\n'})
	found := "the file ends there"
	if !f.EOF {
		found = fmt.Sprintf("found %q", data[f.Offset:min(f.Offset+16, len(data))])
	}
	at := fmt.Sprintf("byte %d (line %d): expected %s, %s", f.Offset, line, f.Want, found)
	return errdefs.CorruptFile{Path: path, At: at}
}
