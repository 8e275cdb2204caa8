package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shalestore/shale/cmd/internal/urgent"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) mount() *cobra.Command {
	command := &cobra.Command{
		Use:   "mount [flags] LAYER|CONTAINER...",
		Short: "Mount layers and containers",
		Long: `Mounts layers and the layers of containers, and prints where. What is mounted already
is not mounted again: the store counts, and "shale unmount" must be called as often.

With --read-only an image can be mounted, too; nothing can be written to it then.

An ordinary user's mounts live in a user namespace, and it refuses to make one that
would end with the command: run it in "shale unshare".
`,
		Example: `  # list a container's files
  m=$(shale mount web) && ls "$m"
  shale unmount web`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	flags := command.Flags()
	options := flags.StringP("opt", "o", "", "mount with `OPTIONS`, separated by commas")
	label := flags.StringP("label", "l", "", "mount with the SELinux label `LABEL`")
	readOnly := flags.BoolP("read-only", "r", false,
		"mount an image, or a layer, so that it can't be changed (also --ro)")
	flags.SetNormalizeFunc(alias("ro", "read-only"))
	maps := &idMapFlags{}
	if !p.peer {
		command.Long += `

The flags of ID maps show a layer or, with --read-only, an image with the owners that
it has in such a container; a layer is then read-only as well.`
		command.Example += `

  # an image with the owners of a container in a user namespace, without a container
  shale mount --read-only --uidmap 0:100000:65536 --gidmap 0:100000:65536 debian`
		maps = mapFlags(command)
	}
	atOnce := p.urgentFlag(command)
	form := p.formatFlags(command)
	work := p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if *atOnce {
			urgent.Process()
		}
		mapping, err := maps.mapping()
		if err != nil {
			return err
		}
		wanted := store.MountOptions{ReadOnly: *readOnly, Label: *label, IDMap: mapping}
		if *options != "" {
			wanted.Options = strings.Split(*options, ",")
		}
		var outcomes []mountOutcome
		var failed error
		for _, ref := range args {
			at, err := mountOne(ctx, s, ref, wanted)
			outcomes = append(outcomes, mountOutcome{ref, at, errorText(err)})
			failed = errors.Join(failed, err)
		}
		return errors.Join(p.printMounts(form, outcomes), failed)
	})
	command.RunE = func(command *cobra.Command, args []string) error {
		if err := p.refuseLostMounts(command); err != nil {
			return err
		}
		return work(command, args)
	}
	return command
}

// mountOutcome is how one mount fared.
type mountOutcome struct {
	ID         string `json:"id"`
	MountPoint string `json:"mountpoint"`
	Error      string `json:"error"`
}

// printMounts prints where something was mounted; containers-storage prints an empty line
// where something was not.
func (p *program) printMounts(form *format, outcomes []mountOutcome) error {
	if p.peer && form.json() {
		return p.printJSON(outcomes)
	}
	return show(p, form, outcomes, func(bool) {
		for _, o := range outcomes {
			if o.Error == "" || p.peer {
				p.printf("%s\n", o.MountPoint)
			}
		}
	})
}

// refuseLostMounts refuses a mount that would be gone with the command: an ordinary
// user's is made in a user namespace, and whoever then writes below the path that was
// printed writes beneath it. The vfs driver mounts nothing.
func (p *program) refuseLostMounts(command *cobra.Command) error {
	namespace, err := p.namespace()
	if err != nil {
		return err
	}
	if command.Flags().Lookup("unshare").Changed {
		return nil // says what is wanted, either way
	}
	if needed, err := namespace.Caller.NeedsUserNamespace(); err != nil || !needed {
		return err
	}
	settings, err := p.loadConfig(p.overrides(command.Flags().Changed))
	if err != nil {
		return err
	}
	if settings.Driver == "vfs" {
		return nil
	}
	return advised{fmt.Errorf("%w: an ordinary user's mounts live in a user namespace, which ends with this command",
		errdefs.ErrUnsupported), "run it, and what uses the mount, in `" + command.Root().Name() + " unshare`"}
}

