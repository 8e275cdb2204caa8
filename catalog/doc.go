// Package catalog keeps the record files of a store: JSON arrays that other programs read
// and write too.
//
// A Catalog ties one lock to one or more files of records of one kind, say layers.lock to
// layers.json and volatile-layers.json. Like in bbolt, all access goes through closures:
// View runs one with the lock shared and a ReadTx, Update runs one with the lock
// exclusive and a WriteTx, and what needs the lock is a method of the transaction, so
// that it can't be called without. When the closure of Update returns nil, what it
// changed is on disk before Update returns; when it returns an error nothing has
// happened.
//
// # Reading
//
// The files may hold thousands of records of which a short-lived process wants one. So a
// file is read once from end to end, which checks that it is JSON and finds where each
// record starts, which ID it has and where its names are, and only the records that are
// asked for get decoded. IDs are indexed on the way, names the first time a name matters,
// and other keys never, because looking for a digest's bytes in a few megabytes of memory
// costs less than building an index of them.
//
// What was read is kept until the token in the lock file, or a file's modification time,
// size or inode, says that someone wrote. Records come back as fresh copies that the
// caller may change.
//
// # Writing
//
// A save splices: records that were not touched keep their bytes, whoever wrote them, and
// only a changed record is encoded again, in the order of the fields of its type, as
// encoding/json does it. Members of it whose value is still the same keep their bytes, so
// that nothing is lost that a struct can't hold. Members that the type does not know are
// kept behind the known ones: they belong to a newer version of some program. Files
// without a change are not written at all.
//
// The order of steps is what makes this safe next to other programs and next to a power
// cut: a new token into the lock file, the content into a temporary file, fdatasync,
// rename, fsync of the directory, and only then the lock is given back.
//
// Several catalogs can be saved as one, by SaveTogether: a container and its layer come,
// and go, in one save of two files. The files are renamed in one after the other, in the
// order of the arguments, so that whoever finds the later change finds the earlier one.
//
// # Names
//
// A name belongs to one record. Programs that raced have made files in which it belongs
// to two; the later one has it then, for all who read, and the next save writes it so.
// Contradictions tells of such records.
//
// # Other stores
//
// Stack lets one transaction read the catalogs of several stores, of which only the first
// is written. A record counts where it is found first.
//
// # Damage
//
// A file that is not a JSON array of objects is refused with errdefs.CorruptFile, which
// names the place of the first fault. The catalog then neither reads nor writes any of
// its files: whatever it wrote would make the damage permanent. Salvage, which somebody
// has to ask for, keeps the records before the fault and a copy of the file as it was.
//
// # Where is what
//
// scan.go finds the records in a file's bytes, decode.go and encode.go turn
// them into structs and back. state.go is what one process knows of the files, read.go
// and write.go the transactions over it, names.go whose a name is, save.go the order of a
// save, locks.go the locks, stack.go several stores, salvage.go damage, and
// mountpoints.go the table of mounts.
package catalog
