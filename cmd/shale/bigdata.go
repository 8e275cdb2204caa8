package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

// dataLimit bounds an item of an image or a container, which the store handles in one
// piece. Layers' items are streams.
const dataLimit = 1 << 30

// bigData is the family of commands about the data items of one kind of object. Layers
// have no sizes and digests: these are nil then.
type bigData struct {
	p        *program
	kind     string // "image"
	article  string // "an image"
	complete cobra.CompletionFunc
	list     func(s *store.Store, ctx context.Context, ref string) ([]string, error)
	get      func(s *store.Store, ctx context.Context, ref, key string) (io.ReadCloser, error)
	set      func(s *store.Store, ctx context.Context, ref, key string, data io.Reader) error
	size     func(s *store.Store, ctx context.Context, ref, key string) (int64, error)
	digest   func(s *store.Store, ctx context.Context, ref, key string) (digest.Digest, error)
}

func (p *program) layerData() bigData {
	return bigData{
		p: p, kind: "layer", article: "a layer", complete: p.completeLayers,
		list: (*store.Store).LayerBigDataNames, get: (*store.Store).LayerBigData, set: (*store.Store).SetLayerBigData,
	}
}

func (p *program) imageData() bigData {
	return bigData{
		p: p, kind: "image", article: "an image", complete: p.completeImages,
		list: (*store.Store).ImageBigDataNames, size: (*store.Store).ImageBigDataSize,
		digest: (*store.Store).ImageBigDataDigest,
		get: func(s *store.Store, ctx context.Context, ref, key string) (io.ReadCloser, error) {
			return inMemory(s.ImageBigData(ctx, ref, key))
		},
		set: fromMemory(func(s *store.Store, ctx context.Context, ref, key string, data []byte) error {
			return s.SetImageBigData(ctx, ref, key, data, "")
		}),
	}
}

func (p *program) containerData() bigData {
	return bigData{
		p: p, kind: "container", article: "a container", complete: p.completeContainers,
		list: (*store.Store).ContainerBigDataNames, size: (*store.Store).ContainerBigDataSize,
		digest: (*store.Store).ContainerBigDataDigest,
		get: func(s *store.Store, ctx context.Context, ref, key string) (io.ReadCloser, error) {
			return inMemory(s.ContainerBigData(ctx, ref, key))
		},
		set: fromMemory((*store.Store).SetContainerBigData),
	}
}

func inMemory(data []byte, err error) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(data)), err
}

// fromMemory reads an item whole before it is set.
func fromMemory(set func(*store.Store, context.Context, string, string, []byte) error) func(*store.Store,
	context.Context, string, string, io.Reader) error {
	return func(s *store.Store, ctx context.Context, ref, key string, r io.Reader) error {
		data, err := readUpTo(r, dataLimit)
		if err != nil {
			return err
		}
		return set(s, ctx, ref, key, data)
	}
}

func (d bigData) commands() []*cobra.Command {
	all := []*cobra.Command{d.listCommand(), d.getCommand(), d.setCommand()}
	if d.size != nil {
		all = append(all, d.sizeCommand(), d.digestCommand())
	}
	return all
}

func (d bigData) listCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "list-" + d.kind + "-data [flags] " + d.placeholder(),
		Aliases: []string{"list" + d.kind + "data"},
		Short:   "List the data items of " + d.article,
		Long: "Lists the keys of the data items that are kept with " + d.article +
			", such as manifests and configs.",
		Example:           "  shale list-" + d.kind + "-data " + d.sample(),
		Args:              arguments(1, 1),
		ValidArgsFunction: d.complete,
	}
	asJSON := jsonFlag(command)
	command.RunE = d.p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		keys, err := d.list(s, ctx, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return d.p.printJSON(nullWhenEmpty(keys))
		}
		for _, key := range keys {
			d.p.printf("%s\n", key)
		}
		return nil
	})
	return command
}

