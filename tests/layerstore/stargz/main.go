// Stargz is the daemon stargz-store of github.com/containerd/stargz-snapshotter, whose
// own main package can't be fetched as a module: an additional layer store for images in
// a registry that is spoken to without TLS. It is given a directory for its cache and a
// mount point, says "mounted" on its output, and ends when its input does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/metadata/memory"
	"github.com/containerd/stargz-snapshotter/store"
	"golang.org/x/sys/unix"
)

func main() {
	if err := serve(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "stargz:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, cache, mountPoint string) error {
	hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	manager, err := store.NewLayerManager(ctx, cache, func(ref reference.Spec) ([]docker.RegistryHost, error) {
		return hosts(ref.Hostname())
	},
		memory.NewReader, config.Config{NoPrometheus: true, NoBackgroundFetch: true, NoPrefetch: true})
	if err != nil {
		return err
	}
	if err := store.Mount(ctx, mountPoint, manager, false); err != nil {
		return err
	}
	fmt.Println("mounted")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return unix.Unmount(mountPoint, unix.MNT_DETACH)
}
