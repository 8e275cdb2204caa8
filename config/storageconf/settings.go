package storageconf

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/shalestore/shale/config"
)

// Setting is one setting in effect, for people to read.
type Setting struct {
	Key    string // as in storage.conf, with its tables
	Value  string // "" when there is none
	Origin Origin
}

// List lists every setting with its value and where that was said, in the order of
// storage.conf(5). A key that stands twice in the grammar, as storage.options.size and
// storage.options.overlay.size do, is listed once, as the driver's.
func (s Settings) List() []Setting {
	c := s.Config
	list := []Setting{
		{Key: "storage.driver", Value: c.Driver},
		{Key: "storage.driver_priority", Value: strings.Join(c.DriverPriority, ",")},
		{Key: "storage.graphroot", Value: c.GraphRoot},
		{Key: "storage.runroot", Value: c.RunRoot},
		{Key: "storage.imagestore", Value: c.ImageStore},
		{Key: "storage.transient_store", Value: strconv.FormatBool(c.TransientStore)},
		{Key: "storage.options.additionalimagestores", Value: strings.Join(c.AdditionalImageStores, ",")},
		{Key: "storage.options.additionallayerstores", Value: joinLayerStores(c.AdditionalLayerStores)},
		{Key: "storage.options.root-auto-userns-user", Value: c.AutoUserns.User},
		{Key: "storage.options.auto-userns-min-size", Value: fmt.Sprint(c.AutoUserns.MinSize)},
		{Key: "storage.options.auto-userns-max-size", Value: fmt.Sprint(c.AutoUserns.MaxSize)},
		{Key: "storage.options.disable-volatile", Value: strconv.FormatBool(c.DisableVolatile)},
		{Key: "storage.options.pull_options.enable_partial_images",
			Value: strconv.FormatBool(c.PullOptions.EnablePartialImages)},
		{Key: "storage.options.pull_options.convert_images", Value: strconv.FormatBool(c.PullOptions.ConvertImages)},
		{Key: "storage.options.pull_options.use_hard_links", Value: strconv.FormatBool(c.PullOptions.UseHardLinks)},
		{Key: "storage.options.pull_options.ostree_repos", Value: strings.Join(c.PullOptions.OSTreeRepos, ":")},
		{Key: "storage.options.pull_options.insecure_allow_unpredictable_image_contents",
			Value: strconv.FormatBool(c.PullOptions.InsecureAllowUnpredictableImageContents)},
		{Key: "storage.options.overlay.mountopt", Value: strings.Join(c.Overlay.MountOptions, ",")},
		{Key: "storage.options.overlay.mount_program", Value: c.Overlay.MountProgram},
		{Key: "storage.options.overlay.ignore_chown_errors", Value: strconv.FormatBool(c.Overlay.IgnoreChownErrors)},
		{Key: "storage.options.overlay.skip_mount_home", Value: strconv.FormatBool(c.Overlay.SkipMountHome)},
		{Key: "storage.options.overlay.use_composefs", Value: strconv.FormatBool(c.Overlay.UseComposefs)},
		{Key: "storage.options.overlay.force_mask", Value: mask(c.Overlay.ForceMask)},
		{Key: "storage.options.overlay.size", Value: bound(c.Overlay.Size)},
		{Key: "storage.options.overlay.inodes", Value: bound(c.Overlay.Inodes)},
		{Key: "storage.options.overlay.sync", Value: c.Overlay.Sync},
		{Key: "storage.options.vfs.ignore_chown_errors", Value: strconv.FormatBool(c.VFS.IgnoreChownErrors)},
		{Key: "storage.options.vfs.sync", Value: c.VFS.Sync},
	}
	for i := range list {
		list[i].Origin = s.Origins[list[i].Key]
	}
	return list
}

// DriverOptions lists the driver options as they were given, in the form and the order in
// which containers-storage hands them to its driver and shows them: "overlay.size=10G".
// Those of drivers that aren't in use are among them.
func (s Settings) DriverOptions() []string {
	var list []string
	for _, o := range s.options {
		list = append(list, o.String())
	}
	return list
}

// bound is a limit, of which 0 is none.
func bound(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func mask(mode *fs.FileMode) string {
	if mode == nil {
		return ""
	}
	return fmt.Sprintf("%04o", uint32(*mode))
}

func joinLayerStores(stores []config.LayerStore) string {
	var parts []string
	for _, s := range stores {
		if s.WithReference {
			s.Path += ":ref"
		}
		parts = append(parts, s.Path)
	}
	return strings.Join(parts, ",")
}
