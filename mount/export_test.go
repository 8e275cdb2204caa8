package mount

import "context"

// PerformByDescriptor is Perform with every directory handed over as a descriptor,
// however short its path.
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
	return withCopies(s, func(copies *mountCopies) error { return byAttachedCopies(s, copies) })
}
