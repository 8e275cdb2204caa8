// Package store is the front door: it opens the roots of a store and ties layers, images
// and containers together.
//
// # What a store is
//
// A store is two directories. The graph root holds what lasts, in the format that Podman,
// Buildah, Skopeo and CRI-O share: the driver's directories of layers (overlay/), and the
// records and data of layers, images and containers (overlay-layers/, overlay-images/,
// overlay-containers/). The run root holds what a reboot may take: the list of mounts and
// some files of containers. Any number of processes may have the same store open,
// containers/storage among them; a Store is one process's handle. Open makes one without
// touching the disk; what is missing is made when it is first needed.
//
// A layer is a set of changes to the layer beneath it. An image is a name for a layer,
// with a manifest and a config. A container is a writable layer of its own on top of an
// image's, with the settings to mount it. The packages layers, images and containers keep
// the three kinds of record; this one keeps the rules between them:
//
//   - a layer isn't deleted while it has a child, or an image or a container is made of
//     it;
//   - an image isn't deleted while a container is made from it, and takes with it the
//     layers that nobody else needs;
//   - a container comes and goes together with its layer, and that layer is nobody's
//     parent.
//
// # References
//
// Where a method takes a reference, it is an ID, a name or the unique beginning of an ID.
// A container can be found by its layer's ID too. Layers, images and containers each have
// names and IDs of their own kind: the same one may mean one of each.
//
// # Errors
//
// Errors wrap the classes of package errdefs and keep the kernel's error beneath. What a
// method doesn't say of its own holds for all:
//
//   - errdefs.ErrNotFound: a reference means nothing, or several things; there is no data
//     item under the key;
//   - errdefs.ErrReadOnly: what is to be changed, deleted or mounted is in an additional
//     store;
//   - errdefs.ErrCorrupt: a file of records can't be read, or a layer's own files are
//     damaged: see package fsck;
//   - errdefs.ErrUnsupported: the kernel, the file system or the driver can't do it, when
//     the driver is chosen or later;
//   - errdefs.ErrInvalid: an argument breaks its grammar, or the Store is closed;
//   - the error of the context, when that has ended.
//
// # Promises
//
// What has been answered with nil survives a crash and a power cut, volatile containers
// excepted. What fails, or is cancelled through its context, has changed nothing. After a
// crash at any moment, that of a recovery included, the store opens without help: what it
// lists is whole, and what was under way is garbage that nobody sees. The next writer
// removes most of it, fsck.GC the rest, and fsck.Check lists it. What else may happen to
// files, fsck.Check finds as well, and fsck.Repair keeps what can be kept.
//
// # Locks
//
// Each kind of record has a lock file. A method holds them only while it reads or changes
// records, never while a tar is unpacked, a diff is written or files are removed. Who
// needs several takes them in the order layers, images, containers.
//
// Looking at records, and changing names, metadata and data items, goes through View and
// Update, which give a transaction over all three kinds. It locks a kind when that is
// first asked for. The methods of Store are what takes longer than a lock may be held:
// they stage, mount, copy, measure and delete.
//
// # Concurrency
//
// All methods of Store may be called from several goroutines, and beside other processes.
// Those of a ReadTx or a WriteTx are for the goroutine that runs its function, until that
// returns; what they return belongs to the caller.
//
// # For example
//
// A build has two steps. It imports the base layer if it isn't there: ImportLayer with an
// ID made from the layer's digest, where errdefs.ErrDuplicateID means that another build
// was faster, and the layer it needs comes with the error. For each step it creates a
// container on the last image, mounts it, runs a command in it and unmounts it; then
// Commit makes a layer of what the command changed, CreateImage an image with that on
// top, and DeleteContainer removes the container. If the build dies half way, its
// container is still there, among those that ReadTx.Containers lists, and nothing else;
// as long as it is, the image that it stands on isn't deleted.
//
// A cleaner removes images by age: DeleteImage with commit false tells which layers would
// go. While it runs, somebody creates a container from one of the images; DeleteImage
// then says errdefs.ErrInUse, and no layer is gone.
//
// A program that shows what there is looks at everything in one View, and so sees one
// moment of the store:
//
//	err := s.View(ctx, func(tx *store.ReadTx) error {
//		images, err := tx.Images()
//		...
//		containers, err := tx.Containers()
//		...
//	})
//
// It then measures, with Size, what it wants to know the size of. What is deleted
// meanwhile is errdefs.ErrNotFound.
package store
