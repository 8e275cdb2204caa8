package layerdir

import (
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/xattr"
)

// OverlayNames are the attributes by which overlayfs keeps its books, in the form that
// the mount uses (userxattr: Linux 5.11).
type OverlayNames struct {
	Opaque, Redirect, Metacopy string
}

// OverlayNamesOf gives the names for one of the two forms.
func OverlayNamesOf(userXattr bool) OverlayNames {
	prefix := "trusted.overlay."
	if userXattr {
		prefix = "user.overlay."
	}
	return OverlayNames{Opaque: prefix + "opaque", Redirect: prefix + "redirect", Metacopy: prefix + "metacopy"}
}

// Marks looks for overlay's attributes on a file of an upper directory. It returns
// errdefs.ErrUnsupported when the file's content or place is not the upper's alone: then
// the upper cannot be read on its own.
func (n OverlayNames) Marks(r *xattr.Reader, f xattr.File) (opaque bool, err error) {
	names, err := r.List(f)
	if err != nil {
		return false, err
	}
	for name := range xattr.All(names) {
		switch string(name) {
		case n.Redirect, n.Metacopy:
			return false, fmt.Errorf("attribute %s: reading the upper directory alone: %w", name,
				errdefs.ErrUnsupported)
		case n.Opaque:
			value, ok, err := r.Get(f, n.Opaque)
			if err != nil {
				return false, err
			}
			// "x" only says that the directory may hold whiteouts in attribute form
			// (Linux 6.7).
			opaque = ok && string(value) == "y"
		}
	}
	return opaque, nil
}
