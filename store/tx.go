package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// View calls fn with a look at the records, and returns fn's error.
//
// A kind of record is locked, and read, when fn first asks for it, and then stays as it
// is until fn returns: other programs that want to change it wait that long, so fn does
// no work of its own. Ask for layers before images, and for images before containers: who
// asks the other way round has the later kind given back and taken anew, and what it read
// of that may be out of date. No method of Store may be called within fn.
func (s *Store) View(ctx context.Context, fn func(*ReadTx) error) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.View(ctx, func(tx *roots.Tx) error { return fn(&ReadTx{ctx, tx}) })
}

// Update calls fn with a look at the records that may change them, and saves what it has
// changed when it returns nil. After an error nothing is changed. What is said of View
// holds here as well, but that nobody else may look meanwhile; and once something is
// changed, looking at an earlier kind that wasn't looked at yet is errdefs.ErrInvalid.
//
// A change of several kinds is a save of each.
func (s *Store) Update(ctx context.Context, fn func(*WriteTx) error) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.Update(ctx, func(tx *roots.Tx) error { return fn(&WriteTx{ReadTx{ctx, tx}}) })
}

// ReadTx is a look at the records of a store, for one goroutine, until the function ends
// that it was given to. What its methods return belongs to the caller.
type ReadTx struct {
	ctx context.Context // of the transaction, which no method outlives
	tx  *roots.Tx
}

// WriteTx is a ReadTx that can change records.
type WriteTx struct{ ReadTx }

// ask has a kind of record answer.
func ask[Tx, R any](open func() (*Tx, error), fn func(*Tx) (R, error)) (R, error) {
	tx, err := open()
	if err != nil {
		var none R
		return none, err
	}
	return fn(tx)
}

// Record is what layers, images and containers have in common.
type Record struct {
	Kind     errdefs.Kind // errdefs.Layer, errdefs.Image or errdefs.Container
	ID       string
	Names    []string
	Metadata string
}

// Lookup finds what a reference means: a layer, else an image, else a container.
func (tx *ReadTx) Lookup(ref string) (Record, error) {
	layer, err := tx.Layer(ref)
	if !errors.Is(err, errdefs.ErrNotFound) {
		return Record{errdefs.Layer, layer.ID, layer.Names, layer.Metadata}, err
	}
	image, err := tx.Image(ref)
	if !errors.Is(err, errdefs.ErrNotFound) {
		return Record{errdefs.Image, image.ID, image.Names, image.Metadata}, err
	}
	container, err := tx.Container(ref)
	if !errors.Is(err, errdefs.ErrNotFound) {
		return Record{errdefs.Container, container.ID, container.Names, container.Metadata}, err
	}
	return Record{}, errdefs.Missing{Kind: errdefs.AnyObject, Ref: ref}
}

// Layers returns all layers in the order of their files, those of additional stores last.
func (tx *ReadTx) Layers() ([]layers.Layer, error) {
	return ask(tx.tx.Layers, (*layers.ReadTx).All)
}

// Layer finds a layer by ID, name or unique ID prefix.
func (tx *ReadTx) Layer(ref string) (layers.Layer, error) {
	return ask(tx.tx.Layers, func(l *layers.ReadTx) (layers.Layer, error) { return l.Lookup(ref) })
}

// LayersByCompressedDigest returns the layers whose blob has the digest; none is
// errdefs.ErrNotFound.
func (tx *ReadTx) LayersByCompressedDigest(d digest.Digest) ([]layers.Layer, error) {
	return tx.layersBy(d, (*layers.ReadTx).ByCompressedDigest)
}

// LayersByDiffID returns the layers whose uncompressed tar has the digest; none is
// errdefs.ErrNotFound.
func (tx *ReadTx) LayersByDiffID(d digest.Digest) ([]layers.Layer, error) {
	return tx.layersBy(d, (*layers.ReadTx).ByDiffID)
}

// LayersByTOCDigest returns the layers that came by this table of contents; none is
// errdefs.ErrNotFound.
func (tx *ReadTx) LayersByTOCDigest(d digest.Digest) ([]layers.Layer, error) {
	return tx.layersBy(d, (*layers.ReadTx).ByTOCDigest)
}

func (tx *ReadTx) layersBy(d digest.Digest,
	find func(*layers.ReadTx, digest.Digest) ([]layers.Layer, error)) ([]layers.Layer, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w: %w", d, errdefs.ErrInvalid, err)
	}
	found, err := ask(tx.tx.Layers, func(l *layers.ReadTx) ([]layers.Layer, error) { return find(l, d) })
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("layer with digest %s: %w", d, errdefs.ErrNotFound)
	}
	return found, err
}

