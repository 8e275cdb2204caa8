package mount

import (
	"context"

	"github.com/shalestore/shale/idtools"
)

// PerformByDescriptor is Perform with every directory handed over as a descriptor, however short its path.
func PerformByDescriptor(ctx context.Context, s Spec) error {
	if s.Type == "bind" {
		return Perform(ctx, s)
	}
	return describe(s, byContext(s, true))
}

// IsPrivateByTable is IsPrivate on a kernel before 6.8.
var IsPrivateByTable = isPrivateByTable

// PerformAttached is Perform with an ID map where detached mounts are refused.
func PerformAttached(ctx context.Context, s Spec) error {
	ns, err := idtools.OpenUserNamespace(*s.IDMap)
	if err != nil {
		return err
	}
	defer ns.Close()
	copies, err := mapCopies(s.Lower[s.Unmapped:], ns)
	if err != nil {
		return err
	}
	defer copies.close()
	return byAttachedCopies(s, copies)
}
