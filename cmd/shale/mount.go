package main

import (
	"context"
	"errors"
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
The flags of ID maps show a layer or, with --read-only, an image with the owners that
it has in such a container; a layer is then read-only as well.

An ordinary user's mounts live in a user namespace: run this in "shale unshare" to see them.`,
		Example: `  # list a container's files
  ls "$(shale mount web)"; shale unmount web

  # an image with the owners of a container in a user namespace, without a container
  shale mount --read-only --uidmap 0:100000:65536 --gidmap 0:100000:65536 debian`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	flags := command.Flags()
	options := flags.StringP("opt", "o", "", "mount with `OPTIONS`, separated by commas")
	label := flags.StringP("label", "l", "", "mount with the SELinux label `LABEL`")
	readOnly := flags.BoolP("read-only", "r", false,
		"mount an image, or a layer, so that it can't be changed (also --ro)")
	flags.SetNormalizeFunc(alias("ro", "read-only"))
	maps := mapFlags(command)
	atOnce := urgentFlag(command)
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if *atOnce {
			urgent.Process()
		}
		type outcome struct {
			ID         string `json:"id"`
			MountPoint string `json:"mountpoint"`
			Error      string `json:"error"`
		}
		mapping, err := maps.mapping()
		if err != nil {
			return err
		}
		wanted := store.MountOptions{ReadOnly: *readOnly, Label: *label, IDMap: mapping}
		if *options != "" {
			wanted.Options = strings.Split(*options, ",")
		}
		var outcomes []outcome
		var failed error
		for _, ref := range args {
			at, err := mountOne(ctx, s, ref, wanted)
			outcomes = append(outcomes, outcome{ref, at, errorText(err)})
			failed = errors.Join(failed, err)
		}
		if *asJSON {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		for _, o := range outcomes {
			p.printf("%s\n", o.MountPoint)
		}
		return failed
	})
	return command
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
	atOnce := urgentFlag(command)
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if *atOnce {
			urgent.Process()
		}
		var outcomes []refError
		var failed error
		for _, ref := range args {
			gone, err := unmountOne(ctx, s, ref, *force)
			if gone {
				p.printf("%s mountpoint unmounted\n", ref)
			}
			outcomes = append(outcomes, refError{ref, errorText(err)})
			failed = errors.Join(failed, err)
		}
		if *asJSON {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return failed
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
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		var outcomes []refError
		var failed error
		for _, ref := range args {
			times, err := s.Mounted(ctx, ref)
			if err == nil && times > 0 {
				p.printf("%s mounted\n", ref)
			}
			outcomes = append(outcomes, refError{ref, errorText(err)})
			failed = errors.Join(failed, err)
		}
		if *asJSON {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return failed
	})
	return command
}

// urgentFlag adds --urgent, on for commands that hold locks for a moment: an import on all
// processors makes them wait otherwise.
func urgentFlag(command *cobra.Command) *bool {
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
