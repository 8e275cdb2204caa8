// Peerquota is containers/storage's own overlay driver, for the test of quotas in the
// virtual machine to call. Only when it is built with cgo does that driver have quotas,
// on XFS.
//
//	peerquota ROOT RUNROOT usage ID          what the layer takes: bytes and inodes
//	peerquota ROOT RUNROOT create ID SIZE    a container's layer with a limit
//	peerquota ROOT RUNROOT remove ID
package main

import (
	"fmt"
	"os"
	"path/filepath"

	graphdriver "go.podman.io/storage/drivers"
	_ "go.podman.io/storage/drivers/register"
	"go.podman.io/storage/pkg/reexec"
)

func main() {
	if reexec.Init() {
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peerquota:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 || args[2] == "create" && len(args) < 5 {
		return fmt.Errorf("too few arguments: %q", args)
	}
	root, id := args[0], args[3]
	driver, err := graphdriver.GetDriver("overlay",
		graphdriver.Options{Root: root, RunRoot: filepath.Join(args[1], "overlay")})
	if err != nil {
		return err
	}
	switch args[2] {
	case "usage":
		usage, err := driver.ReadWriteDiskUsage(id)
		if err == nil {
			fmt.Println(usage.Size, usage.InodeCount)
		}
		return err
	case "create":
		return driver.CreateReadWrite(id, "", &graphdriver.CreateOpts{StorageOpt: map[string]string{"size": args[4]}})
	case "remove":
		return driver.Remove(id)
	}
	return fmt.Errorf("no verb %s", args[2])
}
