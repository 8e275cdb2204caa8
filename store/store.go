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

// Store is one graph root with its run root. It may be used from several goroutines. Any
// number of Stores, in any number of processes, may work on the same roots, and programs
// that link containers/storage as well.
type Store struct {
	cfg config.Config

	mu     sync.Mutex // guards what follows
	rooms  *rooms
	closed bool
}

// rooms are the three kinds of record, under the directories that the driver's name gives
// them.
type rooms struct {
	driver     drivers.Driver
	layers     *layers.Store
	images     *images.Store
	containers *containers.Store
}

// Open returns the store that cfg describes. It touches nothing: the driver is chosen,
// directories are made and records are read when a method first needs them.
//
// Settings that Shale doesn't carry out are errdefs.ErrUnsupported; roots that are
// missing or not absolute are errdefs.ErrInvalid.
func Open(ctx context.Context, cfg config.Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, root := range []struct{ name, path string }{{"graph root", cfg.GraphRoot}, {"run root", cfg.RunRoot}} {
		if !filepath.IsAbs(root.path) {
			return nil, fmt.Errorf("%s %q: not an absolute path: %w", root.name, root.path, errdefs.ErrInvalid)
		}
	}
	if err := checkStores(cfg); err != nil {
		return nil, err
	}
	return &Store{cfg: cfg}, nil
}

// checkStores refuses other stores that can't be looked into.
func checkStores(cfg config.Config) error {
	if cfg.ImageStore != "" && !filepath.IsAbs(cfg.ImageStore) {
		return fmt.Errorf("image store %q: not an absolute path: %w", cfg.ImageStore, errdefs.ErrInvalid)
	}
	for _, root := range cfg.AdditionalImageStores {
		switch st, err := os.Stat(root); {
		case !filepath.IsAbs(root):
			return fmt.Errorf("additional image store %q: not an absolute path: %w", root, errdefs.ErrInvalid)
		case err != nil:
			return fmt.Errorf("additional image store: %w", err)
		case !st.IsDir():
			return fmt.Errorf("additional image store %s: not a directory: %w", root, errdefs.ErrInvalid)
		}
	}
	return nil
}

// otherStores lists the additional image stores, without the store's own roots and
// without repeats: a store that is locked for a change can't be locked for reading
// beneath itself.
func otherStores(cfg config.Config) ([]string, error) {
	var seen []os.FileInfo
	isNew := func(root string) (bool, error) {
		st, err := os.Stat(root)
		if err != nil {
			return false, err
		}
		for _, other := range seen {
			if os.SameFile(st, other) {
				return false, nil
			}
		}
		seen = append(seen, st)
		return true, nil
	}
	for _, own := range []string{cfg.GraphRoot, cfg.ImageStore} {
		if own != "" {
			if _, err := isNew(own); err != nil {
				return nil, err
			}
		}
	}
	var others []string
	for _, root := range cfg.AdditionalImageStores {
		if other, err := isNew(root); err != nil {
			return nil, fmt.Errorf("additional image store: %w", err)
		} else if other {
			others = append(others, root)
		}
	}
	return others, nil
}

// Wait returns when the files of all that was deleted so far are removed. A deletion is
// answered as soon as it is durable and out of sight, which takes milliseconds, and
// removes its files after that. Wait returns the errors there were, once; what they are
// about, and what isn't removed when ctx ends, is left to the next process that opens the
// store.
func (s *Store) Wait(ctx context.Context) error {
	s.mu.Lock()
	rooms := s.rooms
	s.mu.Unlock()
	if rooms == nil {
		return nil
	}
	return rooms.layers.Wait(ctx)
}

// Close waits like Wait, and gives back what the store holds in this process. Mounts
// stay, and so does everything on disk.
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

// DriverName is the name of the store's driver, "overlay" or "vfs". Choosing one may mean
// to try out what the kernel can do.
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
	for _, root := range []string{s.cfg.GraphRoot, s.cfg.RunRoot, s.cfg.ImageStore} {
		if root == "" {
			continue
		}
		if err := os.MkdirAll(root, 0o700); err != nil { // nobody but the owner may reach what layers hold
			return nil, fmt.Errorf("store %s: %w", s.cfg.GraphRoot, err)
		}
	}
	others, err := otherStores(s.cfg)
	if err != nil {
		return nil, err
	}
	driver, err := openDriver(ctx, s.cfg, others)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.cfg.GraphRoot, err)
	}
	apply, err := applyOptions(s.cfg, driver)
	if err != nil {
		return nil, err
	}
	room := func(root, kind string) string { return filepath.Join(root, driver.Name()+"-"+kind) }
	graph, run := s.cfg.GraphRoot, s.cfg.RunRoot
	roomOfEach := func(roots []string, kind string) (dirs []string) {
		for _, root := range roots {
			dirs = append(dirs, room(root, kind))
		}
		return dirs
	}
	imageConfig := images.Config{Dir: room(graph, "images"), RunDir: room(run, "images"),
		ReadOnly: roomOfEach(others, "images")}
	imageLayers, tempRoots := "", []string{filepath.Join(graph, driver.Name(), "tempdirs")}
	if split := s.cfg.ImageStore; split != "" {
		imageConfig.Dir, imageConfig.GraphDir = room(split, "images"), imageConfig.Dir
		imageLayers = room(split, "layers")
		tempRoots = append(tempRoots, filepath.Join(split, driver.Name(), "tempdirs"))
	}
	s.rooms = &rooms{
		driver: driver,
		layers: layers.Open(layers.Config{
			Dir:       room(graph, "layers"),
			ImageDir:  imageLayers,
			ReadOnly:  roomOfEach(others, "layers"),
			RunDir:    room(run, "layers"),
			Transient: s.cfg.TransientStore,
			Apply:     apply,
			Unsynced:  unsynced(s.cfg, driver),
			Driver:    driver,
			TempRoots: tempRoots,
		}),
		images: images.Open(imageConfig),
		containers: containers.Open(containers.Config{
			Dir: room(graph, "containers"), RunDir: room(run, "containers"), Transient: s.cfg.TransientStore,
		}),
	}
	return s.rooms, nil
}
