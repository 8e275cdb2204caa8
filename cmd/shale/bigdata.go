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
	"github.com/shalestore/shale/store/manifest"
	"github.com/spf13/cobra"
)

// dataLimit bounds an item of an image or a container, which the store handles in one
// piece. Layers' items are streams.
const dataLimit = 1 << 30

// bigData is the family of commands about the data items of one kind of object. Layers
// have no sizes and digests: these are nil then.
type bigData struct {
	kind     string // "image"
	article  string // "an image"
	complete func(*program, *cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective)
	keys     func(tx *store.ReadTx, ref string) ([]string, error)
	read     func(tx *store.ReadTx, ref, key string) (io.ReadCloser, error)
	keep     func(s *store.Store, ctx context.Context, ref, key string, data io.Reader) error
	sizeOf   func(tx *store.ReadTx, ref, key string) (int64, error)
	digestOf func(tx *store.ReadTx, ref, key string) (digest.Digest, error)
}

var (
	layerData = bigData{
		kind: "layer", article: "a layer", complete: (*program).completeLayers,
		keys: func(tx *store.ReadTx, ref string) ([]string, error) {
			layer, err := tx.Layer(ref)
			return layer.BigDataNames, err
		},
		read: (*store.ReadTx).LayerBigData, keep: (*store.Store).SetLayerBigData,
	}
	imageData = bigData{
		kind: "image", article: "an image", complete: (*program).completeImages,
		keys: func(tx *store.ReadTx, ref string) ([]string, error) {
			image, err := tx.Image(ref)
			return image.BigDataNames, err
		},
		read: inMemory((*store.ReadTx).ImageBigData),
		keep: fromMemory(func(tx *store.WriteTx, ref, key string, data []byte) error {
			return tx.SetImageBigData(ref, key, data, "")
		}),
		sizeOf: (*store.ReadTx).ImageBigDataSize, digestOf: (*store.ReadTx).ImageBigDataDigest,
	}
	containerData = bigData{
		kind: "container", article: "a container", complete: (*program).completeContainers,
		keys: func(tx *store.ReadTx, ref string) ([]string, error) {
			container, err := tx.Container(ref)
			return container.BigDataNames, err
		},
		read:   inMemory((*store.ReadTx).ContainerBigData),
		keep:   fromMemory((*store.WriteTx).SetContainerBigData),
		sizeOf: (*store.ReadTx).ContainerBigDataSize, digestOf: (*store.ReadTx).ContainerBigDataDigest,
	}
)

// inMemory reads an item that is had in one piece.
func inMemory(get func(*store.ReadTx, string, string) ([]byte, error)) func(*store.ReadTx, string,
	string) (io.ReadCloser, error) {
	return func(tx *store.ReadTx, ref, key string) (io.ReadCloser, error) {
		data, err := get(tx, ref, key)
		return io.NopCloser(bytes.NewReader(data)), err
	}
}

// fromMemory reads an item whole before it is set.
func fromMemory(set func(*store.WriteTx, string, string, []byte) error) func(*store.Store,
	context.Context, string, string, io.Reader) error {
	return func(s *store.Store, ctx context.Context, ref, key string, r io.Reader) error {
		data, err := readUpTo(r, dataLimit)
		if err != nil {
			return err
		}
		return s.Update(ctx, func(tx *store.WriteTx) error { return set(tx, ref, key, data) })
	}
}

func (d bigData) list(p *program) *cobra.Command {
	command := &cobra.Command{
		Use:     "list-" + d.kind + "-data [flags] " + d.placeholder(),
		Aliases: []string{"list" + d.kind + "data"},
		Short:   "List the data items of " + d.article,
		Long: "Lists the keys of the data items that are kept with " + d.article +
			", such as manifests and configs.",
		Example:           "  shale list-" + d.kind + "-data " + d.sample(),
		Args:              arguments(1, 1),
		ValidArgsFunction: d.completion(p),
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		keys, err := look(ctx, s, func(tx *store.ReadTx) ([]string, error) { return d.keys(tx, args[0]) })
		if err != nil {
			return err
		}
		if p.peer && form.json() {
			return p.printJSON(nullWhenEmpty(keys))
		}
		return p.printNames(form, keys)
	})
	return command
}

