package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// hand is somebody who works on a store: Shale, or the containers-storage CLI. The
// methods fail the test when the operation does.
type hand interface {
	createLayer(id, parent string, readOnly bool, names ...string)
	importLayer(id, parent, tar string, names ...string)
	applyDiff(layer, tar string)
	createImage(id, top, metadata string, names ...string)
	createContainer(id, image, metadata string, volatile bool, names ...string)
	setData(kind, id, key, content string)
	data(kind, id, key string) string
	addNames(ref string, names ...string)
	setNames(ref string, names ...string)
	removeNames(ref string, names ...string)
	setMetadata(ref, metadata string)
	mount(ref string) string
	unmount(ref string)
	changes(layer string) []string
	diff(layer string) []byte
	deleteLayer(ref string)
	deleteImage(ref string)
	deleteContainer(ref string)
	layers() []string
}

// shaleHand is Shale's library.
type shaleHand struct {
	testing.TB
	s *store.Store
}

// must also waits until files that were deleted are gone: what is on disk is looked at
// next.
func (h shaleHand) must(err error) {
	h.Helper()
	if err := errors.Join(err, h.s.Wait(context.Background())); err != nil {
		h.Fatal(err)
	}
}

func (h shaleHand) createLayer(id, parent string, readOnly bool, names ...string) {
	h.Helper()
	_, err := h.s.CreateLayer(context.Background(), layers.CreateOptions{ID: id, Parent: parent, Names: names,
		Writable: !readOnly})
	h.must(err)
}

func (h shaleHand) importLayer(id, parent, tar string, names ...string) {
	h.Helper()
	f, err := os.Open(tar)
	h.must(err)
	defer f.Close()
	_, err = h.s.ImportLayer(context.Background(), layers.CreateOptions{ID: id, Parent: parent, Names: names,
		Writable: true}, f, nil)
	h.must(err)
}

func (h shaleHand) applyDiff(layer, tar string) {
	h.Helper()
	f, err := os.Open(tar)
	h.must(err)
	defer f.Close()
	_, err = h.s.ApplyDiff(context.Background(), layer, f, nil)
	h.must(err)
}

func (h shaleHand) createImage(id, top, metadata string, names ...string) {
	h.Helper()
	_, err := h.s.CreateImage(context.Background(), store.ImageOptions{ID: id, TopLayer: top, Metadata: metadata,
		Names: names})
	h.must(err)
}

func (h shaleHand) createContainer(id, image, metadata string, volatile bool, names ...string) {
	h.Helper()
	_, err := h.s.CreateContainer(context.Background(),
		store.ContainerOptions{ID: id, Image: image, Metadata: metadata, Volatile: volatile, Names: names})
	h.must(err)
}

func (h shaleHand) setData(kind, id, key, content string) {
	h.Helper()
	ctx := context.Background()
	switch kind {
	case "layer":
		h.must(h.s.SetLayerBigData(ctx, id, key, strings.NewReader(content)))
	case "image":
		h.must(change(h.s, func(tx *store.WriteTx) error { return tx.SetImageBigData(id, key, []byte(content), "") }))
	default:
		h.must(change(h.s, func(tx *store.WriteTx) error { return tx.SetContainerBigData(id, key, []byte(content)) }))
	}
}

func (h shaleHand) data(kind, id, key string) string {
	h.Helper()
	var data []byte
	var err error
	switch kind {
	case "layer":
		var r io.ReadCloser
		r, err = layerData(h.s, id, key)
		h.must(err)
		defer r.Close()
		data, err = io.ReadAll(r)
	case "image":
		data, err = imageData(h.s, id, key)
	default:
		data, err = containerData(h.s, id, key)
	}
	h.must(err)
	return string(data)
}

func (h shaleHand) addNames(ref string, names ...string) {
	h.Helper()
	h.must(change(h.s, func(tx *store.WriteTx) error { return tx.AddNames(ref, names...) }))
}

func (h shaleHand) setNames(ref string, names ...string) {
	h.Helper()
	h.must(change(h.s, func(tx *store.WriteTx) error { return tx.SetNames(ref, names...) }))
}

func (h shaleHand) removeNames(ref string, names ...string) {
	h.Helper()
	h.must(change(h.s, func(tx *store.WriteTx) error { return tx.RemoveNames(ref, names...) }))
}

func (h shaleHand) setMetadata(ref, metadata string) {
	h.Helper()
	h.must(change(h.s, func(tx *store.WriteTx) error { return tx.SetMetadata(ref, metadata) }))
}

func (h shaleHand) mount(ref string) string {
	h.Helper()
	path, err := h.s.Mount(context.Background(), ref, store.MountOptions{})
	h.must(err)
	return path
}

func (h shaleHand) unmount(ref string) {
	h.Helper()
	_, err := h.s.Unmount(context.Background(), ref, false)
	h.must(err)
}

