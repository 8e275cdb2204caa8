package tarstream

import (
	"fmt"
	"path"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// CutLast cuts the last component off a path.
func CutLast(path string) (dir, base string, found bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, false
}

// Place is where a member goes, by its name alone.
type Place struct {
	Dir  string // path of the parent, clean, relative to the layer's root; "" is the root
	Base string // last component; "" for the root itself
}

// ParseName cleans a name, as text. A leading slash stands for the layer's root. Names
// that climb above where they start are refused: they have no honest meaning.
func ParseName(name string) (Place, error) {
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return Place{}, fmt.Errorf("%w: the name leads out of the layer", errdefs.ErrInvalid)
	}
	if len(clean) >= unix.PathMax {
		return Place{}, fmt.Errorf("%w: the name has %d bytes: %w", errdefs.ErrInvalid, len(clean), unix.ENAMETOOLONG)
	}
	clean = strings.TrimPrefix(clean, "/")
	if clean == "." {
		clean = ""
	}
	dir, base, _ := CutLast(clean)
	return Place{dir, base}, nil
}
