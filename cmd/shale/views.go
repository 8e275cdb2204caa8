package main

import (
	"cmp"
	"context"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// The views are what our own grammar prints of records, in JSON and for templates. Their
// members have the names that the records have on disk; lists are never null, kinds are
// words.

// layerView is a layer, and who stands on it.
type layerView struct {
	layers.Layer
	Names       []string `json:"names"`
	Compression string   `json:"compression,omitempty"`
	ReadOnly    bool     `json:"read-only"`
	Images      []string `json:"images"`
	Containers  []string `json:"containers"`
}

func viewLayer(layer layers.Layer, users layerUsers) layerView {
	view := layerView{Layer: layer, Names: emptyWhenNil(layer.Names), ReadOnly: layer.ReadOnly,
		Images: []string{}, Containers: []string{}}
	if layer.DiffID != "" || layer.Compression != compress.None {
		view.Compression = layer.Compression.String()
	}
	for _, image := range users.images[layer.ID] {
		view.Images = append(view.Images, image.ID)
	}
	for _, container := range users.containers[layer.ID] {
		view.Containers = append(view.Containers, container.ID)
	}
	return view
}

// imageView is an image; Size is set where one is looked at by name.
type imageView struct {
	images.Image
	Names        []string `json:"names"`
	BigDataNames []string `json:"big-data-names"`
	ReadOnly     bool     `json:"read-only"`
	Size         *int64   `json:"size,omitempty"`
}

func viewImage(image images.Image) imageView {
	return imageView{Image: image, Names: emptyWhenNil(image.Names), BigDataNames: emptyWhenNil(image.BigDataNames),
		ReadOnly: image.ReadOnly}
}

// containerView is a container, and what its image is called.
type containerView struct {
	containers.Container
	Names        []string `json:"names"`
	BigDataNames []string `json:"big-data-names"`
	ImageNames   []string `json:"image-names"`
	Size         *int64   `json:"size,omitempty"`
}

func viewContainer(container containers.Container, imageNames []string) containerView {
	return containerView{Container: container, Names: emptyWhenNil(container.Names),
		BigDataNames: emptyWhenNil(container.BigDataNames), ImageNames: emptyWhenNil(imageNames)}
}

// imageOf is how a table calls the image of a container.
func (c containerView) imageOf() string {
	return cmp.Or(firstName(c.ImageNames), shortID(c.ImageID))
}

// layerUsers are the images and containers that stand on each layer, by its ID.
type layerUsers struct {
	images     map[string][]images.Image
	containers map[string][]containers.Container
}

func findLayerUsers(ctx context.Context, s *store.Store) (layerUsers, error) {
	users := layerUsers{map[string][]images.Image{}, map[string][]containers.Container{}}
	allImages, err := look(ctx, s, (*store.ReadTx).Images)
	if err != nil {
		return users, err
	}
	for _, image := range allImages {
		for _, layer := range append([]string{image.TopLayer}, image.MappedLayers...) {
			users.images[layer] = append(users.images[layer], image)
		}
	}
	allContainers, err := look(ctx, s, (*store.ReadTx).Containers)
	if err != nil {
		return users, err
	}
	for _, container := range allContainers {
		users.containers[container.LayerID] = append(users.containers[container.LayerID], container)
	}
	return users, nil
}
