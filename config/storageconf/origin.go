package storageconf

import (
	"fmt"
	"strconv"

	"github.com/shalestore/shale/errdefs"
)

// Origin is where a setting was made: a line of a file, a variable of the environment, a
// flag, or none of them, for a default.
type Origin struct {
	File string
	Line int    // from 1
	Env  string // the variable's name
	Flag string // with its dashes
}

// String is "file:line", "environment NAME", "flag --name" or "default".
func (o Origin) String() string {
	switch {
	case o.File != "" && o.Line > 0:
		return o.File + ":" + strconv.Itoa(o.Line)
	case o.File != "":
		return o.File
	case o.Env != "":
		return "environment " + o.Env
	case o.Flag != "":
		return "flag " + o.Flag
	}
	return "default"
}

// Warning is about something in the configuration that has no effect or will lose it some
// day.
type Warning struct {
	Origin Origin
	Text   string
}

// String is one line for people: the place, then what is the matter there.
func (w Warning) String() string { return w.Origin.String() + ": " + w.Text }

// wrong is the error for a bad value of a key.
func wrong(at Origin, key, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w: %w", at, key, errdefs.ErrInvalid, fmt.Errorf(format, args...))
}
