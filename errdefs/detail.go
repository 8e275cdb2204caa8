package errdefs

import "fmt"

// Kind names what an error speaks of, in the words of its message.
type Kind string

// The kinds of object that errors name.
const (
	Layer     Kind = "layer"
	Image     Kind = "image"
	Container Kind = "container"
	DataItem  Kind = "data item"
	Mount     Kind = "mount"
	Store     Kind = "store"
	SubIDs    Kind = "subordinate IDs of user"
	AnyObject Kind = "layer, image or container"
)

// Missing is an ErrNotFound that says what is missing.
type Missing struct {
	Kind Kind
	Ref  string // what was asked for: an ID, a name, a prefix or a key
	Why  string // what else there is to say; may be empty
}

func (e Missing) Error() string {
	return fmt.Sprintf("%s %q: %v%s", e.Kind, e.Ref, ErrNotFound, after(e.Why))
}

// Is makes it an ErrNotFound.
func (e Missing) Is(target error) bool { return target == ErrNotFound }

// Duplicate is an ErrDuplicateName, or with an empty Name an ErrDuplicateID.
type Duplicate struct {
	Kind   Kind
	Name   string // the name that is taken; "" where it is the ID
	Holder string // the ID of the record that has it
}

func (e Duplicate) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%s %q: %v", e.Kind, e.Holder, ErrDuplicateID)
	}
	return fmt.Sprintf("%s name %q: %v by %s", e.Kind, e.Name, ErrDuplicateName, e.Holder)
}

// Is makes it an ErrDuplicateID or an ErrDuplicateName.
func (e Duplicate) Is(target error) bool {
	if e.Name == "" {
		return target == ErrDuplicateID
	}
	return target == ErrDuplicateName
}

// InUse is an ErrInUse that says what needs the object: a child layer, an image, a
// container, or with By Mount the mount of the layer ByID, which may be the object itself
// or one above it.
type InUse struct {
	Kind Kind
	ID   string
	By   Kind
	ByID string
}

func (e InUse) Error() string {
	switch {
	case e.By != Mount:
		return fmt.Sprintf("%s %s: %v by %s %s", e.Kind, e.ID, ErrInUse, e.By, e.ByID)
	case e.ByID == e.ID:
		return fmt.Sprintf("%s %s: %v: it is mounted", e.Kind, e.ID, ErrInUse)
	}
	return fmt.Sprintf("%s %s: %v: %s is mounted", e.Kind, e.ID, ErrInUse, e.ByID)
}

// Is makes it an ErrInUse.
func (e InUse) Is(target error) bool { return target == ErrInUse }

// OtherStore is an ErrReadOnly for an object that lies in a store which is only read.
type OtherStore struct {
	Kind  Kind
	ID    string
	Store string // its graph root, or the additional layer store's path
	Why   string // what can be done with it all the same; may be empty
}

func (e OtherStore) Error() string {
	return fmt.Sprintf("%s %s: %v: it is in the store %s%s", e.Kind, e.ID, ErrReadOnly, e.Store, after(e.Why))
}

// Is makes it an ErrReadOnly.
func (e OtherStore) Is(target error) bool { return target == ErrReadOnly }

// CorruptFile is an ErrCorrupt for a file of the store's own that can't be read. Nothing
// writes to such a file.
type CorruptFile struct {
	Path string
	At   string // the place of the first fault, and what is wrong there
	Err  error  // the decoder's, or nil
}

func (e CorruptFile) Error() string {
	msg := fmt.Sprintf("%s is %v at %s; it was left as it is", e.Path, ErrCorrupt, e.At)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is makes it an ErrCorrupt.
func (e CorruptFile) Is(target error) bool { return target == ErrCorrupt }

func (e CorruptFile) Unwrap() error { return e.Err }

// Locked is an ErrBusy for a lock that somebody else holds.
type Locked struct {
	Path string
	PID  int   // of the holder; 0 where the kernel doesn't tell
	Err  error // the context's or the kernel's
}

func (e Locked) Error() string {
	by := ""
	if e.PID > 0 {
		by = fmt.Sprintf(" by process %d", e.PID)
	}
	return fmt.Sprintf("lock %s: %v: held%s: %v", e.Path, ErrBusy, by, e.Err)
}

// Is makes it an ErrBusy.
func (e Locked) Is(target error) bool { return target == ErrBusy }

func (e Locked) Unwrap() error { return e.Err }

// Unsupported is the plain error's detailed form: an ErrUnsupported that says what would
// have to change. Advice that goes beyond Cure has nothing to add.
type Unsupported struct {
	What string // what was asked for
	By   string // who can't do it: "by the vfs driver", "on ext4"; may be empty
	// Setting is the key of storage.conf(5) that asked for it; "" where none did.
	Setting string
	Cure    string // what to change; may be empty
}

func (e Unsupported) Error() string {
	msg := e.What
	if e.Setting != "" && e.What == "" {
		msg = "setting " + e.Setting
	}
	msg += ": " + ErrUnsupported.Error()
	if e.By != "" {
		msg += " " + e.By
	}
	return msg + after(e.Cure)
}

// Is makes it an ErrUnsupported.
func (e Unsupported) Is(target error) bool { return target == ErrUnsupported }

// AttributeTooLarge is an ErrInvalid for an extended attribute that the file system can't
// hold. ext4 answers ENOSPC then, with all the room there is (xattr(7), "Filesystem
// differences"), so the errno isn't in the chain: it would speak of a full disk.
type AttributeTooLarge struct {
	Name string
	Size int // of the value, in bytes
}

func (e AttributeTooLarge) Error() string {
	return fmt.Sprintf("set attribute %q: %v: %d bytes are more than the file system holds", e.Name, ErrInvalid, e.Size)
}

// Is makes it an ErrInvalid.
func (e AttributeTooLarge) Is(target error) bool { return target == ErrInvalid }

func after(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
