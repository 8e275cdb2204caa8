package mount

import "context"

// PerformByString is Perform on a kernel from 6.8 to 6.12, where overlayfs takes directories by path only.
func PerformByString(ctx context.Context, s Spec) error {
	if s.Type == "bind" {
		return Perform(ctx, s)
	}
	return describe(s, configureAndMove(s, false))
}

// ErrNoContextAPI is what Perform falls back on.
var ErrNoContextAPI = errNoContextAPI

// IsPrivateByTable is IsPrivate on a kernel before 6.8.
var IsPrivateByTable = isPrivateByTable
