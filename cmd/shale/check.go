package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/spf13/cobra"
)

func (p *program) check() *cobra.Command {
	command := &cobra.Command{
		Use:   "check [flags]",
		Short: "Look for damage, and repair it",
		Long: `Compares everything in the store with what it was: the records with each other and
with the files that they promise, each layer's files with the tar that it came as (content,
owners, modes, times, attributes, files too many and too few), manifests and other data with
their digests; and looks for what interrupted commands have left. Nothing is changed, and
nobody is kept waiting, so it may run beside other commands. It prints what is wrong, object
by object, with what --repair would do about it, and exits with status 3 if that is anything.
Notes, of layers that nothing uses and of images that other programs can't read, are no damage.

With --repair, small files and records are put right, and a layer is unpacked again from its
own tar where only attributes were damaged, else from a layer that has the same digest. Only
what can't be had anywhere is deleted, with all that needs it: images can be pulled again.
Containers can't, nor what has a name or was written by hand: that is deleted with --force
only, and what is mounted never. Afterwards it exits with status 0 if the store is sound.`,
		Example: `  # after a crash, or when a disk can't be trusted
  shale check

  # a look at records, links and sizes only: seconds instead of minutes
  shale check --quick

  # put right what is wrong, and delete what can't be
  shale check --repair`,
		Args: arguments(0, 0),
	}
	flags := command.Flags()
	repair := flags.BoolP("repair", "r", false, "repair what is damaged, or delete it")
	force := flags.BoolP("force", "f", false, "repair, and delete containers too where they are beyond repair")
	quick := flags.BoolP("quick", "q", false, "read no content: records, links, existence and sizes only")
	unused := flags.DurationP("max", "m", 24*time.Hour, "age from which a layer that nothing uses is noted")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		line := p.newProgress("checking", 0)
		opts := fsck.CheckOptions{Quick: *quick, UnusedAfter: *unused, DeleteAsPeer: p.peer}
		if *unused <= 0 {
			opts.UnusedAfter = -1
		}
		opts.Progress = line.reportOf()
		report, err := fsck.Check(ctx, s, opts)
		line.clear()
		if err != nil {
			return err
		}
		var repaired fsck.Repaired
		left := report
		var failed error
		if *repair || *force {
			line = p.newProgress("repairing", 0)
			opts.Progress = line.reportOf()
			repaired, failed = fsck.Repair(ctx, s, report, fsck.RepairOptions{CheckOptions: opts, Force: *force})
			if errors.Is(failed, errdefs.ErrInUse) {
				failed = advised{failed,
					"what is mounted can be repaired once it is unmounted; what a container needs is deleted with " +
						"--force only, and the container with it"}
			}
			line.clear()
			left = repaired.Left
		}
		if p.peer && form.json() {
			err = p.printJSON(reportJSON(report, repaired.Done))
		} else {
			err = showOne(p, form, checkView{emptyWhenNil(report.Findings), emptyWhenNil(report.Notes),
				emptyWhenNil(repaired.Done), emptyWhenNil(left.Findings)}, func(bool) {
				if p.peer {
					p.printPeerReport(report)
				} else {
					p.printReport(report)
				}
				for _, done := range repaired.Done {
					if p.peer {
						p.printf("repaired: %s: %s\n", done.Object, done.What)
					} else {
						p.printf("repaired: %s: %s\n", objectText(report, done.Object), shortened(done.What))
					}
				}
			})
		}
		return errors.Join(err, failed, verdict(left, *repair || *force, *force))
	})
	return command
}

// checkView is what check and gc have found and done, in our own JSON.
type checkView struct {
	Findings []fsck.Finding `json:"findings"`
	Notes    []fsck.Finding `json:"notes"` // what is no damage
	Repaired []fsck.Action  `json:"repaired"`
	Left     []fsck.Finding `json:"left"` // what is wrong still
}

// verdict is the error for what is wrong with the store, if anything is, with what can be
// done about it.
func verdict(left fsck.Report, repaired, force bool) error {
	if left.Empty() {
		return nil
	}
	var damaged, garbage, readOnly, containers int
	for _, object := range left.Objects() {
		switch f := itsFindings(left, object)[0]; {
		case f.ReadOnly:
			readOnly++
		case f.Garbage():
			garbage++
		case f.Kind == fsck.KindContainer:
			containers++
		default:
			damaged++
		}
	}
	var parts, advice []string
	count := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(damaged+containers, "damaged")
	count(garbage, "left over")
	count(readOnly, "damaged in additional stores")
	if damaged+containers > 0 && !repaired {
		advice = append(advice, "`shale check --repair` puts right what can be")
	}
	if garbage > 0 && !repaired {
		advice = append(advice, "`shale gc` removes what is left over")
	}
	if containers > 0 && !force {
		advice = append(advice, "containers beyond repair are deleted with --force only")
	}
	if readOnly > 0 {
		advice = append(advice, "repair an additional store where it was made")
	}
	return findings{advised{errors.New(strings.Join(parts, ", ")), strings.Join(advice, "; ")}}
}