// LayerBigData opens a data item of a layer; errdefs.ErrNotFound when it has none under
// the key. The caller closes it, and may read it when the transaction is over: it is what
// it was when it was opened even if it is replaced meanwhile.
func (tx *ReadTx) LayerBigData(ref, key string) (io.ReadCloser, error) {
	return ask(tx.tx.Layers, func(l *layers.ReadTx) (io.ReadCloser, error) { return l.BigData(ref, key) })
}

// Mounted returns how many users the mount of a layer, or of a container's layer, has; 0
// means that it isn't mounted.
func (tx *ReadTx) Mounted(ref string) (count int, err error) {
	if ref, err = tx.layerOf(ref); err != nil {
		return 0, err
	}
	return ask(tx.tx.Layers, func(l *layers.ReadTx) (int, error) { return l.Mounted(tx.ctx, ref) })
}

// MountedLayers returns where layers are mounted, for all users and processes together.
func (tx *ReadTx) MountedLayers() ([]catalog.Mountpoint, error) {
	return ask(tx.tx.Layers, func(l *layers.ReadTx) ([]catalog.Mountpoint, error) { return l.MountedLayers(tx.ctx) })
}

// ParentOwners returns the owners of the directories above the mount point of a layer, or
// of a container's layer, that is mounted, as far as its ID map can't express them;
// ascending.
func (tx *ReadTx) ParentOwners(ref string) (uids, gids []int, err error) {
	if ref, err = tx.layerOf(ref); err != nil {
		return nil, nil, err
	}
	l, err := tx.tx.Layers()
	if err != nil {
		return nil, nil, err
	}
	return l.ParentOwners(tx.ctx, ref)
}

// layerOf returns the layer of a container, or what it was given if that is no container.
func (tx *ReadTx) layerOf(ref string) (string, error) {
	container, err := tx.Container(ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return ref, nil
	}
	return container.LayerID, err
}

// Images returns all images in the order of their file, those of additional stores last.
func (tx *ReadTx) Images() ([]images.Image, error) {
	return ask(tx.tx.Images, (*images.ReadTx).All)
}

// Image finds an image by ID, name or unique ID prefix.
func (tx *ReadTx) Image(ref string) (images.Image, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) (images.Image, error) { return i.Lookup(ref) })
}

// ImagesByDigest returns the images that answer to a digest, perhaps none.
func (tx *ReadTx) ImagesByDigest(d digest.Digest) ([]images.Image, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) ([]images.Image, error) { return i.ByDigest(d) })
}

// ImagesByTopLayer returns the images whose top layer, or a mapped copy of it, is the
// given layer.
func (tx *ReadTx) ImagesByTopLayer(layer string) ([]images.Image, error) {
	l, err := tx.Layer(layer)
	if err != nil {
		return nil, err
	}
	return ask(tx.tx.Images, func(i *images.ReadTx) ([]images.Image, error) { return i.ByTopLayer(l.ID) })
}

// ImageBigData returns a data item of an image; errdefs.ErrNotFound when it has none
// under the key.
func (tx *ReadTx) ImageBigData(ref, key string) ([]byte, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) ([]byte, error) { return i.BigData(ref, key) })
}

// ImageBigDataSize returns the size in bytes of a data item of an image.
func (tx *ReadTx) ImageBigDataSize(ref, key string) (int64, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) (int64, error) { return i.BigDataSize(ref, key) })
}

// ImageBigDataDigest returns the digest recorded for a data item of an image.
func (tx *ReadTx) ImageBigDataDigest(ref, key string) (digest.Digest, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) (digest.Digest, error) { return i.BigDataDigest(ref, key) })
}

// ImageDirectory makes and returns a directory in the graph root for those who use the
// image. It goes with the image.
func (tx *ReadTx) ImageDirectory(ref string) (string, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) (string, error) { return i.Directory(ref) })
}

// ImageRunDirectory is ImageDirectory in the run root.
func (tx *ReadTx) ImageRunDirectory(ref string) (string, error) {
	return ask(tx.tx.Images, func(i *images.ReadTx) (string, error) { return i.RunDirectory(ref) })
}

// Containers returns all containers: stable ones before volatile ones.
func (tx *ReadTx) Containers() ([]containers.Container, error) {
	return ask(tx.tx.Containers, (*containers.ReadTx).All)
}

