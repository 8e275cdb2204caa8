// Package graphdriver makes Shale's drivers graph drivers of containers/storage
// (go.podman.io/storage), for programs that link that library and keep its Store: their
// layers are then staged aside, unpacked by descriptor and mounted by Shale's code, in
// the same format as before.
//
// Nothing is registered by linking the package. A program does that itself, before it
// opens a store:
//
//	// graphdriver is go.podman.io/storage/drivers, shale is this package
//	err := graphdriver.Register("overlay", shale.Overlay)
//
// The name must be the driver's own, since the library makes it part of every path, and a
// store belongs to whoever reads its format rather than to one program. The library takes
// a name once. A program that imports go.podman.io/storage as a whole gets its drivers
// registered with it, and must be built with -tags exclude_graphdriver_overlay to have
// ours instead; vfs has no such tag.
//
// Wherever containers/storage asks a driver for something, the answer is what its own
// driver would give, with these differences. A layer that exists is changed as a whole or
// not at all (ApplyDiff, UpdateLayerIDMap). SyncMode is always "filesystem": what the
// library calls stored has been synced. A comparison of two mounted layers doesn't wait
// for the next second of the clock.
package graphdriver
