package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/usage"
	"github.com/spf13/cobra"
)

func (p *program) usage() *cobra.Command {
	command := &cobra.Command{
		Use:   "usage [flags] [containers] [images] [layers]",
		Short: "Show what takes how much space",
		Long: `Shows what containers, images and layers take on the disk, largest first: bytes as df
counts them, in whole blocks, and inodes. UNIQUE is what nothing else has: an image shares
the layers that another image has too, a container all but its own files. FREED is what
deleting it would give back now.

Layers that don't change are looked through once after each start of the host, those with a
quota never; the layers of containers each time. Whether a layer may have changed is told
from marks that mounts leave. With the vfs driver those of other programs leave none; there
--fresh helps.

With --json a list of objects of each kind, and the sums, in bytes.`,
		Example: `  # the ten images that take most, by what only they have
  shale usage --sort unique --top 10 images

  # bytes that would be free without the layers that nothing uses
  shale usage --json | jq .unused.bytes`,
		Args:      usageKinds,
		ValidArgs: []string{"containers", "images", "layers"},
	}
	by := command.Flags().String("sort", "size", "sort by `COLUMN`: size, unique, shared, freed, inodes or name")
	top := command.Flags().Int("top", 0, "show the first `N` of each kind, instead of all")
	fresh := command.Flags().Bool("fresh", false, "look through all layers, whatever is known of them")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		order, ok := usageOrders[*by]
		if !ok {
			return usageErrorf("--sort %s: there are %s", *by, strings.Join(slices.Sorted(maps.Keys(usageOrders)),
				", "))
		}
		if *top < 0 {
			return usageErrorf("--top %d: that is less than none", *top)
		}
		line := p.newProgress("measuring", 0)
		report, err := usage.Of(ctx, s, usage.Options{Fresh: *fresh})
		line.clear()
		if err != nil && report.Layers == nil {
			return err
		}
		counts := [3]int{len(report.Containers), len(report.Images), len(report.Layers)}
		for kind, list := range map[string]*[]usage.Usage{"containers": &report.Containers, "images": &report.Images,
			"layers": &report.Layers} {
			slices.SortStableFunc(*list, order)
			if *top > 0 {
				*list = (*list)[:min(*top, len(*list))]
			}
			if len(args) > 0 && !slices.Contains(args, kind) {
				*list = []usage.Usage{}
			}
		}
		return errors.Join(showOne(p, form, report, func(wide bool) { p.printUsage(report, counts, wide) }), err)
	})
	return command
}

func usageKinds(command *cobra.Command, args []string) error {
	for _, arg := range args {
		if !slices.Contains(command.ValidArgs, arg) {
			return usageErrorf("%q: there are containers, images and layers", arg)
		}
	}
	return nil
}

// usageOrders are the columns to sort by. Numbers begin with the largest, and what is
// equal keeps its order.
var usageOrders = map[string]func(a, b usage.Usage) int{
	"size":   func(a, b usage.Usage) int { return cmp.Compare(b.Total.Bytes, a.Total.Bytes) },
	"unique": func(a, b usage.Usage) int { return cmp.Compare(b.Unique.Bytes, a.Unique.Bytes) },
	"shared": func(a, b usage.Usage) int { return cmp.Compare(b.Shared.Bytes, a.Shared.Bytes) },
	"freed":  func(a, b usage.Usage) int { return cmp.Compare(b.Freed.Bytes, a.Freed.Bytes) },
	"inodes": func(a, b usage.Usage) int { return cmp.Compare(b.Total.Inodes, a.Total.Inodes) },
	"name":   func(a, b usage.Usage) int { return cmp.Compare(nameOrID(a.Names, a.ID), nameOrID(b.Names, b.ID)) },
}

func (p *program) printUsage(report usage.Report, counts [3]int, wide bool) {
	for _, part := range []struct {
		head string
		list []usage.Usage
	}{{"CONTAINER", report.Containers}, {"IMAGE", report.Images}, {"LAYER", report.Layers}} {
		if len(part.list) == 0 {
			continue
		}
		t := p.newTable(wide, part.head, "NAME", "SIZE", "UNIQUE", "SHARED", "INODES", "FREED", "")
		t.numbers(2, 3, 4, 5, 6)
		for _, u := range part.list {
			t.row(t.id(u.ID), t.names(u.Names), bytesCell(u.Total), bytesCell(u.Unique), bytesCell(u.Shared),
				grouped(u.Total.Inodes), bytesCell(u.Freed), usageNote(u))
		}
		t.flush()
		p.printf("\n")
	}
	fs := report.FileSystem
	p.printf("%s, %s and %s take %s and %s inodes.\n", count(counts[0], "container"), count(counts[1], "image"),
		count(counts[2], "layer"),
		bytesText(report.Total.Bytes), grouped(report.Total.Inodes))
	p.printf("Layers that nothing uses take %s of that.\n", bytesText(report.Unused.Bytes))
	p.printf("The file system has %s, of which %s are free", bytesText(fs.Size.Bytes), bytesText(fs.Free.Bytes))
	if fs.Size.Inodes > 0 {
		p.printf(", and %s inodes, of which %s are free", grouped(fs.Size.Inodes), grouped(fs.Free.Inodes))
	}
	p.printf(".\n")
}

// bytesCell leaves nothing where there is nothing, so that the eye finds the rest.
func bytesCell(space usage.Space) string {
	if space.Bytes == 0 {
		return "-"
	}
	return bytesText(space.Bytes)
}

// grouped writes a number as people read it: 1,234,567.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// usageNote says what the numbers of a row don't.
func usageNote(u usage.Usage) string {
	switch {
	case u.ReadOnly:
		return "read only"
	case u.Basis == usage.BasisMissing:
		return "files missing"
	case u.Limit != usage.Space{}:
		return "at most " + limitText(u.Limit)
	case u.Kind == usage.KindLayer && u.Users == 0:
		return "unused"
	case u.Kind == usage.KindImage && u.Users > 0:
		return "in use"
	}
	return ""
}

func limitText(limit usage.Space) string {
	var bounds []string
	if limit.Bytes > 0 {
		bounds = append(bounds, bytesText(limit.Bytes))
	}
	if limit.Inodes > 0 {
		bounds = append(bounds, grouped(limit.Inodes)+" inodes")
	}
	return strings.Join(bounds, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
