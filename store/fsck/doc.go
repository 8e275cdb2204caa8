// Package fsck finds what is wrong in a store, puts it right, and removes what is left
// over.
//
// Check makes a list of findings: damage, and garbage. Each belongs to one object and
// carries a remedy. Repair carries out the remedies of such a list, the least harmful
// first, and looks again, until nothing is left that it can do something about. GC
// carries out one remedy alone, that of garbage.
//
// # What is garbage
//
// Records are written last and removed first, so an operation that was cut off leaves
// files that no record names. Those are garbage, if they are named like the store's own
// and no living process is at work on them. Everything else that has no record has lost
// it, and is damage: a layer that something needs, and whatever may belong to a file of
// records that is damaged or empty.
//
// # Locks
//
// Check holds the locks of layers, images and containers, shared, while it looks at
// records and at the files that they promise, and none while it reads content. Repair and
// GC take them exclusively for one small step after another; a layer is unpacked again
// without a lock.
package fsck
