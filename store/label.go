package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// labels is a container's pair of SELinux labels; both "" where SELinux is off, and
// recorded as such.
type labels struct{ process, mount string }

// givenLabels are those in the flags; ok is false when there are none.
func givenLabels(flags map[string]any) (given labels, ok bool, err error) {
	given.process, _ = flags[containers.FlagProcessLabel].(string)
	given.mount, _ = flags[containers.FlagMountLabel].(string)
	if (given.process == "") != (given.mount == "") {
		return labels{}, false, fmt.Errorf("flags %s and %s go together: %w", containers.FlagProcessLabel,
			containers.FlagMountLabel, errdefs.ErrInvalid)
	}
	return given, given.process != "", nil
}

// checkLabels finds out before any work is done whether chooseLabels will understand
// flags and options.
func checkLabels(flags map[string]any, opts []string) error {
	_, given, err := givenLabels(flags)
	if err == nil && !given && selinux.GetEnabled() {
		_, err = freshLabels(opts, nil)
	}
	return err
}

// withLabels is the flags of a new container with its labels.
func withLabels(opts ContainerOptions, l *layers.ReadTx) (map[string]any, error) {
	chosen, err := chooseLabels(opts.Flags, opts.LabelOpts, l)
	flags := maps.Clone(opts.Flags)
	flags[containers.FlagProcessLabel], flags[containers.FlagMountLabel] = chosen.process, chosen.mount
	return flags, err
}

// chooseLabels gives a new container the labels in its flags, or else a fresh pair. Under
// the lock under which the container is recorded no other can get the same categories.
func chooseLabels(flags map[string]any, opts []string, l *layers.ReadTx) (labels, error) {
	given, ok, err := givenLabels(flags)
	if err != nil || ok || !selinux.GetEnabled() {
		return given, err
	}
	all, err := l.All()
	if err != nil {
		return labels{}, err
	}
	taken := map[string]bool{}
	for _, layer := range all {
		if layer.MountLabel != "" {
			taken[level(layer.MountLabel)] = true
		}
	}
	return freshLabels(opts, taken)
}

// freshLabels draws labels whose categories no container has, unless the options ask for
// certain ones. errdefs.ErrInUse tells that it found none, errdefs.ErrInvalid that the
// options aren't understood.
func freshLabels(opts []string, taken map[string]bool) (fresh labels, err error) {
	// The package remembers what it gave, and goes on forever when it has no more. What
	// the records hold is the truth, and it ends.
	const draws = 10000
	for range draws {
		fresh.process, fresh.mount, err = label.InitLabels(opts)
		if err != nil {
			return labels{}, fmt.Errorf("SELinux label: %w: %w", errdefs.ErrInvalid, err)
		}
		if fresh.process == "" {
			return fresh, nil // unconfined, with the package's own label for that
		}
		selinux.ReleaseLabel(fresh.mount)
		if !taken[level(fresh.mount)] || slices.ContainsFunc(opts,
			func(o string) bool { return strings.HasPrefix(o, "level:") }) {
			return fresh, nil
		}
	}
	return labels{}, fmt.Errorf("SELinux label: %w: the categories are given to %d layers", errdefs.ErrInUse,
		len(taken))
}

// level is the fourth part of a label, its sensitivity and categories.
func level(label string) string {
	parts := strings.SplitN(label, ":", 4)
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}