func (h shaleHand) changes(layer string) []string {
	h.Helper()
	all, err := h.s.Changes(context.Background(), layer, "")
	h.must(err)
	var lines []string
	for _, c := range all {
		kind := map[diff.ChangeKind]string{diff.Added: "Add", diff.Modified: "Modify",
			diff.Deleted: "Delete"}[c.Kind]
		lines = append(lines, fmt.Sprintf("%s %q", kind, c.Path))
	}
	return lines
}

func (h shaleHand) diff(layer string) []byte {
	h.Helper()
	plain := compress.None
	var out bytes.Buffer
	h.must(h.s.Diff(context.Background(), &out, layer, "", store.DiffOptions{Compression: &plain}))
	return out.Bytes()
}

func (h shaleHand) deleteLayer(ref string) {
	h.Helper()
	h.must(h.s.DeleteLayer(context.Background(), ref, store.DeleteOptions{Force: true}))
}

func (h shaleHand) deleteImage(ref string) {
	h.Helper()
	_, err := h.s.DeleteImage(context.Background(), ref, store.DeleteOptions{})
	h.must(err)
}

func (h shaleHand) deleteContainer(ref string) {
	h.Helper()
	h.must(h.s.DeleteContainer(context.Background(), ref, store.DeleteOptions{Force: true}))
}

func (h shaleHand) layers() []string {
	h.Helper()
	all, err := allLayers(h.s)
	h.must(err)
	var ids []string
	for _, l := range all {
		ids = append(ids, l.ID)
	}
	return ids
}

// peerHand is the containers-storage CLI.
type peerHand struct {
	testing.TB
	cli string
	cfg config.Config
}

func (h peerHand) run(args ...string) string {
	h.Helper()
	where := []string{"--graph", h.cfg.GraphRoot, "--run", h.cfg.RunRoot, "--storage-driver", h.cfg.Driver}
	if h.cfg.ImageStore != "" {
		where = append(where, "--image-store", h.cfg.ImageStore)
	}
	cmd := exec.Command(h.cli, append(where, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.Fatalf("containers-storage %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// flags repeats a flag for each value.
func flags(flag string, values []string) (args []string) {
	for _, v := range values {
		args = append(args, flag, v)
	}
	return args
}

func optional(parent string) []string {
	if parent == "" {
		return nil
	}
	return []string{parent}
}

func (h peerHand) createLayer(id, parent string, readOnly bool, names ...string) {
	h.Helper()
	args := slices.Concat([]string{"create-layer", "-i", id}, flags("-n", names))
	if readOnly {
		args = append(args, "-r")
	}
	h.run(append(args, optional(parent)...)...)
}

func (h peerHand) importLayer(id, parent, tar string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"import-layer", "-i", id, "-f", tar}, flags("-n", names), optional(parent))...)
}

func (h peerHand) applyDiff(layer, tar string) {
	h.Helper()
	h.run("apply-diff", "-f", tar, layer)
}

func (h peerHand) createImage(id, top, metadata string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"create-image", "-i", id, "-m", metadata}, flags("-n", names), optional(top))...)
}

func (h peerHand) createContainer(id, image, metadata string, volatile bool, names ...string) {
	h.Helper()
	args := slices.Concat([]string{"create-container", "-i", id, "-m", metadata}, flags("-n", names))
	if volatile {
		args = append(args, "--volatile")
	}
	h.run(append(args, image)...)
}

func (h peerHand) setData(kind, id, key, content string) {
	h.Helper()
	file := filepath.Join(h.TempDir(), "item")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		h.Fatal(err)
	}
	h.run("set-"+kind+"-data", "-f", file, id, key)
}

func (h peerHand) data(kind, id, key string) string {
	h.Helper()
	return h.run("get-"+kind+"-data", id, key)
}

func (h peerHand) addNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"add-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) setNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"set-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) removeNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"remove-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) setMetadata(ref, metadata string) {
	h.Helper()
	h.run("set-metadata", "-m", metadata, ref)
}

func (h peerHand) mount(ref string) string {
	h.Helper()
	return strings.TrimSpace(h.run("mount", ref))
}

func (h peerHand) unmount(ref string) {
	h.Helper()
	h.run("unmount", ref)
}

func (h peerHand) changes(layer string) []string {
	h.Helper()
	return strings.Split(strings.TrimSpace(h.run("changes", layer)), "\n")
}

func (h peerHand) diff(layer string) []byte {
	h.Helper()
	return []byte(h.run("diff", "-u", layer))
}

func (h peerHand) deleteLayer(ref string) {
	h.Helper()
	h.run("delete-layer", ref)
}

func (h peerHand) deleteImage(ref string) {
	h.Helper()
	h.run("delete-image", ref)
}

func (h peerHand) deleteContainer(ref string) {
	h.Helper()
	h.run("delete-container", ref)
}

func (h peerHand) layers() []string {
	h.Helper()
	return strings.Fields(regexp.MustCompile(`(?m)^\tname: .*$`).ReplaceAllString(h.run("layers", "-q"), ""))
}
