package fsck

import (
	"context"
	"fmt"
	"slices"
)

// Report is what Check has found. An empty one says that the store is sound.
type Report struct {
	Findings []Finding `json:"findings"`
	// Notes are findings that are no damage, and that nothing needs to be done about.
	Notes []Finding `json:"notes,omitempty"`

	names map[Object][]string
}

// Finding is one thing that is wrong, or left over, and belongs to one object.
type Finding struct {
	Object
	// ReadOnly objects lie in additional stores, where nothing can be repaired.
	ReadOnly bool `json:"read-only,omitempty"`
	// Names are those of the object, if it has a record.
	Names []string `json:"names,omitempty"`
	// What says it in words, after those of containers/storage where it knows the damage.
	What string `json:"what"`
	// Path is the file concerned, where What doesn't tell; absolute.
	Path string `json:"path,omitempty"`
	// Remedy is what Repair does about it.
	Remedy Remedy `json:"remedy,omitempty"`
	// Affects are the objects that can't do without this one, and go with it where the
	// remedy is to delete it.
	Affects []Object `json:"affects,omitempty"`

	key   string // of a data item
	exact bool   // the layer's own tar can still be put together
	soft  bool   // to be deleted only if nobody needs it
	// fix puts it right, where no other finding matters for that, and says what it has
	// done.
	fix func(context.Context) (did string, err error)
}

// Object names something in a store.
type Object struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`
}

func (o Object) String() string { return string(o.Kind) + " " + o.ID }

// Kind is a kind of object.
type Kind string

// The kinds of object. The ID of a file is its path, that of records the name of their
// kind: "layers".
const (
	KindLayer     Kind = "layer"
	KindImage     Kind = "image"
	KindContainer Kind = "container"
	KindRecords   Kind = "records of"
	KindFile      Kind = "file"
)

// Remedy is what can be done about a finding.
type Remedy string

// The remedies.
const (
	// RemedyNone: the object is in an additional store.
	RemedyNone Remedy = ""
	// RemedyDiscard removes what belongs to nothing. It is garbage: GC does it, too.
	RemedyDiscard Remedy = "remove"
	// RemedyMend makes the driver's small files of a layer anew.
	RemedyMend Remedy = "make anew"
	// RemedyRebuild unpacks the layer again, from its own tar if that can still be put
	// together, else from that of a layer that has the same digest. Where there is none
	// it is RemedyDelete.
	RemedyRebuild Remedy = "unpack again or delete"
	// RemedyRecord corrects the record from what the files say.
	RemedyRecord Remedy = "correct the record"
	// RemedyAdopt makes a record for a layer that has lost its own. Where its files don't
	// tell enough they are garbage.
	RemedyAdopt Remedy = "record again"
	// RemedyRestore writes a data item again from a copy; where there is none it is
	// RemedyDelete.
	RemedyRestore Remedy = "restore or delete"
	// RemedyForget takes the name of what is gone out of the record.
	RemedyForget Remedy = "forget"
	// RemedyDelete deletes the object with all that needs it: a layer's children, their
	// images; containers only by force.
	RemedyDelete Remedy = "delete"
	// RemedySalvage keeps the records that can be read, and a copy of the file as it was.
	RemedySalvage Remedy = "keep what can be read"
	// RemedyAside moves what is in the place of something else to a name beside it.
	RemedyAside Remedy = "move aside"
	// RemedyToken writes a new token into a lock file.
	RemedyToken Remedy = "write a token"
)

// String is the finding on one line, beginning with its object.
func (f Finding) String() string {
	kind := string(f.Kind) + " "
	if f.ReadOnly {
		kind = "read-only " + kind
	}
	return fmt.Sprintf("%s%s: %s", kind, f.ID, f.What)
}

// inOther makes it one of an object in an additional store, if it is.
func (f *Finding) inOther(readOnly bool) {
	if f.ReadOnly = readOnly; readOnly {
		f.Remedy = RemedyNone
	}
}

// Garbage reports whether it is something that no record knows, and that GC removes.
func (f Finding) Garbage() bool { return f.Remedy == RemedyDiscard }

// Empty reports whether nothing was found.
func (r Report) Empty() bool { return len(r.Findings) == 0 }

// Garbage is the part of the report that GC deals with.
func (r Report) Garbage() Report {
	return r.only(Finding.Garbage)
}

// Damage is the part of the report that GC doesn't deal with.
func (r Report) Damage() Report {
	return r.only(func(f Finding) bool { return !f.Garbage() })
}

func (r Report) only(which func(Finding) bool) Report {
	some := Report{names: r.names}
	for _, f := range r.Findings {
		if which(f) {
			some.Findings = append(some.Findings, f)
		}
	}
	return some
}

// Of is the part of the report about one kind of object.
func (r Report) Of(kind Kind) []Finding {
	return r.only(func(f Finding) bool { return f.Kind == kind }).Findings
}

// Names are those of an object in the report, if it has a record.
func (r Report) Names(o Object) []string { return r.names[o] }

// Objects are those that the report is about, each once, in the order of the findings.
func (r Report) Objects() []Object {
	var all []Object
	for _, f := range r.Findings {
		if !slices.Contains(all, f.Object) {
			all = append(all, f.Object)
		}
	}
	return all
}

// note adds what is no damage.
func (r *Report) note(kind Kind, id, format string, args ...any) {
	r.Notes = append(r.Notes, Finding{Object: Object{kind, id}, What: fmt.Sprintf(format, args...)})
}

func (r *Report) add(kind Kind, id string, remedy Remedy, format string, args ...any) *Finding {
	r.Findings = append(r.Findings, Finding{Object: Object{kind, id}, Remedy: remedy,
		What: fmt.Sprintf(format, args...)})
	return &r.Findings[len(r.Findings)-1]
}
