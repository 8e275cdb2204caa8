package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the newest of Debian's kernels for virtual machines.
const kernelPackage = "linux-image-cloud-amd64"

// wantedModules are what the machine and the tests need of what is not built in. The
// kernel asks for some of them by alias, for which it would need modprobe; here all are
// loaded, what they depend on first.
var wantedModules = []string{
	"virtio_pci", "virtio_blk", "virtio_console",
	"crc32c-intel", "xfs", "btrfs", "overlay", "quota_v2", "loop", "fuse", "erofs", "squashfs", "nfsv4", "nfsd",
}

// kernel is an unpacked kernel package.
type kernel struct {
	image   string
	modules []string // paths, in the order in which they must be loaded
}

// kernelSuite is the variable that names a suite of Debian to take the kernel from, in
// place of the host's own: bookworm-backports has a newer one.
const kernelSuite = "SHALE_VM_SUITE"

// findKernel finds the kernel in the cache, or fetches it there.
func findKernel(ctx context.Context) (kernel, error) {
	name, suite := "vm-kernel", os.Getenv(kernelSuite)
	if suite != "" {
		name += "-" + suite
	}
	dir, err := cached(name, func(aside string) error {
		a, err := newApt(ctx, aside, suite, kernelPackage)
		if err != nil {
			return err
		}
		name, err := a.dependency(ctx, kernelPackage)
		if err != nil {
			return err
		}
		if err := a.unpack(ctx, name); err != nil {
			return err
		}
		// Newer kernels have compressed modules, which we would have to read through xz
		// each time.
		_, err = command(ctx, aside, "find", "lib/modules", "-name", "*.ko.xz", "-exec", "xz", "-d", "{}", "+")
		return err
	})
	if err != nil {
		return kernel{}, missingError(fmt.Sprintf("Debian's package %s: %v", kernelPackage, err))
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s holds %d kernels instead of one: remove it", dir, len(images))
	}
	paths, builtin := map[string]string{}, map[string]bool{}
	err = filepath.WalkDir(filepath.Join(dir, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			paths[moduleName(name)] = path
		}
		if filepath.Base(path) == "modules.builtin" && err == nil {
			var list []byte
			list, err = os.ReadFile(path)
			for line := range strings.Lines(string(list)) {
				builtin[moduleName(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))] = true
			}
		}
		return err
	})
	if err != nil {
		return kernel{}, err
	}
	order := loadOrder{paths: paths, done: builtin}
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
	done    map[string]bool   // those that need no loading any more, or never did
	modules []string
}

func (o *loadOrder) add(name string) error {
	name = moduleName(name)
	if o.done[name] {
		return nil
	}
	o.done[name] = true
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