func (p *program) unmount() *cobra.Command {
	command := &cobra.Command{
		Use:     "unmount [flags] LAYER|CONTAINER...",
		Aliases: []string{"umount"},
		Short:   "Unmount layers and containers",
		Long: `Takes back one "shale mount" of each layer, container or image. It prints which ones
are no longer mounted, which is when the last one was taken back.`,
		Example: `  # whoever mounted it, and however often
  shale unmount --force web`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	force := command.Flags().BoolP("force", "f", false, "unmount at once, however often it was mounted")
	atOnce := p.urgentFlag(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if *atOnce {
			urgent.Process()
		}
		type outcome struct {
			ID        string `json:"id"`
			Unmounted bool   `json:"unmounted"`
			Error     string `json:"error,omitempty"`
		}
		var outcomes []outcome
		var failed error
		for _, ref := range args {
			gone, err := unmountOne(ctx, s, ref, *force)
			outcomes = append(outcomes, outcome{ref, gone, errorText(err)})
			failed = errors.Join(failed, err)
		}
		say := func(bool) {
			for _, o := range outcomes {
				if o.Unmounted {
					p.printf("%s mountpoint unmounted\n", p.said(o.ID))
				}
			}
		}
		if p.peer && form.json() {
			say(false)
			var errs []refError
			for _, o := range outcomes {
				errs = append(errs, refError{o.ID, o.Error})
			}
			return errors.Join(p.printJSON(errs), failed)
		}
		return errors.Join(show(p, form, outcomes, say), failed)
	})
	return command
}

func (p *program) mounted() *cobra.Command {
	command := &cobra.Command{
		Use:   "mounted [flags] LAYER|CONTAINER...",
		Short: "Ask what is mounted",
		Long:  `Prints which of the layers and containers are mounted.`,
		Example: `  # wait for a container to be let go
  while shale mounted web | grep -q mounted; do sleep 1; done`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		type outcome struct {
			ID    string `json:"id"`
			Count int    `json:"count"` // how often it was mounted and not unmounted
			Error string `json:"error,omitempty"`
		}
		var outcomes []outcome
		var failed error
		for _, ref := range args {
			times, err := look(ctx, s, func(tx *store.ReadTx) (int, error) { return tx.Mounted(ref) })
			outcomes = append(outcomes, outcome{ref, times, errorText(err)})
			failed = errors.Join(failed, err)
		}
		say := func(bool) {
			for _, o := range outcomes {
				if o.Error == "" && o.Count > 0 {
					p.printf("%s mounted\n", p.said(o.ID))
				}
			}
		}
		if p.peer && form.json() {
			say(false)
			var errs []refError
			for _, o := range outcomes {
				errs = append(errs, refError{o.ID, o.Error})
			}
			return errors.Join(p.printJSON(errs), failed)
		}
		return errors.Join(show(p, form, outcomes, say), failed)
	})
	return command
}

// urgentFlag adds --urgent, on for commands that hold locks for a moment: an import on
// all processors makes them wait otherwise.
func (p *program) urgentFlag(command *cobra.Command) *bool {
	if p.peer {
		on := true
		return &on
	}
	return command.Flags().Bool("urgent", true,
		"run before other programs, as far as the caller may (nice -10); --urgent=false takes its turn")
}

// mountOne mounts a layer or a container, or with ReadOnly the top layer of an image.
func mountOne(ctx context.Context, s *store.Store, ref string, options store.MountOptions) (string, error) {
	if options.ReadOnly {
		at, err := s.MountImage(ctx, ref, options)
		if !errors.Is(err, errdefs.ErrNotFound) {
			return at, err
		}
	}
	return s.Mount(ctx, ref, options)
}

// unmountOne unmounts a layer, a container, or what mountOne has mounted of an image, and
// returns whether to say so: of an image, containers-storage says nothing.
func unmountOne(ctx context.Context, s *store.Store, ref string, force bool) (gone bool, err error) {
	still, err := s.Unmount(ctx, ref, force)
	if errors.Is(err, errdefs.ErrNotFound) {
		if _, imageErr := s.UnmountImage(ctx, ref, force); !errors.Is(imageErr, errdefs.ErrNotFound) {
			return false, imageErr
		}
	}
	return err == nil && !still, err
}

// refError is how one of several objects fared; "" is well.
type refError struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// alias makes a flag answer to a second long name.
func alias(second, name string) func(*pflag.FlagSet, string) pflag.NormalizedName {
	return func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		if given == second {
			given = name
		}
		return pflag.NormalizedName(given)
	}
}
