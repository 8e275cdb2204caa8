package overlay

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/internal/diskusage"
	"golang.org/x/sys/unix"
)

// Stat tells where a layer's directories are. Info.Lower starts with the layer's own
// older generations, if it has any; Metadata leaves those out, as containers/storage
// does.
func (d *Driver) Stat(ctx context.Context, id string) (_ drivers.Info, err error) {
	defer drivers.Describe(&err, Name)
	dir, home, err := d.homes.Find(id)
	if err != nil {
		return drivers.Info{}, err
	}
	parents, err := d.homes.Parents(ctx, dir)
	if err != nil {
		return drivers.Info{}, err
	}
	lowers, err := d.homes.LowersOf(dir, parents)
	if err != nil {
		return drivers.Info{}, err
	}
	own, err := d.homes.Content(dir)
	if err != nil {
		return drivers.Info{}, fmt.Errorf("layer %s: %w", id, err)
	}
	info := drivers.Info{
		Content:    own,
		MountPoint: d.mountPoint(dir, home),
		Work:       filepath.Join(dir, "work"),
		Lower:      lowers,
		Remapped:   len(lowers) > 0 && filepath.Dir(lowers[0]) == dir,
	}
	if len(parents) > 0 {
		info.Parent = parents[0]
	}
	info.Metadata = map[string]string{"UpperDir": filepath.Join(dir, "diff"), "WorkDir": info.Work,
		"MergedDir": info.MountPoint}
	var diffs []string
	for _, lower := range lowers {
		if filepath.Base(lower) == "diff" {
			diffs = append(diffs, lower)
		}
	}
	if len(diffs) > 0 {
		info.Metadata["LowerDir"] = strings.Join(diffs, ":")
	}
	return info, nil
}

// ContentIn is the layer's diff in a store.
func (d *Driver) ContentIn(root, id string) string { return filepath.Join(root, Name, id, "diff") }

// Usage walks the layer's diff.
func (d *Driver) Usage(ctx context.Context, id string) (_ drivers.Usage, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return drivers.Usage{}, err
	}
	own, err := d.homes.Content(dir)
	if err != nil {
		return drivers.Usage{}, fmt.Errorf("layer %s: %w", id, err)
	}
	tree, err := diskusage.Count(ctx, own)
	if err != nil {
		return drivers.Usage{}, fmt.Errorf("usage of layer %s: %w", id, err)
	}
	return drivers.Usage{Bytes: tree.Size, Inodes: tree.Inodes}, nil
}

// List returns the directories of the homes that can be layers.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ids, err := d.homes.List(ctx)
	return slices.DeleteFunc(ids, files.IsProbe), err
}

// Status gives the lines that `podman info` shows under graphStatus. What can't be found
// out is shown as the error it met.
func (d *Driver) Status(ctx context.Context) []drivers.Property {
	native, nativeErr := d.NativeDiff(ctx)
	metacopy, metacopyErr := d.metacopy(ctx)
	volatile, volatileErr := d.volatile(ctx)
	shifting, shiftingErr := d.shifting(ctx)
	dType, dTypeErr := supportsDType(d.homes.Own[0])
	return []drivers.Property{
		{Name: "Backing Filesystem", Value: backingName(d.homes.Own[0])},
		{Name: "Supports d_type", Value: answer(dType, dTypeErr)},
		{Name: "Native Overlay Diff", Value: answer(native, nativeErr)},
		{Name: "Using metacopy", Value: answer(metacopy, metacopyErr)},
		{Name: "Supports shifting", Value: answer(shifting, shiftingErr)},
		{Name: "Supports volatile", Value: answer(volatile, volatileErr)},
	}
}

func answer(yes bool, err error) string {
	if err != nil {
		return err.Error()
	}
	return strconv.FormatBool(yes)
}

// fileSystemOf is the magic number of the file system beneath a directory, 0 where it
// can't be had.
func fileSystemOf(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Type)
}

// isNetwork reports whether the magic number of a file system (statfs(2)) is that of one
// whose files are on another machine, by containers/storage's list.
func isNetwork(magic int64) bool {
	switch uint32(magic) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.AFS_SUPER_MAGIC,
		unix.AFS_FS_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.OCFS2_SUPER_MAGIC, unix.NCP_SUPER_MAGIC,
		// statfs(2) or their own sources have these: Acfs, GPFS, IBRIX, Lustre, NFSD,
		// PanFS, Parallels, SNFS, VirtualBox, VxFS.
		0x61636673, 0x47504653, 0x013111A8, 0x0BD00BD0, 0x6E667364, 0xAAD7AAEA, 0x7C7C6673, 0xBEEFDEAD, 0x786F4256,
		0xA501FCF5:
		return true
	}
	return false
}

// backingName names the file system beneath a directory with containers/storage's words.
func backingName(dir string) string {
	switch fileSystemOf(dir) {
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.CRAMFS_MAGIC:
		return "cramfs"
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "ecryptfs"
	case unix.EROFS_SUPER_MAGIC_V1:
		return "erofs"
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.REISERFS_SUPER_MAGIC:
		return "reiserfs"
	case unix.SMB_SUPER_MAGIC:
		return "smb"
	case unix.SQUASHFS_MAGIC:
		return "squashfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case 0x2fc12fc1: // ZFS, which isn't part of Linux
		return "zfs"
	}
	return "<unknown>"
}
