// Package examine looks for damage and leftovers in what the overlay driver keeps of
// layers beside their content, and puts it right. The driver itself doesn't need it. Of
// the layers of other drivers it can only tell that they are there.
package examine

import (
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
)

// Checker checks the layers of one driver. Its methods may be called by several
// goroutines, as far as the layer lock that each asks for allows it.
type Checker struct {
	driver  drivers.Driver
	overlay bool
	homes   files.Homes // none unless overlay
}

// Of is the checker of a driver's layers.
func Of(d drivers.Driver) *Checker {
	c := &Checker{driver: d}
	if o, ok := d.(interface{ Files() files.Homes }); ok {
		c.overlay, c.homes = true, o.Files()
	}
	return c
}

// Flaw is one thing that is wrong with a layer's directory.
type Flaw struct {
	// Path is absolute; "" for the layer of another driver.
	Path string
	What string
	// Lost: the layer's own files are gone, or can't be reached, and Rewrite can't help.
	Lost bool
	// Lower is set when everything that the driver keeps agrees on one list of layers
	// beneath, which exist, and it is none of those that were asked for: then the one who
	// asked may be wrong.
	Lower []string
}
