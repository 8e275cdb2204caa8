package main

import (
	"context"
	"strings"
	"time"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

// completionTime bounds how long a shell may wait for our proposals.
const completionTime = 2 * time.Second

// proposal is an ID or a name that could stand on the command line.
type proposal struct{ word, about string }

func (p *program) completeLayers(command *cobra.Command, args []string, prefix string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return p.completeFrom(command, args, prefix, proposeLayers)
}

func (p *program) completeImages(command *cobra.Command, args []string, prefix string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return p.completeFrom(command, args, prefix, proposeImages)
}

func (p *program) completeContainers(command *cobra.Command, args []string, prefix string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return p.completeFrom(command, args, prefix, proposeContainers)
}

func (p *program) completeAny(command *cobra.Command, args []string, prefix string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return p.completeFrom(command, args, prefix, proposeLayers, proposeImages, proposeContainers)
}

// completeFrom proposes names, and IDs once the word begins like one: a person who has
// typed nothing wants no list of hexadecimal. What goes wrong is kept to ourselves, in
// the middle of somebody's command line.
func (p *program) completeFrom(command *cobra.Command, args []string, prefix string,
	sources ...func(context.Context, *store.Store) []proposal) ([]cobra.Completion, cobra.ShellCompDirective) {
	const files = cobra.ShellCompDirectiveNoFileComp
	if command.Args != nil && command.Args(command, append(args, prefix)) != nil {
		return nil, files // one argument more would be too many
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionTime)
	defer cancel()
	s, err := p.openStore(command)
	if err != nil {
		return nil, files
	}
	defer s.Close()
	var found []cobra.Completion
	for _, source := range sources {
		for _, candidate := range source(ctx, s) {
			if strings.HasPrefix(candidate.word, prefix) && !strings.ContainsAny(candidate.word, "\t\n") {
				found = append(found, cobra.CompletionWithDesc(candidate.word, candidate.about))
			}
		}
	}
	return found, files
}

func proposeLayers(ctx context.Context, s *store.Store) []proposal {
	list, _ := look(ctx, s, (*store.ReadTx).Layers)
	var all []proposal
	for _, layer := range list {
		all = append(all, proposals("layer", layer.ID, layer.Names)...)
	}
	return all
}

func proposeImages(ctx context.Context, s *store.Store) []proposal {
	list, _ := look(ctx, s, (*store.ReadTx).Images)
	var all []proposal
	for _, image := range list {
		all = append(all, proposals("image", image.ID, image.Names)...)
	}
	return all
}

func proposeContainers(ctx context.Context, s *store.Store) []proposal {
	list, _ := look(ctx, s, (*store.ReadTx).Containers)
	var all []proposal
	for _, container := range list {
		all = append(all, proposals("container", container.ID, container.Names)...)
	}
	return all
}

func proposals(kind, id string, names []string) []proposal {
	if len(names) == 0 {
		return []proposal{{id, kind}}
	}
	all := []proposal{{id, kind + " " + names[0]}}
	for _, name := range names {
		all = append(all, proposal{name, kind + " " + shortID(id)})
	}
	return all
}

func (p *program) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Write a completion script for a shell",
		Long: `Writes a script that teaches a shell to complete shale's commands, flags, and the IDs
and names of layers, images and containers.`,
		Example: `  # bash, for this session and for all
  . <(shale completion bash)
  shale completion bash > /etc/bash_completion.d/shale

  # zsh
  shale completion zsh > "${fpath[1]}/_shale"

  # fish
  shale completion fish > ~/.config/fish/completions/shale.fish`,
		Args:      arguments(1, 1),
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
		RunE: func(command *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return command.Root().GenBashCompletionV2(p.out, true)
			case "zsh":
				return command.Root().GenZshCompletion(p.out)
			case "fish":
				return command.Root().GenFishCompletion(p.out, true)
			}
			return usageError("there is no completion for " + args[0])
		},
	}
}
