// Package images keeps the records of images and the data items beside them.
//
// An image is a name tag: it points at its top layer and carries a manifest, a config and
// signatures as data items. It owns no layer, and this package knows none. What may be
// deleted when is the store package's business, which sees layers and containers too.
//
// The records are in images.json under images.lock. The items of an image are files in
// <id>/ beside it, and <id>/userdata, there and in the run root, belongs to the programs
// that use the store.
//
// An image is created in an order that a crash can't spoil: its items first, as files in
// a directory that nothing names yet, then the record in one durable save. Deleting goes
// the other way round.
package images
