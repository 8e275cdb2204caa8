package store

import (
	"errors"
	"fmt"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// label settles a new container's SELinux labels: those in its flags, else a fresh pair. Where SELinux is off both are "", and recorded
// as such.
func (p *containerPlan) label(opts ContainerOptions, l *layers.ReadTx) error {
	process, _ := p.flags[containers.FlagProcessLabel].(string)
	mount, _ := p.flags[containers.FlagMountLabel].(string)
	if (process == "") != (mount == "") {
		return fmt.Errorf("flags %s and %s go together: %w", containers.FlagProcessLabel, containers.FlagMountLabel, errdefs.ErrInvalid)
	}
	if process == "" && selinux.GetEnabled() {
		// A fresh label has categories that no other container has. The selinux package can only know of them when it is told.
		all, err := l.All()
		if err != nil {
			return err
		}
		for _, layer := range all {
			if layer.MountLabel == "" {
				continue
			}
			if err := selinux.ReserveLabelV2(layer.MountLabel); err != nil && !errors.Is(err, selinux.ErrMCSAlreadyExists) {
				return fmt.Errorf("layer %s: SELinux label %q: %w", layer.ID, layer.MountLabel, err)
			}
		}
		if process, mount, err = label.InitLabels(opts.LabelOpts); err != nil {
			return fmt.Errorf("SELinux label: %w", err)
		}
	}
	p.mountLabel = mount
	p.flags[containers.FlagProcessLabel], p.flags[containers.FlagMountLabel] = process, mount
	return nil
}