// Container finds a container by ID, name, the ID of its layer or unique ID prefix.
func (tx *ReadTx) Container(ref string) (containers.Container, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (containers.Container, error) { return c.Lookup(ref) })
}

// ContainerByLayer returns the container that a layer belongs to; errdefs.ErrNotFound
// when it belongs to none.
func (tx *ReadTx) ContainerByLayer(layer string) (containers.Container, error) {
	l, err := tx.Layer(layer)
	if err != nil {
		return containers.Container{}, err
	}
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (containers.Container, error) { return c.ByLayer(l.ID) })
}

// ContainerBigData returns a data item of a container; errdefs.ErrNotFound when it has
// none under the key.
func (tx *ReadTx) ContainerBigData(ref, key string) ([]byte, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) ([]byte, error) { return c.BigData(ref, key) })
}

// ContainerBigDataSize returns the size in bytes of a data item of a container.
func (tx *ReadTx) ContainerBigDataSize(ref, key string) (int64, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (int64, error) { return c.BigDataSize(ref, key) })
}

// ContainerBigDataDigest returns the digest recorded for a data item of a container.
func (tx *ReadTx) ContainerBigDataDigest(ref, key string) (digest.Digest, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (digest.Digest, error) { return c.BigDataDigest(ref, key) })
}

// ContainerDirectory makes and returns a directory in the graph root for those who use
// the container. It goes with the container.
func (tx *ReadTx) ContainerDirectory(ref string) (string, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (string, error) { return c.Directory(ref) })
}

// ContainerRunDirectory is ContainerDirectory in the run root.
func (tx *ReadTx) ContainerRunDirectory(ref string) (string, error) {
	return ask(tx.tx.Containers, func(c *containers.ReadTx) (string, error) { return c.RunDirectory(ref) })
}

// SetNames replaces the names of a layer, image or container. A name that another one of
// the same kind has moves away from there.
func (tx *WriteTx) SetNames(ref string, names ...string) error {
	return tx.changeNames(ref, names, naming.Set)
}

// AddNames puts names before those that a layer, image or container has. A name that
// another one of the same kind has moves away from there.
func (tx *WriteTx) AddNames(ref string, names ...string) error {
	return tx.changeNames(ref, names, naming.Add)
}

// RemoveNames takes names away from a layer, image or container. Names it doesn't have
// are no error.
func (tx *WriteTx) RemoveNames(ref string, names ...string) error {
	return tx.changeNames(ref, names, naming.Remove)
}

func (tx *WriteTx) changeNames(ref string, names []string, change naming.Change) error {
	return tx.changeAny(ref, func(r changer, id string) error { return r.ChangeNames(id, names, change) })
}

// SetMetadata replaces what the caller keeps with a layer, image or container.
func (tx *WriteTx) SetMetadata(ref, metadata string) error {
	return tx.changeAny(ref, func(r changer, id string) error { return r.SetMetadata(id, metadata) })
}

// changer is what the records of all kinds can have changed.
type changer interface {
	ChangeNames(id string, names []string, change naming.Change) error
	SetMetadata(id, metadata string) error
}

func (tx *WriteTx) changeAny(ref string, change func(changer, string) error) error {
	found, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	var records changer
	switch found.Kind {
	case errdefs.Layer:
		records, err = tx.tx.ChangeLayers()
	case errdefs.Image:
		records, err = tx.tx.ChangeImages()
	default:
		records, err = tx.tx.ChangeContainers()
	}
	if err != nil {
		return err
	}
	return change(records, found.ID)
}

// SetImageBigData stores a data item with an image, in place of one that has the same
// key. The digest of an item whose key begins with "manifest" is a digest of the image; d
// is recorded for it, or the SHA-256 of data when d is "".
func (tx *WriteTx) SetImageBigData(ref, key string, data []byte, d digest.Digest) error {
	i, err := tx.tx.ChangeImages()
	if err != nil {
		return err
	}
	return i.SetBigData(ref, images.Item{Key: key, Data: data, Digest: d})
}

// SetContainerBigData stores a data item with a container, in place of one that has the
// same key.
func (tx *WriteTx) SetContainerBigData(ref, key string, data []byte) error {
	c, err := tx.tx.ChangeContainers()
	if err != nil {
		return err
	}
	return c.SetBigData(ref, containers.Item{Key: key, Data: data})
}
