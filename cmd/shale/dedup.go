package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/dedup"
	"github.com/spf13/cobra"
)

func (p *program) dedup() *cobra.Command {
	command := &cobra.Command{
		Use:   "dedup",
		Short: "Have equal files of images share their blocks",
		Long: `Finds equal files in the layers of images and has the file system keep their content
once, on btrfs and on XFS with reflink. Nobody notices but df. It prints how many bytes
are shared now.`,
		Example: `  # compare only what has the same SHA-256
  shale dedup --hash-method sha256`,
		Args: arguments(0, 0),
	}
	method := command.Flags().String("hash-method", "crc",
		"compare files that have the same `METHOD`: size, crc or sha256")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		by, ok := map[string]dedup.By{"size": dedup.Size, "crc": dedup.CRC,
			"sha256": dedup.SHA256}[*method]
		if !ok {
			return usageErrorf("--hash-method %s: there are size, crc and sha256", *method)
		}
		shared, err := dedup.Images(ctx, s, by)
		if err != nil {
			return err
		}
		if p.peer && form.json() {
			return p.printJSON(struct{ Deduped int64 }{shared})
		}
		return showOne(p, form, struct {
			Shared int64 `json:"shared-bytes"`
		}{shared}, func(bool) { p.printf("Deduplicated %d bytes\n", shared) })
	})
	return command
}
