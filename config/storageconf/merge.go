package storageconf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// loader puts the parts of a configuration together.
type loader struct {
	env     Environment
	over    Overrides
	cfg     Settings
	entries map[string]entry // what the files said in the end, by key
	// searched: nobody said which file to read.
	searched bool
}

func (l *loader) load() error {
	explicit := l.over.explicit()
	if !explicit || l.over.GraphRoot == "" || l.over.RunRoot == "" {
		if err := l.readFiles(); err != nil {
			return err
		}
	}
	if err := l.setRoots(); err != nil {
		return err
	}
	if explicit { // about the rest, neither files nor environment have a say
		clear(l.entries)
		l.env.Lookup = func(string) (string, bool) { return "", false }
	}
	for _, step := range []func() error{l.setDriver, l.setImageStore, l.setOthers, l.setOptions, l.cfg.decodeOptions} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// readFiles reads every file that applies into l.entries.
func (l *loader) readFiles() error {
	files, err := l.env.search(l.over.File)
	if err != nil {
		return err
	}
	l.searched = l.over.File == "" && l.env.get(confVariable) == ""
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return err
		}
		entries, warnings, err := parse(file, data)
		l.cfg.Warnings = append(l.cfg.Warnings, warnings...)
		if err != nil {
			return err
		}
		l.cfg.Files = append(l.cfg.Files, file)
		for _, e := range entries {
			l.merge(e)
		}
	}
	if l.over.Strict && len(l.cfg.Warnings) > 0 {
		return fmt.Errorf("%w: %s", errdefs.ErrInvalid, l.cfg.Warnings[0])
	}
	return nil
}

// merge lets e take the place of what weaker files said, or add to it.
func (l *loader) merge(e entry) {
	if old, ok := l.entries[e.key.name]; ok && e.key.kind == list {
		if e.append == nil {
			e.append = old.append // once a file asked to append, later ones do as well, until one says {append=false}
		}
	}
	if e.append != nil && *e.append {
		e.list = append(slices.Clone(l.entries[e.key.name].list), e.list...)
	}
	l.entries[e.key.name] = e
}

// value is what the files say of a key; "" stands for nothing, as it does in
// storage.conf.
func (l *loader) value(name string) (string, Origin) {
	e := l.entries[name]
	if e.text != "" {
		l.set(name, e.origin)
	}
	return e.text, e.origin
}

func (l *loader) set(name string, at Origin) { l.cfg.Origins[name] = at }

func (l *loader) setDriver() error {
	name, at := l.value("storage.driver")
	if v := l.env.get("STORAGE_DRIVER"); v != "" {
		name, at = v, Origin{Env: "STORAGE_DRIVER"}
	}
	if l.over.Driver != "" {
		name, at = l.over.Driver, Origin{Flag: "--storage-driver"}
	}
	if err := l.nameDriver(name, at); err != nil {
		return err
	}
	if e := l.entries["storage.driver_priority"]; len(e.list) > 0 {
		for _, d := range e.list {
			if !familyDriver(d) {
				return wrong(e.origin, "storage.driver_priority", "unknown driver %q", d)
			}
			if d == "overlay2" {
				d = "overlay"
			}
			l.cfg.DriverPriority = append(l.cfg.DriverPriority, d)
		}
		l.set("storage.driver_priority", e.origin)
	}
	return nil
}

// familyDriver reports whether containers-storage has, or once had, a driver of that
// name.
func familyDriver(name string) bool {
	return slices.Contains([]string{"overlay", "overlay2", "btrfs", "zfs", "vfs"}, name)
}

// nameDriver sets the driver, "" leaving the choice to the store.
func (l *loader) nameDriver(name string, at Origin) error {
	switch name {
	case "":
		return nil
	case "overlay", "vfs":
	case "overlay2":
		l.cfg.Warnings = append(l.cfg.Warnings, Warning{at, `"overlay2" is an old name of the driver "overlay"`})
		name = "overlay"
	default:
		if familyDriver(name) {
			return fmt.Errorf("%s: storage.driver %q: %w: there are overlay and vfs", at, name, errdefs.ErrUnsupported)
		}
		return wrong(at, "storage.driver", "unknown driver %q", name)
	}
	l.set("storage.driver", at)
	l.cfg.Driver = name
	return nil
}

// setRoots finds GraphRoot and RunRoot: the command line, the files, the defaults.
func (l *loader) setRoots() error {
	c := &l.cfg
	var err error
	if l.over.GraphRoot != "" {
		if c.GraphRoot, err = filepath.Abs(l.over.GraphRoot); err != nil {
			return err
		}
		l.set("storage.graphroot", Origin{Flag: "--graph"})
	} else if err = l.rootOfFiles(&c.GraphRoot, "storage.graphroot"); err != nil {
		return err
	}
	if old, at := l.value("storage.rootless_storage_path"); old != "" && l.over.GraphRoot == "" {
		l.cfg.Warnings = append(l.cfg.Warnings, Warning{at,
			"storage.rootless_storage_path is deprecated: use storage.graphroot, which wins over it"})
		if c.GraphRoot == "" && l.env.ownPaths() {
			if err := l.rootOfFiles(&c.GraphRoot, "storage.rootless_storage_path"); err != nil {
				return err
			}
			l.set("storage.graphroot", at)
		}
	}
	if l.over.RunRoot != "" {
		if c.RunRoot, err = filepath.Abs(l.over.RunRoot); err != nil {
			return err
		}
		l.set("storage.runroot", Origin{Flag: "--run"})
	} else if err = l.rootOfFiles(&c.RunRoot, "storage.runroot"); err != nil {
		return err
	}
	if c.GraphRoot == "" {
		if c.GraphRoot, err = l.env.defaultGraphRoot(); err != nil {
			return fmt.Errorf("default graph root: %w", err)
		}
	}
	if c.RunRoot == "" {
		if c.RunRoot, err = l.env.defaultRunRoot(); err != nil {
			return fmt.Errorf("default run root: %w", err)
		}
	}
	return nil
}

