package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// tarTasks are GNU tar with the fastest decompressor there is. It keeps no records,
// hashes nothing and syncs nothing: a mark, not a rival.
func tarTasks() map[string]task {
	return map[string]task{
		"apply/tar": tarApply,
		"diff/tar":  tarDiff,
	}
}

func tarApply(ctx context.Context, in input, watch *stopwatch) (output, error) {
	dir := filepath.Join(in.Dir, "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return output{}, err
	}
	args := []string{"--extract", "--file", in.Archive, "--directory", dir, "--numeric-owner", "--same-permissions",
		"--xattrs", "--xattrs-include=*"}
	switch filepath.Ext(in.Archive) {
	case ".gz":
		args = append(args, "--use-compress-program", fastest("igzip", "pigz", "gzip"))
	case ".zst":
		args = append(args, "--use-compress-program", "zstd")
	}
	return output{Tree: dir}, watch.time("apply", func() error { return runTool(ctx, "tar", args...) })
}

func tarDiff(ctx context.Context, in input, watch *stopwatch) (output, error) {
	for range in.Times {
		if err := watch.time("diff", func() error {
			cmd := exec.CommandContext(ctx, "tar", "--create", "--file", "-", "--directory",
				filepath.Join(in.Dir, "tree"), "--numeric-owner", "--xattrs", ".")
			cmd.Stdout = sha256.New()
			return cmd.Run()
		}); err != nil {
			return output{}, err
		}
	}
	return output{}, nil
}

func fastest(names ...string) string {
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			return name
		}
	}
	return names[len(names)-1]
}

func runTool(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastLines(string(out)))
	}
	return nil
}
