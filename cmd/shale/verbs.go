package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A verb is a command: its names, its place in help and docs/cli.md, and who has it, our
// own grammar, that of containers-storage, or both.
type verb struct {
	names string // divided by spaces
	group string
	in    grammars
	build func(*program) *cobra.Command
}

// makes are the commands that make a store where there is none.
var makes = map[string]bool{"create-layer": true, "import-layer": true, "create-image": true,
	"create-container": true, "create-storage-layer": true}

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
		{"create-layer createlayer", groupLayers, both, (*program).createLayer},
		{"import-layer importlayer", groupLayers, both, (*program).importLayer},
		{"layers", groupLayers, both, (*program).layers},
		{"layer", groupLayers, both, (*program).layer},
		{"apply-diff applydiff", groupLayers, both, (*program).applyDiff},
		{"applydiff-using-staging-dir", groupLayers, both, (*program).applyStaged},
		{"changes", groupLayers, both, (*program).changes},
		{"diff", groupLayers, both, (*program).diff},
		{"diffsize diff-size", groupLayers, both, (*program).diffSize},
		{"cp", groupLayers, ours, (*program).cp},
		{"copy", groupLayers, theirs, (*program).peerCopy}, // with us, copy is for copying images
		{"mount", groupLayers, both, (*program).mount},
		{"unmount umount", groupLayers, both, (*program).unmount},
		{"mounted", groupLayers, both, (*program).mounted},
		{"delete-layer deletelayer", groupLayers, both, (*program).deleteLayer},
		{"layer-parent-owners", groupLayers, both, (*program).layerParentOwners},
		{"list-layer-data listlayerdata", groupLayers, both, layerData.list},
		{"get-layer-data getlayerdata", groupLayers, both, layerData.get},
		{"set-layer-data setlayerdata", groupLayers, both, layerData.set},

		{"create-image createimage", groupImages, both, (*program).createImage},
		{"images", groupImages, both, (*program).images},
		{"images-by-digest", groupImages, both, (*program).imagesByDigest},
		{"image", groupImages, both, (*program).image},
		{"delete-image deleteimage", groupImages, both, (*program).deleteImage},
		{"list-image-data listimagedata", groupImages, both, imageData.list},
		{"get-image-data getimagedata", groupImages, both, imageData.get},
		{"set-image-data setimagedata", groupImages, both, imageData.set},
		{"get-image-data-size getimagedatasize", groupImages, both, imageData.size},
		{"get-image-data-digest getimagedatadigest", groupImages, both, imageData.digest},
		{"get-image-dir getimagedir", groupImages, both, (*program).imageDirectory},
		{"get-image-run-dir getimagerundir", groupImages, both, (*program).imageRunDirectory},

		{"create-container createcontainer", groupContainers, both, (*program).createContainer},
		{"containers", groupContainers, both, (*program).containers},
		{"container", groupContainers, both, (*program).container},
		{"delete-container deletecontainer", groupContainers, both, (*program).deleteContainer},
		{"container-parent-owners", groupContainers, both, (*program).containerParentOwners},
		{"list-container-data listcontainerdata", groupContainers, both, containerData.list},
		{"get-container-data getcontainerdata", groupContainers, both, containerData.get},
		{"set-container-data setcontainerdata", groupContainers, both, containerData.set},
		{"get-container-data-size getcontainerdatasize", groupContainers, both, containerData.size},
		{"get-container-data-digest getcontainerdatadigest", groupContainers, both, containerData.digest},
		{"get-container-dir getcontainerdir", groupContainers, both, (*program).containerDirectory},
		{"get-container-run-dir getcontainerrundir", groupContainers, both, (*program).containerRunDirectory},

		{"exists", groupAny, both, (*program).exists},
		{"get-names getnames names", groupAny, both, (*program).getNames},
		{"add-names addnames", groupAny, both, (*program).addNames},
		{"remove-names removenames", groupAny, both, (*program).removeNames},
		{"set-names setnames", groupAny, both, (*program).setNames},
		{"metadata", groupAny, both, (*program).metadata},
		{"set-metadata setmetadata", groupAny, both, (*program).setMetadata},
		{"delete", groupAny, both, (*program).delete},

		{"status", groupStore, both, (*program).status},
		{"config", groupStore, both, (*program).configuration},
		{"usage", groupStore, ours, (*program).usage},
		{"check", groupStore, both, (*program).check},
		{"gc", groupStore, both, (*program).gc},
		{"dedup", groupStore, both, (*program).dedup},
		{"storage-layers", groupStore, both, (*program).storageLayers},
		{"create-storage-layer", groupStore, both, (*program).createStorageLayer},
		{"shutdown", groupStore, both, (*program).shutdown},
		{"wipe", groupStore, both, (*program).wipe},
		{"unshare", groupStore, both, (*program).unshare},
		{"storage", groupStore, ours, (*program).storage},
		{"completion", groupStore, ours, (*program).completion},
		{"docs", groupStore, ours, (*program).docs},
		{"version", groupStore, both, (*program).version},
	}
}

// addVerbs puts the commands of p's grammar below a parent, which is called by path. Most
// command lines are about one of them; then the others are not built, which would take
// longer than many a command itself.
func (p *program) addVerbs(parent *cobra.Command, path string) {
	has := ours
	if p.peer {
		has = theirs
	}
	parent.AddGroup(groups...)
	all := slices.DeleteFunc(verbs(), func(v verb) bool { return v.in&has == 0 })
	asked := slices.DeleteFunc(slices.Clone(all), func(v verb) bool {
		return !slices.ContainsFunc(strings.Fields(v.names),
			func(name string) bool { return slices.Contains(p.args, name) })
	})
	if len(asked) == 0 || p.wantsAll() {
		asked = all
	}
	for _, verb := range asked {
		command := verb.build(p)
		if p.peer {
			speakAs(command, path)
		}
		command.GroupID = verb.group
		command.DisableFlagsInUseLine = true
		parent.AddCommand(command)
	}
}

// wantsAll reports whether the command line is about commands in general.
func (p *program) wantsAll() bool {
	return slices.ContainsFunc(p.args, func(arg string) bool {
		return arg == "help" || arg == "docs" || arg == "completion" ||
			strings.HasPrefix(arg, cobra.ShellCompRequestCmd)
	})
}