// rootOfFiles sets a root to what the files say, if anything. A file of the system that
// speaks of root's store, as those of distributions do, says nothing to ordinary users:
// their store is where it would be without it.
func (l *loader) rootOfFiles(dst *string, name string) error {
	v, at := l.value(name)
	if v == "" {
		return nil
	}
	path := l.env.expand(v)
	if !filepath.IsAbs(path) {
		return wrong(at, name, "%q is not an absolute path", path)
	}
	if l.isSystem(at.File) && l.env.ownPaths() && !l.env.canWrite(path) {
		l.cfg.Warnings = append(l.cfg.Warnings, Warning{at, fmt.Sprintf(
			"%s has no effect: user %d can't write to %s, and has the default, below the home directory", name,
			l.env.Caller.UID, path)})
		delete(l.cfg.Origins, name)
		return nil
	}
	*dst = path
	return nil
}

// isSystem reports whether a file was found where the system has those that are for every
// user.
func (l *loader) isSystem(file string) bool {
	for _, base := range []string{"/etc/containers/storage", "/usr/share/containers/storage"} {
		base = filepath.Join(l.env.Root, base)
		if l.searched && (file == base+".conf" || filepath.Dir(file) == base+".conf.d") {
			return true
		}
	}
	return false
}

// setImageStore expands variables, as for the other roots. containers-storage doesn't,
// and makes a directory called $HOME in the current one.
func (l *loader) setImageStore() error {
	c := &l.cfg
	v, at := l.value("storage.imagestore")
	if strings.Contains(v, "$") {
		v = l.env.expand(v)
	}
	if l.over.ImageStore != "" {
		var err error
		if v, err = filepath.Abs(l.over.ImageStore); err != nil {
			return err
		}
		at = Origin{Flag: "--image-store"}
		l.set("storage.imagestore", at)
	}
	if v == "" {
		return nil
	}
	if !filepath.IsAbs(v) {
		return wrong(at, "storage.imagestore", "%q is not an absolute path", v)
	}
	if c.ImageStore = filepath.Clean(v); c.ImageStore == c.GraphRoot {
		return wrong(at, "storage.imagestore",
			"%s is the graph root as well; leave it out or give it a place of its own", v)
	}
	return nil
}

const (
	defaultAutoMin = 1024
	defaultAutoMax = 65536
)

// setOthers sets what is neither a root nor a driver's option.
func (l *loader) setOthers() error {
	c := &l.cfg
	v, _ := l.value("storage.transient_store")
	c.TransientStore = v == "true"
	if l.over.TransientStore != nil {
		c.TransientStore = *l.over.TransientStore
		l.set("storage.transient_store", Origin{Flag: "--transient-store"})
	}
	v, _ = l.value("storage.options.disable-volatile")
	c.DisableVolatile = v == "true"

	const table = "storage.options."
	c.AutoUserns.User, _ = l.value(table + "root-auto-userns-user")
	c.AutoUserns.MinSize = l.number(table+"auto-userns-min-size", defaultAutoMin)
	c.AutoUserns.MaxSize = l.number(table+"auto-userns-max-size", defaultAutoMax)
	if c.AutoUserns.MinSize > c.AutoUserns.MaxSize {
		_, at := l.value(table + "auto-userns-min-size")
		return wrong(at, table+"auto-userns-min-size", "%d is more than auto-userns-max-size, %d", c.AutoUserns.MinSize,
			c.AutoUserns.MaxSize)
	}

	const pull = table + "pull_options."
	for name, dst := range map[string]*bool{
		"enable_partial_images":                       &c.PullOptions.EnablePartialImages,
		"convert_images":                              &c.PullOptions.ConvertImages,
		"use_hard_links":                              &c.PullOptions.UseHardLinks,
		"insecure_allow_unpredictable_image_contents": &c.PullOptions.InsecureAllowUnpredictableImageContents,
	} {
		v, at := l.value(pull + name)
		if v == "" {
			continue
		}
		// Other spellings of true, "1" or "yes", are false for containers-storage: nobody
		// means that.
		switch strings.ToLower(v) {
		case "true":
			*dst = true
		case "false":
		default:
			return wrong(at, pull+name, `%q is neither "true" nor "false"`, v)
		}
	}
	if v, _ := l.value(pull + "ostree_repos"); v != "" {
		c.PullOptions.OSTreeRepos = strings.Split(v, ":")
	}
	return nil
}

// setOptions takes the driver options from the strongest place that has any.
func (l *loader) setOptions() (err error) {
	if opts := l.over.Options; len(opts) > 0 {
		l.cfg.options, err = splitOptions(opts, Origin{Flag: "--storage-opt"})
	} else if opts, ok := l.env.Lookup("STORAGE_OPTS"); ok && opts != "" {
		l.cfg.options, err = splitOptions(strings.Split(opts, ","), Origin{Env: "STORAGE_OPTS"})
	} else if !ok {
		l.cfg.options = l.fileOptions()
	}
	return err
}

// number is an integer of the files; 0 stands for the default.
func (l *loader) number(name string, otherwise uint32) uint32 {
	v, _ := l.value(name)
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 0 {
		return otherwise
	}
	return uint32(n)
}
