package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the newest of Debian's kernels for virtual machines.
const kernelPackage = "linux-image-cloud-amd64"

// wantedModules are what the machine and the tests need of what is not built in. The kernel asks for some of them by alias, for which it
// would need modprobe; here all are loaded, what they depend on first.
var wantedModules = []string{
	"virtio_pci", "virtio_blk", "virtio_console",
	"crc32c-intel", "xfs", "btrfs", "overlay", "quota_v2", "loop", "fuse", "erofs", "squashfs",
}

// kernel is an unpacked kernel package.
type kernel struct {
	image   string
	modules []string // paths, in the order in which they must be loaded
}

// findKernel finds the kernel in the cache, or fetches it there.
func findKernel(ctx context.Context) (kernel, error) {
	dir, err := cached("vm-kernel", func(aside string) error {
		out, err := command(ctx, aside, "apt-cache", "depends", "--important", kernelPackage)
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(out, "Depends: ")
		name, _, _ = strings.Cut(name, "\n")
		if !strings.HasPrefix(name, "linux-image-") {
			return fmt.Errorf("apt-cache knows no %s", kernelPackage)
		}
		return unpack(ctx, aside, name)
	})
	if err != nil {
		return kernel{}, missingError(fmt.Sprintf("Debian's package %s: %v", kernelPackage, err))
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s holds %d kernels instead of one: remove it", dir, len(images))
	}
	paths := map[string]string{}
	err = filepath.WalkDir(filepath.Join(dir, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			paths[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return kernel{}, err
	}
	order := loadOrder{paths: paths, seen: map[string]bool{}}
	for _, name := range wantedModules {
		if err := order.add(name); err != nil {
			return kernel{}, err
		}
	}
	return kernel{images[0], order.modules}, nil
}

// loadOrder puts modules behind those they depend on.
type loadOrder struct {
	paths   map[string]string // by name
	seen    map[string]bool
	modules []string
}

func (o *loadOrder) add(name string) error {
	name = moduleName(name)
	if o.seen[name] {
		return nil
	}
	o.seen[name] = true
	path, ok := o.paths[name]
	if !ok {
		return fmt.Errorf("the kernel has no module %s", name)
	}
	module, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	defer module.Close()
	info, err := section(module, ".modinfo")
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if depends, ok := strings.CutPrefix(entry, "depends="); ok && depends != "" {
			for other := range strings.SplitSeq(depends, ",") {
				if err := o.add(other); err != nil {
					return err
				}
			}
		}
	}
	o.modules = append(o.modules, path)
	return nil
}

func section(file *elf.File, name string) ([]byte, error) {
	s := file.Section(name)
	if s == nil {
		return nil, fmt.Errorf("no section %s", name)
	}
	return s.Data()
}

// moduleName is how the kernel spells a module's name, whatever its file is called.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
