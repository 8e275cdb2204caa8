package main

import "github.com/spf13/cobra"

// A verb is a command, its place in help and docs/cli.md, and who has it: our own grammar,
// that of containers-storage, or both.
type verb struct {
	group string
	in    grammars
	build func(*program) *cobra.Command
}

type grammars int

const (
	ours   grammars = 1 << iota
	theirs          // containers-storage's
	both   = ours | theirs
)

// The groups of commands in help.
const (
	groupLayers     = "layers"
	groupImages     = "images"
	groupContainers = "containers"
	groupAny        = "any"
	groupStore      = "store"
)

var groups = []*cobra.Group{
	{ID: groupLayers, Title: "Layers:"},
	{ID: groupImages, Title: "Images:"},
	{ID: groupContainers, Title: "Containers:"},
	{ID: groupAny, Title: "Layers, images and containers alike:"},
	{ID: groupStore, Title: "The store:"},
}

// verbs lists all commands. What is not listed here does not exist.
func verbs() []verb {
	return []verb{
		{groupLayers, both, (*program).createLayer},
		{groupLayers, both, (*program).importLayer},
		{groupLayers, both, (*program).layers},
		{groupLayers, both, (*program).layer},
		{groupLayers, both, (*program).applyDiff},
		{groupLayers, both, (*program).applyStaged},
		{groupLayers, both, (*program).changes},
		{groupLayers, both, (*program).diff},
		{groupLayers, both, (*program).diffSize},
		{groupLayers, ours, (*program).cp},
		{groupLayers, theirs, (*program).peerCopy}, // with us, copy is for copying images
		{groupLayers, both, (*program).mount},
		{groupLayers, both, (*program).unmount},
		{groupLayers, both, (*program).mounted},
		{groupLayers, both, (*program).deleteLayer},
		{groupLayers, both, (*program).layerParentOwners},
		{groupLayers, both, layerData.list},
		{groupLayers, both, layerData.get},
		{groupLayers, both, layerData.set},

		{groupImages, both, (*program).createImage},
		{groupImages, both, (*program).images},
		{groupImages, both, (*program).imagesByDigest},
		{groupImages, both, (*program).image},
		{groupImages, both, (*program).deleteImage},
		{groupImages, both, imageData.list},
		{groupImages, both, imageData.get},
		{groupImages, both, imageData.set},
		{groupImages, both, imageData.size},
		{groupImages, both, imageData.digest},
		{groupImages, both, (*program).imageDirectory},
		{groupImages, both, (*program).imageRunDirectory},

		{groupContainers, both, (*program).createContainer},
		{groupContainers, both, (*program).containers},
		{groupContainers, both, (*program).container},
		{groupContainers, both, (*program).deleteContainer},
		{groupContainers, both, (*program).containerParentOwners},
		{groupContainers, both, containerData.list},
		{groupContainers, both, containerData.get},
		{groupContainers, both, containerData.set},
		{groupContainers, both, containerData.size},
		{groupContainers, both, containerData.digest},
		{groupContainers, both, (*program).containerDirectory},
		{groupContainers, both, (*program).containerRunDirectory},

		{groupAny, both, (*program).exists},
		{groupAny, both, (*program).getNames},
		{groupAny, both, (*program).addNames},
		{groupAny, both, (*program).removeNames},
		{groupAny, both, (*program).setNames},
		{groupAny, both, (*program).metadata},
		{groupAny, both, (*program).setMetadata},
		{groupAny, both, (*program).delete},

		{groupStore, both, (*program).status},
		{groupStore, both, (*program).configuration},
		{groupStore, ours, (*program).usage},
		{groupStore, both, (*program).check},
		{groupStore, both, (*program).gc},
		{groupStore, both, (*program).dedup},
		{groupStore, both, (*program).storageLayers},
		{groupStore, both, (*program).createStorageLayer},
		{groupStore, both, (*program).shutdown},
		{groupStore, both, (*program).wipe},
		{groupStore, both, (*program).unshare},
		{groupStore, ours, (*program).storage},
		{groupStore, ours, (*program).completion},
		{groupStore, ours, (*program).docs},
		{groupStore, both, (*program).version},
	}
}

// addVerbs puts the commands of p's grammar below a parent, which is called by path.
func (p *program) addVerbs(parent *cobra.Command, path string) {
	has := ours
	if p.peer {
		has = theirs
	}
	parent.AddGroup(groups...)
	for _, verb := range verbs() {
		if verb.in&has == 0 {
			continue
		}
		command := verb.build(p)
		if p.peer {
			speakAs(command, path)
		}
		command.GroupID = verb.group
		command.DisableFlagsInUseLine = true
		parent.AddCommand(command)
	}
}
