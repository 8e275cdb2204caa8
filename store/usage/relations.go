package usage

import (
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// relations are who needs whom among the objects of a store, worked out once for all of
// them: asking the records for each of thousands of layers would read them thousands of
// times.
type relations struct {
	layers     []layers.Layer
	images     []images.Image
	containers []containers.Container
	restless   map[string]bool // layers that may be written to

	sizes    map[string]footprint // by layer
	byID     map[string]*layers.Layer
	children map[string][]string // by layer
	tops     map[string][]string // images by their top layer
	owner    map[string]string   // containers by their layer
	madeFrom map[string][]string // containers by their image

	imagesOn, containersOn map[string]int // how many need a layer
}

// relate works everything out from the records.
func (c *relations) relate() {
	c.layers = firstOfEach(c.layers, func(l layers.Layer) string { return l.ID })
	c.images = firstOfEach(c.images, func(i images.Image) string { return i.ID })
	c.sizes, c.byID, c.children = map[string]footprint{}, map[string]*layers.Layer{}, map[string][]string{}
	c.tops, c.owner, c.madeFrom = map[string][]string{}, map[string]string{}, map[string][]string{}
	c.imagesOn, c.containersOn = map[string]int{}, map[string]int{}
	for n := range c.layers {
		layer := &c.layers[n]
		c.byID[layer.ID] = layer
		c.children[layer.Parent] = append(c.children[layer.Parent], layer.ID)
	}
	for _, image := range c.images {
		c.tops[image.TopLayer] = append(c.tops[image.TopLayer], image.ID)
		for _, id := range c.chains(image) {
			c.imagesOn[id]++
		}
	}
	for _, container := range c.containers {
		c.owner[container.LayerID] = container.ID
		c.madeFrom[container.ImageID] = append(c.madeFrom[container.ImageID], container.ID)
		c.restless[container.LayerID] = true
		for _, id := range c.chain(container.LayerID) {
			c.containersOn[id]++
		}
	}
}

func (c *relations) space(layer string) Space {
	f := c.sizes[layer]
	return Space{f.Bytes, f.Inodes}
}

// chain lists a layer that exists and those beneath it, from the top down.
func (c *relations) chain(id string) (chain []string) {
	// damaged records may make a circle
	for layer := c.byID[id]; layer != nil && len(chain) < len(c.layers); layer = c.byID[layer.Parent] {
		chain = append(chain, layer.ID)
	}
	return chain
}

// chains lists the layers of an image, those of the translated copies of its top layer
// among them, each once.
func (c *relations) chains(image images.Image) []string {
	all := c.chain(image.TopLayer)
	for _, id := range image.MappedLayers {
		for _, layer := range c.chain(id) {
			if !slices.Contains(all, layer) {
				all = append(all, layer)
			}
		}
	}
	return all
}

// needed reports whether DeleteLayer would refuse to delete the layer.
func (c *relations) needed(id string) bool {
	return len(c.children[id]) > 0 || len(c.tops[id]) > 0 || c.owner[id] != ""
}

// unneeded lists the layers that DeleteImage would delete: see roots.UnneededLayers,
// whose rules these are.
func (c *relations) unneeded(image images.Image) (going []string) {
	for _, id := range image.MappedLayers {
		if layer := c.byID[id]; layer != nil && !layer.ReadOnly {
			going = append(going, id)
		}
	}
	stays := func(child string) bool { return !slices.Contains(going, child) }
	for n, id := range c.chain(image.TopLayer) {
		heirs := slices.Clone(c.children[id])
		if n == 0 {
			for _, copied := range image.MappedLayers {
				heirs = append(heirs, c.children[copied]...)
			}
		}
		others := func(other string) bool { return other != image.ID }
		if c.byID[id].ReadOnly || c.owner[id] != "" || slices.ContainsFunc(c.tops[id], others) ||
			slices.ContainsFunc(heirs, stays) {
			break
		}
		going = append(going, id)
	}
	return going
}

func firstOfEach[R any](all []R, id func(R) string) []R {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(r R) bool {
		again := seen[id(r)]
		seen[id(r)] = true
		return again
	})
}
