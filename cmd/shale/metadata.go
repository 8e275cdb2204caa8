package main

import (
	"context"
	"errors"
	"strings"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) metadata() *cobra.Command {
	command := &cobra.Command{
		Use:   "metadata [flags] ID...",
		Short: "Show metadata",
		Long: `Prints the metadata of layers, images and containers: a text that belongs to whoever
made them.`,
		Example: `  # what Podman noted about a container
  shale metadata --quiet web | jq .`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	quiet := command.Flags().BoolP("quiet", "q", false, "leave out the IDs and names")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		type entry struct {
			Ref      string `json:"ref"`
			Metadata string `json:"metadata"`
		}
		var found []entry
		texts := map[string]string{}
		var failed error
		for _, ref := range args {
			record, err := look(ctx, s, func(tx *store.ReadTx) (store.Record, error) { return tx.Lookup(ref) })
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			texts[ref] = strings.TrimSuffix(record.Metadata, "\n")
			found = append(found, entry{ref, texts[ref]})
		}
		switch {
		case p.peer && form.json():
			return errors.Join(p.printJSON(texts), failed)
		case p.peer: // a line for those that failed, too
			found = nil
			for _, ref := range args {
				found = append(found, entry{ref, texts[ref]})
			}
		}
		return errors.Join(show(p, form, found, func(bool) {
			for _, e := range found {
				if !*quiet {
					p.printf("%s: ", p.said(e.Ref))
				}
				p.printf("%s\n", e.Metadata)
			}
		}), failed)
	})
	return command
}

func (p *program) setMetadata() *cobra.Command {
	command := &cobra.Command{
		Use:     "set-metadata [flags] ID",
		Aliases: []string{"setmetadata"},
		Short:   "Replace metadata",
		Long:    `Replaces the metadata of a layer, an image or a container.`,
		Example: `  # from a file
  shale set-metadata --metadata-file note.json web`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeAny,
	}
	metadata := metadataFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if metadata.text == "" && metadata.file == "" {
			return usageError("give the new metadata with --metadata or --metadata-file")
		}
		text, err := metadata.read(ctx, p)
		if err != nil {
			return err
		}
		return s.Update(ctx, func(tx *store.WriteTx) error { return tx.SetMetadata(args[0], text) })
	})
	return command
}

// metadataLimit bounds metadata, which lives inside the store's JSON records.
const metadataLimit = 16 << 20

type metadataFlag struct{ text, file string }

func metadataFlags(command *cobra.Command) *metadataFlag {
	f := &metadataFlag{}
	command.Flags().StringVarP(&f.text, "metadata", "m", "", "keep `TEXT` as metadata")
	command.Flags().StringVarP(&f.file, "metadata-file", "f", "", "keep the content of `FILE` as metadata")
	return f
}

// read returns the metadata asked for; the file wins over the text.
func (f *metadataFlag) read(ctx context.Context, p *program) (string, error) {
	if f.file == "" {
		return f.text, nil
	}
	data, err := p.readAll(ctx, f.file, metadataLimit)
	return string(data), err
}
