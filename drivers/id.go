package drivers

import (
	"fmt"

	"github.com/shalestore/shale/errdefs"
)

// MaxIDLength is the longest layer ID in bytes. File names end at 255, and the store
// makes longer ones out of an ID.
const MaxIDLength = 240

// ValidateID checks a layer's ID, which becomes the name of a directory and a member of
// lists that are separated by colons. IDs are usually 64 hexadecimal digits, but the
// format doesn't ask for that: an ID begins with a letter or digit, goes on with letters,
// digits, '_', '.' and '-', and has at most MaxIDLength bytes. Anything else is
// errdefs.ErrInvalid.
func ValidateID(id string) error {
	if id == "" {
		return fmt.Errorf("layer ID: %w: it is empty", errdefs.ErrInvalid)
	}
	if len(id) > MaxIDLength {
		return fmt.Errorf("layer ID %.20q…: %w: longer than %d bytes", id, errdefs.ErrInvalid, MaxIDLength)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return fmt.Errorf("layer ID %q: %w: %q can't stand at byte %d", id, errdefs.ErrInvalid, c, i)
		}
	}
	return nil
}
