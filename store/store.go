package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// Store is one graph root with its run root. It may be used from several goroutines. Any number of Stores, in any number of processes, may work on
// the same roots, and programs that link containers/storage as well.
type Store struct {
	cfg config.Config

	mu     sync.Mutex // guards what follows
	rooms  *rooms
	closed bool
}

// rooms are the three kinds of record, under the directories that the driver's name gives them.
type rooms struct {
	driver     drivers.Driver
	layers     *layers.Store
	images     *images.Store
	containers *containers.Store
}

// Open returns the store that cfg describes. It touches nothing: the driver is chosen, directories are made and records are read when a
// method first needs them.
//
// Settings that Shale doesn't carry out are errdefs.ErrUnsupported; roots that are missing or not absolute are errdefs.ErrInvalid.
func Open(ctx context.Context, cfg config.Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, root := range []struct{ name, path string }{{"graph root", cfg.GraphRoot}, {"run root", cfg.RunRoot}} {
		if !filepath.IsAbs(root.path) {
			return nil, fmt.Errorf("%s %q: not an absolute path: %w", root.name, root.path, errdefs.ErrInvalid)
		}
	}
	for _, setting := range []struct {
		name string
		used bool
	}{
		{"imagestore", cfg.ImageStore != ""},
		{"additionalimagestores", len(cfg.AdditionalImageStores) > 0},
		{"additionallayerstores", len(cfg.AdditionalLayerStores) > 0},
	} {
		if setting.used {
			return nil, fmt.Errorf("%s: %w", setting.name, errdefs.ErrUnsupported)
		}
	}
	return &Store{cfg: cfg}, nil
}

// Close gives back what the store holds in this process. Mounts stay, and so does everything on disk.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := s.rooms
	s.rooms, s.closed = nil, true
	if rooms == nil {
		return nil
	}
	return rooms.layers.Close()
}

// GraphRoot is the directory with the layers, images and containers.
func (s *Store) GraphRoot() string { return s.cfg.GraphRoot }

// RunRoot is the directory with what need not survive a reboot.
func (s *Store) RunRoot() string { return s.cfg.RunRoot }

// Config is what the store was opened with.
func (s *Store) Config() config.Config { return s.cfg }

// DriverName is the name of the store's driver, "overlay" or "vfs". Choosing one may mean to try out what the kernel can do.
func (s *Store) DriverName(ctx context.Context) (string, error) {
	r, err := s.open(ctx)
	if err != nil {
		return "", err
	}
	return r.driver.Name(), nil
}

// open settles which driver's directories the store works in. An error isn't remembered.
func (s *Store) open(ctx context.Context) (*rooms, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("store %s: closed: %w", s.cfg.GraphRoot, errdefs.ErrInvalid)
	}
	if s.rooms != nil {
		return s.rooms, nil
	}
	for _, root := range []string{s.cfg.GraphRoot, s.cfg.RunRoot} {
		if err := os.MkdirAll(root, 0o700); err != nil { // nobody but the owner may reach what layers hold
			return nil, fmt.Errorf("store %s: %w", s.cfg.GraphRoot, err)
		}
	}
	driver, err := openDriver(ctx, s.cfg)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.cfg.GraphRoot, err)
	}
	apply, err := applyOptions(s.cfg, driver)
	if err != nil {
		return nil, err
	}
	room := func(root, kind string) string { return filepath.Join(root, driver.Name()+"-"+kind) }
	graph, run := s.cfg.GraphRoot, s.cfg.RunRoot
	s.rooms = &rooms{
		driver: driver,
		layers: layers.Open(layers.Config{
			Dir:       room(graph, "layers"),
			RunDir:    room(run, "layers"),
			Transient: s.cfg.TransientStore,
			Apply:     apply,
			Driver:    driver,
			TempRoots: []string{filepath.Join(graph, driver.Name(), "tempdirs")},
		}),
		images: images.Open(images.Config{Dir: room(graph, "images"), RunDir: room(run, "images")}),
		containers: containers.Open(containers.Config{
			Dir: room(graph, "containers"), RunDir: room(run, "containers"), Transient: s.cfg.TransientStore,
		}),
	}
	return s.rooms, nil
}
