package drivers_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/vfs"
)

// A layer comes, is looked at and goes. Where others use the store, Commit and Delete
// take its layer lock.
func Example() {
	ctx := context.Background()
	root, err := os.MkdirTemp("", "layers")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	d, err := drivers.NewRegistry(vfs.Factory(vfs.Options{})).Open(ctx, "vfs", drivers.Place{Root: root, RunRoot: root})
	if err != nil {
		panic(err)
	}
	defer d.Close()

	staged, err := d.Stage(ctx, "", drivers.StageOptions{})
	if err != nil {
		panic(err)
	}
	defer staged.Discard()
	if err := os.WriteFile(filepath.Join(staged.Content(), "hello"), []byte("hello"), 0o644); err != nil {
		panic(err)
	}
	if err := staged.Commit(ctx, "base"); err != nil {
		panic(err)
	}

	specs, err := d.Mounts(ctx, "base", drivers.MountOptions{ReadOnly: true})
	if err != nil {
		panic(err)
	}
	info, err := d.Stat(ctx, "base")
	if err != nil {
		panic(err)
	}
	files, err := os.ReadDir(info.MountPoint)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(specs), "mounts", files[0].Name())

	trash, err := d.Delete(ctx, "base")
	if err != nil {
		panic(err)
	}
	if err := trash.Empty(ctx); err != nil {
		panic(err)
	}
	ids, err := d.List(ctx)
	fmt.Println(ids, err)
	// Output:
	// 0 mounts hello
	// [] <nil>
}