func (d bigData) get(p *program) *cobra.Command {
	command := &cobra.Command{
		Use:               "get-" + d.kind + "-data [flags] " + d.placeholder() + " KEY",
		Aliases:           []string{"get" + d.kind + "data"},
		Short:             "Write a data item of " + d.article,
		Long:              "Writes a data item to standard output or to a file, as it is.",
		Example:           "  shale get-" + d.kind + "-data --" + p.outputName() + " item.json " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.completion(p),
	}
	file := p.outputFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		item, err := look(ctx, s, func(tx *store.ReadTx) (io.ReadCloser, error) { return d.read(tx, args[0], args[1]) })
		if err != nil {
			return d.missing(ctx, s, args[0], args[1], err)
		}
		defer item.Close()
		if *file == "" {
			_, err = io.Copy(p.out, item)
			return err
		}
		out, err := p.openOutput(*file)
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

func (d bigData) set(p *program) *cobra.Command {
	command := &cobra.Command{
		Use:     "set-" + d.kind + "-data [flags] " + d.placeholder() + " KEY",
		Aliases: []string{"set" + d.kind + "data"},
		Short:   "Keep a data item with " + d.article,
		Long: "Reads a data item from standard input or from --file and keeps it, in place of " +
			"any\nthat had this key.",
		Example:           "  shale set-" + d.kind + "-data --file item.json " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.completion(p),
	}
	file := command.Flags().StringP("file", "f", "", "read from `FILE` instead of standard input")
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		in, err := p.openInput(ctx, *file)
		if err != nil {
			return err
		}
		defer in.Close()
		if d.kind == "image" && manifest.IsKey(args[1]) && !p.peer {
			data, err := readUpTo(in, dataLimit)
			if err != nil {
				return err
			}
			if err := manifest.Check(data, nil); err != nil {
				return fmt.Errorf("data item %q: %w", args[1], err)
			}
			return d.keep(s, ctx, args[0], args[1], bytes.NewReader(data))
		}
		return d.keep(s, ctx, args[0], args[1], in)
	})
	return command
}

func (d bigData) size(p *program) *cobra.Command {
	return factCommand(p, d, "size", "Prints the size of a data item in bytes.", d.sizeOf)
}

func (d bigData) digest(p *program) *cobra.Command {
	return factCommand(p, d, "digest", "Prints the digest that was recorded for a data item when it was kept.",
		d.digestOf)
}

// factCommand prints what is known of an item without its content.
func factCommand[T int64 | digest.Digest](p *program, d bigData, what, long string, tell func(*store.ReadTx,
	string, string) (T, error)) *cobra.Command {
	return &cobra.Command{
		Use:               "get-" + d.kind + "-data-" + what + " " + d.placeholder() + " KEY",
		Aliases:           []string{"get" + d.kind + "data" + what},
		Short:             "Show the " + what + " of a data item of " + d.article,
		Long:              long,
		Example:           "  shale get-" + d.kind + "-data-" + what + " " + d.sample() + " item",
		Args:              arguments(2, 2),
		ValidArgsFunction: d.completion(p),
		RunE: p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
			value, err := look(ctx, s, func(tx *store.ReadTx) (T, error) { return tell(tx, args[0], args[1]) })
			if err != nil {
				return d.missing(ctx, s, args[0], args[1], err)
			}
			p.printf("%v\n", value)
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
	_, listErr := look(ctx, s, func(tx *store.ReadTx) ([]string, error) { return d.keys(tx, ref) })
	if listErr != nil {
		return missingError{fmt.Sprintf("%q: %s not known", ref, d.kind), listErr}
	}
	return advised{missingError{fmt.Sprintf("%s %q: data item %q does not exist", d.kind, ref, key), err},
		fmt.Sprintf("`shale list-%s-data %s` lists what there is", d.kind, shellWord(ref))}
}

// missingError is an error in other words.
type missingError struct {
	text string
	error
}

func (e missingError) Error() string { return e.text }
func (e missingError) Unwrap() error { return e.error }

func (d bigData) completion(p *program) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return d.complete(p, command, args, prefix)
	}
}

func (d bigData) placeholder() string { return placeholders[d.kind] }
func (d bigData) sample() string      { return samples[d.kind] }

// placeholders and samples are how help texts call an object of each kind.
var (
	placeholders = map[string]string{"layer": "LAYER", "image": "IMAGE", "container": "CONTAINER"}
	samples      = map[string]string{"layer": "base", "image": "example.com/base:1", "container": "web"}
)
