package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/idtools/userns"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// advised is an error of which the command knows better than advice what can be done
// about it.
type advised struct {
	error
	advice string
}

func (e advised) Unwrap() error { return e.error }

// advice says what a person can do about an error of a command, or "" when the error says
// it all. It goes by the class of the error, never by its words.
func advice(command *cobra.Command, err error) string {
	var usage usageError
	if errors.As(err, &usage) {
		return "usage: " + command.UseLine()
	}
	text := cure(err)
	if path := grammarOf(command); path != "shale" {
		text = strings.ReplaceAll(text, "`shale ", "`"+path+" ")
	}
	return text
}

func cure(err error) string {
	var (
		known       advised
		missing     errdefs.Missing
		duplicate   errdefs.Duplicate
		inUse       errdefs.InUse
		elsewhere   errdefs.OtherStore
		corrupt     errdefs.CorruptFile
		locked      errdefs.Locked
		unsupported errdefs.Unsupported
		attribute   errdefs.AttributeTooLarge
		outside     idtools.OutsideMap
	)
	permission := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch {
	case errors.As(err, &known):
		return known.advice
	case isFull(err):
		return "the disk is full: `shale gc` removes what interrupted commands left, `shale usage` shows what " +
			"takes the rest"
	case permission && !errors.Is(err, errdefs.ErrInvalid) && userns.IsRootless(os.LookupEnv):
		// of invalid input the input has to change
		return "are you the user who owns this store? `shale unshare` gives an ordinary user the rights over their own"
	case errors.As(err, &outside):
		text := "`--storage-opt ignore_chown_errors=true` gives what has other owners to you"
		if command := userns.Usermod(outside, idtools.SubIDFiles{}); command != "" {
			text = "as root `" + command + "` gives you these IDs; " + text
		}
		return text
	case errors.As(err, &missing):
		return cureMissing(missing)
	case errors.As(err, &duplicate) && duplicate.Name != "":
		return fmt.Sprintf("choose another, or take it away there: `shale remove-names --name %s %s`",
			shellWord(duplicate.Name), shortID(duplicate.Holder))
	case errors.As(err, &duplicate):
		return "choose another, or leave --id away and have one drawn"
	case errors.As(err, &inUse):
		return cureInUse(inUse)
	case errors.As(err, &elsewhere):
		return "change it where it was made: the same with `--graph " + shellWord(elsewhere.Store) + "`"
	case errors.As(err, &corrupt):
		return "`shale check` says what is lost; `shale check --repair` makes the file anew of what can be read"
	case errors.As(err, &locked) && locked.PID > 0:
		return fmt.Sprintf("process %d is at work there: wait until it is done", locked.PID)
	case errors.Is(err, errdefs.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return "another process is at work on it: try again in a moment"
	case errors.As(err, &attribute):
		return "XFS and btrfs have room for large attributes, as ext4 has with the feature ea_inode"
	case errors.As(err, &unsupported) && unsupported.Cure != "":
		return "" // it says what to change
	case errors.Is(err, errdefs.ErrUnsupported):
		return "`shale status` shows the driver and what it can do"
	}
	return ""
}

func cureMissing(missing errdefs.Missing) string {
	switch missing.Kind {
	case errdefs.Store:
		return "`shale config` shows where it is looked for; the first layer, image or container makes it"
	case errdefs.Layer:
		return "`shale layers` lists what there is"
	case errdefs.Image:
		return "`shale images` lists what there is"
	case errdefs.Container:
		return "`shale containers` lists what there is"
	case errdefs.AnyObject:
		return "`shale layers`, `shale images` and `shale containers` list what there is"
	}
	return ""
}

func cureInUse(inUse errdefs.InUse) string {
	switch inUse.By {
	case errdefs.Mount:
		return fmt.Sprintf("`shale unmount %s` lets go of the mount", shortID(inUse.ByID))
	case errdefs.Layer:
		return "`shale layers --tree` shows what stands on it"
	case errdefs.Image:
		return fmt.Sprintf("`shale image %s` shows the image", shortID(inUse.ByID))
	case errdefs.Container:
		return fmt.Sprintf("`shale container %s` shows the container", shortID(inUse.ByID))
	}
	return ""
}

// grammarOf is how the commands of a command's grammar begin.
func grammarOf(command *cobra.Command) string {
	if speaksPeer(command) {
		return command.Root().Name() + " " + storageVerb
	}
	return command.Root().Name()
}

// shellWord quotes a word for a shell where that is needed.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("/:.-_@+,=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
