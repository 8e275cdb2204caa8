package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) layer() *cobra.Command {
	command := &cobra.Command{
		Use:   "layer [flags] LAYER...",
		Short: "Show layers",
		Long:  `Prints what the store knows of each LAYER.`,
		Example: p.either(`  # the digest of the archive it was made of
  shale layer --format '{{.DiffID}}' base`, `  # the digest of the archive it was made of
  shale layer --json base | jq -r '.[]["diff-digest"]'`),
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeLayers,
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, failed := findEach(ctx, s, args, (*store.ReadTx).Layer)
		if p.peer && form.json() {
			return errors.Join(p.printJSON(found), failed)
		}
		views := make([]layerView, 0, len(found))
		if !p.peer && form.template != nil || form.json() {
			users, err := findLayerUsers(ctx, s)
			if err != nil {
				return err
			}
			for _, layer := range found {
				views = append(views, viewLayer(layer, users))
			}
		}
		return errors.Join(show(p, form, views, func(bool) {
			for _, layer := range found {
				p.printLayer(layer)
			}
		}), failed)
	})
	return command
}

func (p *program) image() *cobra.Command {
	command := &cobra.Command{
		Use:   "image [flags] IMAGE...",
		Short: "Show images",
		Long:  `Prints what the store knows of each IMAGE, and how large it is in bytes.`,
		Example: p.either(`  # its topmost layer
  shale image --format '{{.TopLayer}}' example.com/base:1`, `  # its topmost layer
  shale image example.com/base:1 | sed -n 's/^Top Layer: //p'`),
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeImages,
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, failed := findEach(ctx, s, args, (*store.ReadTx).Image)
		if p.peer && form.json() {
			return errors.Join(p.printJSON(found), failed)
		}
		views, sizeErrs := make([]imageView, 0, len(found)), map[string]error{}
		for _, image := range found {
			view := viewImage(image)
			if size, err := s.Size(ctx, errdefs.Image, image.ID); err == nil {
				view.Size = &size
			} else {
				sizeErrs[image.ID] = err
			}
			views = append(views, view)
		}
		return errors.Join(show(p, form, views, func(bool) {
			for _, view := range views {
				p.printImage(view.Image, view.Size, sizeErrs[view.ID])
			}
		}), failed)
	})
	return command
}

func (p *program) container() *cobra.Command {
	command := &cobra.Command{
		Use:   "container [flags] CONTAINER...",
		Short: "Show containers",
		Long:  `Prints what the store knows of each CONTAINER, and how large its own files are in bytes.`,
		Example: p.either(`  # the layer it writes to
  shale container --format '{{.LayerID}}' web`, `  # the layer it writes to
  shale container web | sed -n 's/^Layer: //p'`),
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeContainers,
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, failed := findEach(ctx, s, args, (*store.ReadTx).Container)
		if p.peer && form.json() {
			return errors.Join(p.printJSON(found), failed)
		}
		views, sizeErrs := make([]containerView, 0, len(found)), map[string]error{}
		for _, container := range found {
			// of an image that is gone there are no names to show
			image, _ := look(ctx, s, func(tx *store.ReadTx) (images.Image, error) {
				return tx.Image(container.ImageID)
			})
			view := viewContainer(container, image.Names)
			if size, err := s.Size(ctx, errdefs.Container, container.ID); err == nil {
				view.Size = &size
			} else {
				sizeErrs[container.ID] = err
			}
			views = append(views, view)
		}
		return errors.Join(show(p, form, views, func(bool) {
			for _, view := range views {
				p.printContainer(view, sizeErrs[view.ID])
			}
		}), failed)
	})
	return command
}

// findEach looks up each reference, and returns what was found beside an error about what
// was not.
func findEach[R any](ctx context.Context, s *store.Store, refs []string,
	find func(*store.ReadTx, string) (R, error)) (found []R, failed error) {
	found = []R{}
	err := s.View(ctx, func(tx *store.ReadTx) error {
		for _, ref := range refs {
			record, err := find(tx, ref)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			found = append(found, record)
		}
		return nil
	})
	return found, errors.Join(failed, err)
}

func (p *program) printLayer(layer layers.Layer) {
	p.printf("ID: %s\n", layer.ID)
	p.printMaps("UID", layer.UIDMap)
	p.printMaps("GID", layer.GIDMap)
	if layer.Parent != "" {
		p.printf("Parent: %s\n", layer.Parent)
	}
	for _, name := range layer.Names {
		p.printf("Name: %s\n", p.said(name))
	}
	if layer.ReadOnly {
		p.printf("Read Only: true\n")
	}
}

func (p *program) printMaps(kind string, maps []idtools.Map) {
	for _, m := range maps {
		p.printf("%s mapping: (container=%d, host=%d, size=%d)\n", kind, m.ContainerID, m.HostID, m.Size)
	}
}

func (p *program) printImage(image images.Image, size *int64, sizeErr error) {
	p.printf("ID: %s\n", image.ID)
	for _, name := range image.Names {
		p.printf("Name: %s\n", p.said(name))
	}
	p.printf("Top Layer: %s\n", image.TopLayer)
	for _, layer := range image.MappedLayers {
		p.printf("Top Layer: %s\n", layer)
	}
	for _, value := range image.Digests() {
		p.printf("Digest: %s\n", value)
	}
	for _, key := range image.BigDataNames {
		p.printf("Data: %s\n", p.said(key))
	}
	p.printSize(size, sizeErr)
	if image.ReadOnly {
		p.printf("Read Only: true\n")
	}
}

func (p *program) printContainer(container containerView, sizeErr error) {
	p.printf("ID: %s\n", container.ID)
	for _, name := range container.Names {
		p.printf("Name: %s\n", p.said(name))
	}
	p.printf("Image: %s\n", container.ImageID)
	for _, name := range container.ImageNames {
		p.printf("Image name: %s\n", p.said(name))
	}
	p.printSize(container.Size, sizeErr)
	p.printf("Layer: %s\n", container.LayerID)
	for _, key := range container.BigDataNames {
		p.printf("Data: %s\n", p.said(key))
	}
}

func (p *program) printSize(size *int64, err error) {
	if size == nil {
		p.printf("Size unknown: %v\n", err)
		return
	}
	p.printf("Size: %d\n", *size)
}