// printReport prints, object by object, what is wrong, who needs it, and the command that
// does something about it.
func (p *program) printReport(report fsck.Report) {
	for _, object := range report.Objects() {
		its := itsFindings(report, object)
		p.printf("%s:\n", objectText(report, object))
		var todo []string
		seen := map[fsck.Object]bool{}
		var users []string
		for _, f := range its {
			p.printf("  %s\n", shortened(f.What))
			if f.Path != "" {
				p.printf("    at %s\n", f.Path)
			}
			if say := commandFor(f); !slices.Contains(todo, say) {
				todo = append(todo, say)
			}
			for _, user := range f.Affects {
				if !seen[user] {
					seen[user] = true
					users = append(users, objectText(report, user))
				}
			}
		}
		const most = 10
		for _, user := range users[:min(len(users), most)] {
			p.printf("  needed by %s\n", user)
		}
		if len(users) > most {
			p.printf("  and by %d more\n", len(users)-most)
		}
		for _, say := range todo {
			p.printf("  %s\n", say)
		}
	}
	for _, note := range report.Notes {
		p.printf("note: %s: %s\n", objectText(report, note.Object), shortened(note.What))
	}
}

// objectText names an object as people know it: by its kind, the short form of its ID,
// and its names. A file is its path.
func objectText(report fsck.Report, o fsck.Object) string {
	text := string(o.Kind) + " " + o.ID
	if o.Kind == fsck.KindLayer || o.Kind == fsck.KindImage || o.Kind == fsck.KindContainer {
		text = string(o.Kind) + " " + shortID(o.ID)
	}
	var names []string
	for _, name := range report.Names(o) {
		names = append(names, printable(name))
	}
	if len(names) > 0 {
		text += " (" + strings.Join(names, ", ") + ")"
	}
	return text
}

var wholeID = regexp.MustCompile(`(^|[^0-9a-f:/])([0-9a-f]{12})[0-9a-f]{52}\b`)

// shortened has the short forms of the IDs in a text, but for those in digests and paths.
func shortened(text string) string { return wholeID.ReplaceAllString(text, "$1$2") }

// commandFor is the command that does something about a finding, and what that does.
func commandFor(f fsck.Finding) string {
	const repair = "`shale check --repair` "
	switch f.Remedy {
	case fsck.RemedyNone:
		return "it lies in an additional store, which is only read: repair it where it was made"
	case fsck.RemedyDiscard:
		return "`shale gc` removes it"
	case fsck.RemedyMend:
		return repair + "makes the file anew"
	case fsck.RemedyRebuild:
		return repair + "unpacks the layer again, where its tar can be had; else pull its image again and repeat"
	case fsck.RemedyRecord:
		return repair + "corrects the record"
	case fsck.RemedyAdopt:
		return repair + "makes a record for it again"
	case fsck.RemedyRestore:
		return repair + "writes the item again, where its content can be had, or deletes the " + string(f.Kind)
	case fsck.RemedyForget:
		return repair + "takes what is gone out of the record"
	case fsck.RemedySalvage:
		return repair + "keeps the records that can be read, and the file as it was"
	case fsck.RemedyAside:
		return repair + "moves it aside"
	case fsck.RemedyToken:
		return repair + "writes a new token"
	}
	if f.Kind == fsck.KindContainer {
		return "`shale check --repair --force` deletes the container"
	}
	return repair + "deletes the " + string(f.Kind) + " and what needs it; a container, a name or a mount keeps it"
}

// printPeerReport prints the findings as containers-storage does, which scripts look for,
// and under each object what can be done.
func (p *program) printPeerReport(report fsck.Report) {
	for _, object := range report.Objects() {
		var remedies []string
		affects := map[string]bool{}
		for n, f := range itsFindings(report, object) {
			if n == 0 {
				p.printf("%s:\n", strings.TrimSuffix(strings.TrimSuffix(f.String(), f.What), ": "))
			}
			p.printf(" %s\n", f)
			if f.Path != "" {
				p.printf("   at %s\n", f.Path)
			}
			remedies = appendNew(remedies, string(f.Remedy))
			for _, other := range f.Affects {
				affects[other.String()] = true
			}
		}
		for _, other := range sortedKeys(affects) {
			p.printf("   needed by %s\n", other)
		}
		p.printf("   remedy: %s\n", strings.Join(remedies, "; "))
	}
}

func itsFindings(report fsck.Report, object fsck.Object) (its []fsck.Finding) {
	for _, f := range report.Findings {
		if f.Object == object {
			its = append(its, f)
		}
	}
	return its
}

func appendNew(list []string, s string) []string {
	if s == "" {
		s = "none: it lies in an additional store, which is only read"
	}
	for _, old := range list {
		if old == s {
			return list
		}
	}
	return append(list, s)
}

// reportJSON is what --json prints: the members of containers-storage's report, with
// texts where that has empty objects, and the findings in full.
func reportJSON(report fsck.Report, done []fsck.Action) any {
	type damages map[string][]string
	all := struct {
		Layers, ROLayers, Images, ROImages, Containers damages
		Records, Files                                 damages
		Findings                                       []fsck.Finding
		Repaired                                       []fsck.Action `json:",omitempty"`
	}{damages{}, damages{}, damages{}, damages{}, damages{}, damages{}, damages{}, report.Findings, done}
	for _, f := range report.Findings {
		var of damages
		switch f.Kind {
		case fsck.KindLayer:
			if of = all.Layers; f.ReadOnly {
				of = all.ROLayers
			}
		case fsck.KindImage:
			if of = all.Images; f.ReadOnly {
				of = all.ROImages
			}
		case fsck.KindContainer:
			of = all.Containers
		case fsck.KindRecords:
			of = all.Records
		default:
			of = all.Files
		}
		of[f.ID] = append(of[f.ID], f.String())
	}
	return all
}
