package storageconf

import (
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/idtools/userns"
)

// Overrides are what the command line says. It wins over the environment and the files.
//
// As with containers-storage, GraphRoot, RunRoot, Driver or Options switch the files off:
// what they don't say has its default, and neither storage.conf nor STORAGE_DRIVER and
// STORAGE_OPTS are looked at, except to find a root that isn't given. A script that names
// its roots is thus safe from the host's settings.
type Overrides struct {
	GraphRoot, RunRoot, ImageStore string // --graph, --run, --image-store; "" for not given
	Driver                         string // --storage-driver
	Options                        []string
	TransientStore                 *bool // --transient-store; nil for not given
	// File is the one file to read instead of those of the search path. When it is given,
	// it stays in force beside the other flags.
	File string
	// Strict turns keys that are unknown or without effect into errors.
	Strict bool
}

// explicit reports whether the command line stands in for the files.
func (o Overrides) explicit() bool {
	return o.File == "" && (o.GraphRoot != "" || o.RunRoot != "" || o.Driver != "" || len(o.Options) > 0)
}

// Settings are a Config and how it came about.
type Settings struct {
	config.Config
	// Caller is the user who runs the process, as the host sees it.
	Caller userns.Caller
	// Files are those that were read, in the order in which they took effect.
	Files []string
	// Origins says where each setting that isn't a default was made, by the key that
	// storage.conf has for it.
	Origins map[string]Origin
	// Warnings are about what has no effect.
	Warnings []Warning

	env     Environment
	options []driverOption // as containers-storage would pass them to its driver
}

// Load reads what concerns this process. Mistakes are errdefs.ErrInvalid; a driver that
// exists but that Shale lacks is errdefs.ErrUnsupported; both name the file and the line,
// the variable or the flag. The Warnings are there beside an error, too.
func Load(o Overrides) (Settings, error) {
	env, err := Process()
	if err != nil {
		return Settings{}, err
	}
	s, err := env.Load(o)
	s.Overlay.FindMountProgram = findMountProgram
	return s, err
}

// Load is the function Load in another environment.
func (env Environment) Load(o Overrides) (Settings, error) {
	l := loader{env: env, over: o, entries: map[string]entry{}, cfg: Settings{
		Config: config.Config{
			Rootless: env.Rootless,
			Overlay:  config.Overlay{DisableIDMap: env.get("_CONTAINERS_OVERLAY_DISABLE_IDMAP") == "yes"},
		},
		Caller: env.Caller, Origins: map[string]Origin{}, env: env,
	}}
	if err := l.load(); err != nil {
		return Settings{Warnings: l.cfg.Warnings}, err
	}
	return l.cfg, nil
}

// CheckRoots refuses roots that an ordinary user can't write to: errdefs.ErrInvalid, with
// the file and the line, the variable or the flag that asks for them, and what to do.
func (s Settings) CheckRoots() error {
	if !s.env.ownPaths() {
		return nil
	}
	for _, root := range []struct{ key, path string }{{"storage.graphroot", s.GraphRoot},
		{"storage.runroot", s.RunRoot}} {
		if !s.env.canWrite(root.path) {
			return wrong(s.Origins[root.key], root.key,
				"user %d can't write to %s; %s in ~/.config/containers/storage.conf, "+
					"or --graph and --run, name another directory",
				s.Caller.UID, root.path, root.key)
		}
	}
	return nil
}
