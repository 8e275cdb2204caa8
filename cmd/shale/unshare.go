package main

import (
	"context"
	"os"

	"github.com/shalestore/shale/idtools/userns"
	"github.com/spf13/cobra"
)

func (p *program) unshare() *cobra.Command {
	command := &cobra.Command{
		Use:   "unshare [COMMAND [ARGUMENT...]]",
		Short: "Run a command where your user is root",
		Long: `Runs COMMAND, or a shell, in a user namespace: there an ordinary user is root over
the user and group IDs that /etc/subuid and /etc/subgid give them, and sees the mounts
that the other commands make for them. Its exit status is COMMAND's.`,
		Example: `  # look into a layer without being root
  shale unshare sh -c 'm=$(shale mount base) && ls "$m"; shale unmount base'`,
		Args: arguments(0, -1),
	}
	command.Flags().SetInterspersed(false) // what follows COMMAND is its own
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"/bin/sh"}
			if shell := os.Getenv("SHELL"); shell != "" {
				args[0] = shell
			}
		}
		namespace, err := p.namespace()
		if err != nil {
			return err
		}
		// The command decides for itself what a signal means, so our context, which ends
		// on one, is not for it.
		return asChildStatus(namespace.Run(context.WithoutCancel(command.Context()), args))
	}
	return command
}

// reenter runs this very command line again in a user namespace, for an ordinary user who
// isn't in one yet or when --unshare asks for it. It reports whether that has happened,
// and the command has thus been done.
func (p *program) reenter(command *cobra.Command) (done bool, err error) {
	namespace, err := p.namespace()
	if err != nil {
		return false, err
	}
	if flag := command.Flags().Lookup("unshare"); flag.Changed {
		if !p.global.unshare || namespace.Caller.Configured {
			return false, nil
		}
	} else if needed, err := namespace.Caller.NeedsUserNamespace(); err != nil || !needed {
		return false, err
	}
	// Most commands do very well with a single ID, and those that don't say so.
	namespace.Warn = func(err error) { p.log.Debug(err) }
	p.log.Debug("entering a user namespace")
	return true, asChildStatus(namespace.Reexec(context.WithoutCancel(command.Context()),
		p.args))
}

// namespace is a user namespace for whoever runs this.
func (p *program) namespace() (userns.Namespace, error) {
	caller, err := userns.CallerOf(os.LookupEnv)
	return userns.Namespace{
		Caller: caller,
		Warn:   func(err error) { p.log.Warn(err) },
		Stdin:  p.stdin,
		Stdout: p.stdout,
		Stderr: p.stderr,
	}, err
}

// asChildStatus makes an error of a child's exit status, unless it is 0.
func asChildStatus(status int, err error) error {
	if err == nil && status != 0 {
		return childStatus(status)
	}
	return err
}