func (d bigData) getCommand() *cobra.Command {
	command := &cobra.Command{
		Use:               "get-" + d.kind + "-data [flags] " + d.placeholder() + " KEY",
		Aliases:           []string{"get" + d.kind + "data"},
		Short:             "Write a data item of " + d.article,
		Long:              "Writes a data item to standard output or to --file, as it is.",
		Example:           "  shale get-" + d.kind + "-data --file item.json " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.complete,
	}
	file := command.Flags().StringP("file", "f", "", "write to `FILE` instead of standard output")
	command.RunE = d.p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		item, err := d.get(s, ctx, args[0], args[1])
		if err != nil {
			return d.missing(ctx, s, args[0], args[1], err)
		}
		defer item.Close()
		if *file == "" {
			_, err = io.Copy(d.p.out, item)
			return err
		}
		out, err := d.p.openOutput(*file)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, item); err != nil {
			out.abandon()
			return err
		}
		return out.Close()
	})
	return command
}

func (d bigData) setCommand() *cobra.Command {
	command := &cobra.Command{
		Use:               "set-" + d.kind + "-data [flags] " + d.placeholder() + " KEY",
		Aliases:           []string{"set" + d.kind + "data"},
		Short:             "Keep a data item with " + d.article,
		Long:              "Reads a data item from standard input or from --file and keeps it, in place of any\nthat had this key.",
		Example:           "  shale set-" + d.kind + "-data --file item.json " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.complete,
	}
	file := command.Flags().StringP("file", "f", "", "read from `FILE` instead of standard input")
	command.RunE = d.p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		in, err := d.p.openInput(ctx, *file)
		if err != nil {
			return err
		}
		defer in.Close()
		return d.set(s, ctx, args[0], args[1], in)
	})
	return command
}

func (d bigData) sizeCommand() *cobra.Command {
	return factCommand(d, "size", "Prints the size of a data item in bytes.", d.size)
}

func (d bigData) digestCommand() *cobra.Command {
	return factCommand(d, "digest", "Prints the digest that was recorded for a data item when it was kept.", d.digest)
}

// factCommand prints what is known of an item without its content.
func factCommand[T int64 | digest.Digest](d bigData, what, long string, tell func(*store.Store, context.Context, string,
	string) (T, error)) *cobra.Command {
	return &cobra.Command{
		Use:               "get-" + d.kind + "-data-" + what + " " + d.placeholder() + " KEY",
		Aliases:           []string{"get" + d.kind + "data" + what},
		Short:             "Show the " + what + " of a data item of " + d.article,
		Long:              long,
		Example:           "  shale get-" + d.kind + "-data-" + what + " " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.complete,
		RunE: d.p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
			value, err := tell(s, ctx, args[0], args[1])
			if err != nil {
				return d.missing(ctx, s, args[0], args[1], err)
			}
			d.p.printf("%v\n", value)
			return nil
		}),
	}
}

// missing tells whether it is the object or its item that does not exist, in words that
// scripts for containers-storage look for.
func (d bigData) missing(ctx context.Context, s *store.Store, ref, key string, err error) error {
	if !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	if _, listErr := d.list(s, ctx, ref); listErr != nil {
		return missingError(fmt.Sprintf("%q: %s not known", ref, d.kind))
	}
	return missingError(fmt.Sprintf("%s %q: data item %q does not exist", d.kind, ref, key))
}

// missingError is an errdefs.ErrNotFound in other words.
type missingError string

func (e missingError) Error() string   { return string(e) }
func (missingError) Is(err error) bool { return err == errdefs.ErrNotFound }

func (d bigData) placeholder() string { return placeholders[d.kind] }
func (d bigData) sample() string      { return samples[d.kind] }

// placeholders and samples are how help texts call an object of each kind.
var (
	placeholders = map[string]string{"layer": "LAYER", "image": "IMAGE", "container": "CONTAINER"}
	samples      = map[string]string{"layer": "base", "image": "example.com/base:1", "container": "web"}
)
