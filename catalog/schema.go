package catalog

import "github.com/shalestore/shale/errdefs"

// Schema tells a Catalog about a kind of records. R is a struct with json tags, in the
// order of the members on disk. Two members have a fixed meaning in all files of the
// format: "id", a string, and "names", an array of strings.
type Schema[R any] struct {
	// Kind is what errors call a record: "layer", "image".
	Kind errdefs.Kind
	// ID returns the record's ID.
	ID func(*R) string
	// ValidID returns an error for what can't be the ID of such a record: IDs become
	// names of files. It may be nil.
	ValidID func(id string) error
	// Names returns the names of a record and SetNames replaces them. Both nil means that
	// records have no names.
	Names    func(*R) []string
	SetNames func(*R, []string)
	// Keys returns what a record can be found by beside its ID and its names: digests, a
	// parent. It may be nil.
	Keys func(*R) []Key
	// Alias is the kind of key that Lookup accepts after IDs and names: a container is
	// found by its layer. May be empty.
	Alias string
	// Hidden says that a record is not to be seen: it is half made or half deleted. It
	// may be nil.
	Hidden func(*R) bool
	// TokenTells says that whoever writes the files changes the lock's token, so that
	// with the same token they needn't be looked at. Of the format's files that is true
	// for all but those of the layers (format, section 4.5).
	TokenTells bool
	// HiddenMark is a word that the JSON of every hidden record contains. It saves
	// decoding all the others in the search for hidden ones; empty means that they have
	// to be.
	HiddenMark string
}

// Key is a further key of a record. Several records may have the same one.
type Key struct{ Kind, Value string }

// File is a file of records. In one Catalog the order of files matters: a record in an
// earlier file hides a record with the same ID in a later one.
type File struct {
	Path string
	// Volatile files are not synced: what they say is of no use after a reboot.
	Volatile bool
	// Lock is a second lock file, for a file that programs use by itself, too: it is
	// taken after the catalog's own, and given its token as well. "" for none.
	Lock string
}

// maxFileSize bounds what is read and written, about a million records.
const maxFileSize = 1 << 30
