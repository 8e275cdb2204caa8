// Package layers keeps the records of layers in step with their files.
//
// A layer has a record in layers.json (or volatile-layers.json), a directory that the
// driver keeps, perhaps the tar-split file of the tar it came from (<id>.tar-split.gz)
// and perhaps data items (<id>/). All of them belong to whoever holds layers.lock: shared
// to look and to mount, exclusive to change. View and Update take it, and hand out a
// transaction; what needs the lock is a method of that transaction. Bytes never flow
// while the lock is held.
//
// # How a layer comes to be
//
// A Draft is a layer that nobody sees yet. Importing one goes
//
//	d, err := s.Prepare(ctx, parent, opts)  // the driver stages a directory aside
//	err = d.Fill(ctx, tar)                  // unpack, digest, write the tar-split file: minutes, without a lock
//	err = d.Sync(ctx)                       // syncfs, whose error counts, as does that of those beside Fill
//	err = s.Update(ctx, func(tx *WriteTx) error {
//		layer, err := tx.Commit(ctx, d)     // check again, rename in, save the record
//		...
//	})
//	d.Close()                               // after an error, this removes all of it
//
// The record is saved last, so that it never names a layer that isn't whole. If the
// process dies before, what it staged is in a temporary directory whose lock is free, or,
// for the instant between the rename and the save, in a layer directory without a record.
// The next writer removes the first, garbage collection the second.
//
// # Which sync
//
// A draft must be on disk before its record is. Three methods see to that, and every
// draft is for one of them, after Fill and before Update:
//
//   - Sync writes all of the draft to disk, however long that takes. It is for one layer
//     with content, and for new content of a layer that exists. Commit then syncs the
//     names that it changes one by one.
//   - SyncOrPostpone is for a new layer that may well be empty, as a container's is.
//     Where next to nothing waits to be written on the file system, it does nothing: the
//     save of the record, which is made under the lock, begins with one sync of the file
//     system, and that covers the layer and the names. Where much waits it is Sync, since
//     nobody shall hold a lock while a disk swallows gigabytes. A volatile layer isn't
//     synced at all.
//   - SyncTogether is for the layers of an image, drafts of which each lies on the one
//     before. It syncs the file system once for all of them. They must be added in one
//     transaction then.
//
// Whichever it is, its error is final. The kernel tells once that it couldn't write
// something and marks the pages clean, so a second sync would succeed and prove nothing.
//
// # Other content
//
// Applying a diff to a layer that exists is the same with the layer's own content copied
// first; the new content then takes the place of the old in one rename. If the layer is
// mounted, the tar is unpacked through the mount instead.
//
// # ID maps
//
// A record's map tells the owners of the layer's own files. Where the driver translates
// while mounting (drivers.Shifter), only containers' layers have a map, and what they lie
// on has none: Mount translates that. Elsewhere the layers beneath have the same map;
// Prepare and PrepareCopy make it so (drivers.Staged.Remap).
//
// # How a layer goes
//
// WriteTx.Delete takes the record out and makes that durable, then has the driver rename
// the directory away. The files are removed when the lock has been released. A process
// that dies in between leaves files without a record, never a record without its files.
//
// Other programs mark a layer as incomplete while they create or delete it. To readers
// such a layer does not exist; the next Update that comes along finishes the deletion.
//
// # Mounting
//
// The driver describes mounts and this package performs them. How often a layer is
// mounted is kept in mountpoints.json in the run root, for all processes together: the
// first Mount mounts, the last Unmount unmounts. Mounting needs layers.lock only shared,
// so that a mount waits for no reader. After a reboot the run root is empty, and so are
// the counts.
//
// # An example
//
// Process A imports layer c on top of b. While it unpacks, process B deletes b: B finds
// no child of b, and b goes. When A comes to commit, the parent is missing; Commit says
// so with errdefs.ErrNotFound, and Close takes away what A staged. Had A committed first,
// B would have been refused with errdefs.ErrInUse.
package layers
