package fsck_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wound is one way to damage a patient.
type wound struct {
	name string
	do   func(p *patient)
	// want are the findings, each "kind word: part of the text", or "file path: part"
	// with a path in the graph root.
	want []string
	// lost are the objects that aren't there any more when repair is done; everything
	// else must be.
	lost []string
	// force allows repair to delete containers; without it, it must not be needed.
	force bool
	// garbage: gc alone must do.
	garbage bool
}

const modified, digestWrong = "layer content modified", "layer content incorrect digest"

// The image img goes with its layers that no other needs.
var appGone = []string{"layer app", "image img", "container box", "layer boxlayer"}

var wounds = []wound{
	// Content that can be had from the layer's own tar.
	{name: "file added", do: func(p *patient) {
		p.write(p.diff("app", "etc/extra"), "x")
	}, want: []string{"layer app: +/etc/extra, " + modified}},
	{name: "directory added", do: func(p *patient) {
		p.write(p.diff("app", "more/of/it"), "x")
	}, want: []string{"layer app: +/more, " + modified}},
	{name: "empty file removed", do: func(p *patient) {
		p.remove(p.diff("app", "etc/empty"))
	}, want: []string{"layer app: -/etc/empty, " + modified}},
	{name: "symlink removed", do: func(p *patient) {
		p.remove(p.diff("app", "etc/link"))
	}, want: []string{"layer app: -/etc/link"}},
	{name: "symlink redirected", do: func(p *patient) {
		p.remove(p.diff("app", "etc/link"))
		p.must(os.Symlink("elsewhere", p.diff("app", "etc/link")))
	}, want: []string{`layer app: /etc/link(target:"app"→"elsewhere"`}},
	{name: "device removed", do: func(p *patient) {
		p.remove(p.diff("app", "etc/null"))
	}, want: []string{"layer app: -/etc/null"}},
	{name: "device of another number", do: func(p *patient) {
		p.remove(p.diff("app", "etc/null"))
		p.must(unix.Mknod(p.diff("app", "etc/null"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))))
	}, want: []string{"layer app: /etc/null(device:1:3→1:5"}},
	{name: "whiteout removed", do: func(p *patient) {
		p.remove(p.diff("app", "etc/gone"))
	}, want: []string{"layer app: -/etc/gone"}},
	{name: "whiteout became a file", do: func(p *patient) {
		p.remove(p.diff("app", "etc/gone"))
		p.write(p.diff("app", "etc/gone"), "back")
	}, want: []string{"layer app: /etc/gone(type:whiteout→file"}},
	{name: "no longer opaque", do: func(p *patient) {
		p.must(unix.Removexattr(p.diff("app", "opaque"), "trusted.overlay.opaque"))
	},
		want: []string{"layer app: /opaque(opaque:y→)"}},
	{name: "mode changed", do: func(p *patient) {
		p.must(unix.Chmod(p.diff("app", "etc/cap"), 0o4755))
	}, want: []string{"layer app: /etc/cap(mode:0755→4755)"}},
	{name: "mode of a directory changed", do: func(p *patient) {
		p.must(os.Chmod(p.diff("app", "opaque"), 0o777))
	}, want: []string{"layer app: /opaque(mode:0755→0777)"}},
	{name: "owner changed", do: func(p *patient) {
		p.must(os.Chown(p.diff("app", "etc/app"), 7, 9))
	}, want: []string{"layer app: /etc/app(gid:8→9)", "layer app: /etc/name(gid:8→9)"}},
	{name: "time changed", do: func(p *patient) {
		p.must(os.Chtimes(p.diff("app", "etc/twin"), time.Unix(5, 0), time.Unix(5, 0)))
	},
		want: []string{"layer app: /etc/twin(mtime:1600000000→5)"}},
	{name: "attribute changed", do: func(p *patient) {
		p.must(unix.Setxattr(p.diff("app", "etc/cap"), "user.note", []byte("other"), 0))
	}, want: []string{"layer app: /etc/cap(user.note)"}},
	{name: "attribute added", do: func(p *patient) {
		p.must(unix.Setxattr(p.diff("app", "etc/twin"), "user.new", []byte("x"), 0))
	}, want: []string{"layer app: /etc/twin(+user.new)"}},
	{name: "capability removed", do: func(p *patient) {
		p.must(unix.Removexattr(p.diff("app", "etc/cap"), "security.capability"))
	},
		want: []string{"layer app: /etc/cap(-security.capability)"}},
	{name: "hard link broken", do: func(p *patient) {
		info, err := os.Stat(p.diff("app", "etc/name"))
		p.must(err)
		p.remove(p.diff("app", "etc/name"))
		p.write(p.diff("app", "etc/name"), "the content of app")
		p.must(os.Chown(p.diff("app", "etc/name"), 7, 8))
		p.must(os.Chtimes(p.diff("app", "etc/name"), info.ModTime(), info.ModTime()))
	}, want: []string{"layer app: /etc/name no hard link any more"}},
	{name: "hard link removed", do: func(p *patient) {
		p.remove(p.diff("app", "etc/name"))
	}, want: []string{"layer app: -/etc/name"}},
	{name: "attributes of a base layer", do: func(p *patient) {
		p.must(os.Chmod(p.diff("base", "etc/twin"), 0o600))
	}, want: []string{"layer base: /etc/twin(mode:0644→0600)"}},

	// Content that another layer has.
	{name: "file edited, with a twin", do: func(p *patient) {
		p.edit(p.diff("pair1", "etc/pair"), "content", "kontent")
	},
		want: []string{"layer pair1: " + digestWrong + ": /etc/pair file integrity checksum failed"}},
	{name: "file removed, with a twin", do: func(p *patient) {
		p.remove(p.diff("pair2", "etc/twin"))
	}, want: []string{"layer pair2: " + digestWrong + ": /etc/twin is missing"}},
	{name: "file truncated, with a twin", do: func(p *patient) {
		p.must(os.Truncate(p.diff("pair1", "etc/twin"), 3))
	}, want: []string{"layer pair1: " + digestWrong + ": /etc/twin has 3 bytes"}},
	{name: "recipe removed, with a twin", do: func(p *patient) {
		p.remove(p.recipe("pair1"))
	}, want: []string{"layer pair1: the recipe of the layer's tar is missing"}},
	{name: "recipe cut, with a twin", do: func(p *patient) {
		p.must(os.Truncate(p.recipe("pair1"), 100))
	}, want: []string{"layer pair1: " + digestWrong}},
	{name: "recipe emptied, with a twin", do: func(p *patient) {
		p.must(os.Truncate(p.recipe("pair1"), 0))
	}, want: []string{"layer pair1: the recipe of the layer's tar is empty"}},
	{name: "content gone, with a twin", do: func(p *patient) {
		p.remove(p.path("overlay", ":pair1", "diff"))
	}, want: []string{"layer pair1: the layer's content is missing"}},
	{name: "directory gone, with a twin", do: func(p *patient) { p.remove(p.path("overlay", ":pair1")) },
		want: []string{"layer pair1: the layer's directory is missing", "file overlay/l/"}},
	{name: "file replaced by a directory, with a twin", do: func(p *patient) {
		p.remove(p.diff("pair1", "etc/twin"))
		p.must(os.Mkdir(p.diff("pair1", "etc/twin"), 0o755))
	}, want: []string{"layer pair1: " + digestWrong + ": /etc/twin is no regular file any more"}},

	// Content that is nowhere else.
	{name: "file edited", do: func(p *patient) { p.edit(p.diff("app", "etc/app"), "content", "kontent") }, force: true,
		want: []string{"layer app: " + digestWrong + ": /etc/app file integrity checksum failed"}, lost: appGone},
	{name: "files of two layers swapped", do: func(p *patient) {
		p.swap(p.diff("app", "etc/app"), p.diff("pair1", "etc/pair"))
	}, force: true,
		want: []string{"layer app: " + digestWrong + ": /etc/app has", "layer pair1: " + digestWrong +
			": /etc/pair has"}, lost: appGone},
	{name: "recipes of two layers swapped", do: func(p *patient) {
		p.swap(p.recipe("app"), p.recipe("pair1"))
	}, force: true,
		want: []string{"layer app: " + digestWrong + ": /etc/pair is missing", "layer pair1: " + digestWrong +
			": /etc/app is missing"}, lost: appGone},
	{name: "header edited in the recipe", do: func(p *patient) {
		p.recompress("app", func(s string) string { return strings.Replace(s, `"size":18,`, `"size":17,`, 1) })
	}, force: true, want: []string{"layer app: " + digestWrong}, lost: appGone},
	{name: "digest edited in the record", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "app", func(r map[string]any) {
			r["diff-digest"] = "sha256:" + strings.Repeat("0", 64)
		})
	}, force: true, want: []string{"layer app: " + digestWrong + ": sha256:"}, lost: appGone},

	{name: "size made less in the record", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "app", func(r map[string]any) { r["diff-size"] = 5 })
	}, want: []string{"layer app: layer content incorrect size"}},
	{name: "size made more in the record", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "app", func(r map[string]any) { r["diff-size"] = 1 << 40 })
	}, want: []string{"layer app: layer content incorrect size"}},

	// The driver's small files.
	{name: "link removed", do: func(p *patient) {
		p.remove(p.path("overlay", ":base", "link"))
	}, want: []string{"layer base: the file with the layer's short name is missing"}},
	{name: "link emptied", do: func(p *patient) {
		p.must(os.Truncate(p.path("overlay", ":base", "link"), 0))
	}, want: []string{"layer base: it holds no short name"}},
	{name: "short name removed", do: func(p *patient) {
		p.remove(p.shortName("base"))
	}, want: []string{"layer base: the layer's short name is missing"}},
	{name: "short name leads to another layer", do: func(p *patient) {
		symlink := p.shortName("base")
		p.remove(symlink)
		p.must(os.Symlink("../"+id("other")+"/diff", symlink))
	}, want: []string{"layer base: the layer's short name leads to", "layer app: it lists",
		"layer boxlayer: it lists"}},
	{name: "lower of another layer", do: func(p *patient) {
		p.write(p.path("overlay", ":app", "lower"), "l/"+filepath.Base(p.shortName("other")))
	}, want: []string{"layer app: it lists"}},
	{name: "lower emptied", do: func(p *patient) {
		p.must(os.Truncate(p.path("overlay", ":app", "lower"), 0))
	}, want: []string{"layer app: the list of the layers beneath is damaged"}},
	{name: "lower removed", do: func(p *patient) {
		p.remove(p.path("overlay", ":app", "lower"))
	}, want: []string{"layer app: the list of the layers beneath is missing"}},
	{name: "lower-layers edited", do: func(p *patient) {
		p.write(p.path("overlay", ":app", "lower-layers"), id("other"))
	}, want: []string{"layer app: it lists"}},
	{name: "work removed", do: func(p *patient) {
		p.remove(p.path("overlay", ":app", "work"))
	}, want: []string{"layer app: the directory is missing"}},
	{name: "empty removed", do: func(p *patient) {
		p.remove(p.path("overlay", ":base", "empty"))
	}, want: []string{"layer base: the directory is missing"}},

	// Records.
	{name: "layers.json cut", do: func(p *patient) {
		data := p.read(p.path("overlay-layers/layers.json"))
		p.must(os.Truncate(p.path("overlay-layers/layers.json"), int64(bytes.Index(data, []byte(id("app")))+80)))
	}, want: []string{"records of layers: damaged"}},
	{name: "layers.json emptied", do: func(p *patient) { p.must(os.Truncate(p.path("overlay-layers/layers.json"), 0)) },
		want: []string{"layer base: no record", "layer app: no record", "layer pair1: no record",
			"layer pair2: no record", "layer other: no record", "layer boxlayer: no record",
			"layer busylayer: no record"}},
	{name: "images.json of another form", do: func(p *patient) {
		p.record("overlay-images/images.json", "img", func(r map[string]any) { r["created"] = 5 })
	}, want: []string{"records of images: damaged"}},
	{name: "images.json emptied", do: func(p *patient) { p.must(os.Truncate(p.path("overlay-images/images.json"), 0)) },
		want: []string{"image img: no record", "image old: no record", "image one: no record", "image two: no record",
			"image good: no record"}},
	{name: "images.json removed", do: func(p *patient) { p.remove(p.path("overlay-images/images.json")) },
		want: []string{"image img: no record", "image old: no record", "image one: no record", "image two: no record",
			"image good: no record"}},
	{name: "layers.json removed", do: func(p *patient) { p.remove(p.path("overlay-layers/layers.json")) },
		want: []string{"layer base: no record", "layer app: no record", "layer pair1: no record",
			"layer pair2: no record", "layer other: no record", "layer boxlayer: no record",
			"layer busylayer: no record"}},
	{name: "containers.json removed, of containers that tell their layers", do: func(p *patient) {
		p.write(p.path("overlay-containers", ":box", "userdata/config.json"),
			`{"root":{"path":"/elsewhere/overlay/`+id("boxlayer")+`/merged"}}`)
		p.write(p.path("overlay-containers", ":busy", "state"), p.path("overlay", ":busylayer", "merged"))
		p.remove(p.path("overlay-containers/containers.json"))
	}, want: []string{"container box: no record", "container busy: no record"}},
	{name: "containers.json cut", do: func(p *patient) {
		p.must(os.Truncate(p.path("overlay-containers/containers.json"), 30))
	}, force: true, want: []string{"records of containers: damaged"},
		lost: []string{"container box", "container busy"}},
	{name: "mountpoints.json cut", do: func(p *patient) {
		p.must(os.WriteFile(filepath.Join(p.cfg.RunRoot, "overlay-layers/mountpoints.json"), []byte(`[{"id":"a","path`),
			0o600))
	}, want: []string{"records of mounts: damaged"}},
	{name: "ID that is a path", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "pair1", func(r map[string]any) { r["id"] = "../../victim" })
		p.write(p.path("../victim/file"), "x")
	}, want: []string{"records of layers: damaged"}},
	{name: "digest of a layer that is none", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "pair1", func(r map[string]any) { r["diff-digest"] = "nonsense" })
	}, want: []string{"layer pair1: " + digestWrong}},
	{name: "digest of an image that is none", do: func(p *patient) {
		p.record("overlay-images/images.json", "img", func(r map[string]any) {
			r["digest"] = "sha256:../../x"
			r["big-data-digests"].(map[string]any)["config"] = "nonsense"
		})
	}, want: []string{"image img: its digest"}},
	{name: "record of a layer lost", do: func(p *patient) {
		p.drop("overlay-layers/layers.json", "base")
	}, want: []string{"layer base: no record"}},
	{name: "layer lost with its record", do: func(p *patient) {
		p.drop("overlay-layers/layers.json", "base")
		p.remove(p.path("overlay", ":base"), p.shortNameOnce("base"), p.recipe("base"))
	}, force: true, want: []string{"layer app: parent layer", "image old: layer"},
		lost: append([]string{"layer base", "image old"}, appGone...)},
	{name: "parent edited", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "app", func(r map[string]any) { r["parent"] = id("other") })
	}, want: []string{"layer app: it lists", "layer boxlayer: it lists"}},
	{name: "parents in a circle", do: func(p *patient) {
		p.record("overlay-layers/layers.json", "base", func(r map[string]any) { r["parent"] = id("app") })
	}, want: []string{"layer base: it is that of a layer without a parent"}},
	{name: "image's layer edited", do: func(p *patient) {
		p.record("overlay-images/images.json", "old", func(r map[string]any) { r["layer"] = id("nothing") })
	}, want: []string{"image old: layer " + id("nothing") + ": image layer is missing"}, lost: []string{"image old"}},
	{name: "a translated layer that is gone", do: func(p *patient) {
		p.record("overlay-images/images.json", "old", func(r map[string]any) {
			r["mapped-layers"] = []string{id("nothing")}
		})
	}, want: []string{"image old: layer " + id("nothing") + ": image layer is missing"}},
	{name: "name of two images", do: func(p *patient) {
		p.record("overlay-images/images.json", "old", func(r map[string]any) { r["names"] = []string{"old", "good"} })
	}, want: []string{"image *: its name"}},
	{name: "record twice", do: func(p *patient) {
		data := p.read(p.path("overlay-containers/containers.json"))
		p.write(p.path("overlay-containers/volatile-containers.json"), string(data))
	}, want: []string{"container box: there is another record", "container busy: there is another record"}},
	{name: "image of a container gone", do: func(p *patient) {
		p.drop("overlay-images/images.json", "img")
		p.remove(p.path("overlay-images", ":img"))
	}, force: true, want: []string{"container box: image " + id("img") + ": image missing"},
		lost: []string{"image img", "container box", "layer boxlayer"}},
	{name: "layer of a container gone", do: func(p *patient) {
		p.drop("overlay-layers/layers.json", "boxlayer")
		p.remove(p.path("overlay", ":boxlayer"), p.shortNameOnce("boxlayer"))
	}, force: true, want: []string{"container box: layer " + id("boxlayer") + ": layer is missing"},
		lost: []string{"container box", "layer boxlayer"}},
	{name: "token cut", do: func(p *patient) {
		p.must(os.Truncate(p.path("overlay-layers/layers.lock"), 10))
	}, want: []string{"file overlay-layers/layers.lock: token"}},
	{name: "mount at a foreign place", do: func(p *patient) {
		p.must(os.WriteFile(filepath.Join(p.cfg.RunRoot, "overlay-layers/mountpoints.json"),
			fmt.Appendf(nil, `[{"id":%q,"path":%q,"count":1}]`, id("boxlayer"), filepath.Dir(p.dir)), 0o600))
	}, want: []string{"layer boxlayer: it is listed as mounted on"}},
	{name: "mount of nothing", do: func(p *patient) {
		p.must(os.WriteFile(filepath.Join(p.cfg.RunRoot, "overlay-layers/mountpoints.json"),
			fmt.Appendf(nil, `[{"id":%q,"path":"/x","count":1}]`, id("nothing")), 0o600))
	}, want: []string{"layer *: it is listed as mounted"}},

	{name: "container with the layer of an image", do: func(p *patient) {
		p.record("overlay-containers/containers.json", "box", func(r map[string]any) { r["layer"] = id("pair1") })
	}, force: true, want: []string{"container box: layer " + id("pair1") + ": it is the layer of image " + id("one")},
		lost: []string{"container box"}},
	{name: "container with the layer of another", do: func(p *patient) {
		p.record("overlay-containers/containers.json", "box", func(r map[string]any) { r["layer"] = id("busylayer") })
	}, force: true, want: []string{"container box: layer " + id("busylayer") + ": it is the layer of container " +
		id("busy")}, lost: []string{"container box"}},

	// Data items.
	{name: "manifest edited", do: func(p *patient) {
		p.edit(p.path("overlay-images", ":img", "manifest"), "img", "gmi")
	}, want: []string{`image img: data item "manifest": image data item has another content`}},
	{name: "manifest removed", do: func(p *patient) {
		p.remove(p.path("overlay-images", ":img", "manifest"))
	}, want: []string{`image img: data item "manifest": image data item is missing`}},
	{name: "config grown", do: func(p *patient) {
		p.write(p.path("overlay-images", ":old", "config"), strings.Repeat("config of old, and more", 20))
	},
		want: []string{`image old: data item "config": image data item has incorrect size`},
		lost: []string{"image old"}},
	{name: "size of an item edited in the record", do: func(p *patient) {
		p.record("overlay-images/images.json", "old", func(r map[string]any) {
			r["big-data-sizes"].(map[string]any)["config"] = 5
		})
	}, want: []string{`image old: data item "config": image data item has incorrect size`}},
	{name: "state of a container removed", do: func(p *patient) {
		p.remove(p.path("overlay-containers", ":box", "state"))
	}, force: true,
		want: []string{`container box: data item "state": container data item is missing`},
		lost: []string{"container box", "layer boxlayer"}},
	{name: "item of a layer removed", do: func(p *patient) {
		p.remove(p.path("overlay-layers", ":app", "=c29tZS1JdGVt"))
	}, want: []string{`layer app: data item "some-Item": layer data item is missing`}},

	// Garbage.
	{name: "layer marked incomplete", do: func(p *patient) {
		p.record("overlay-images/images.json", "one", func(r map[string]any) { r["layer"] = id("pair2") })
		p.record("overlay-layers/layers.json", "pair1", func(r map[string]any) {
			r["flags"] = map[string]any{"incomplete": true}
		})
	}, garbage: true, want: []string{"layer pair1: incomplete"}, lost: []string{"layer pair1"}},
	{name: "layer without a record", do: func(p *patient) {
		p.write(p.path("overlay", ":stray", "diff/file"), "x")
		p.write(p.path("overlay-layers", id("stray")+".tar-split.gz"), "x")
		p.write(p.path("overlay-layers", ":stray", "item"), "x")
	}, garbage: true, want: []string{"layer *: layer in lower level storage driver not accounted for",
		"file overlay-layers/:stray.tar-split.gz", "file overlay-layers/:stray"}},
	{name: "short name that leads nowhere", do: func(p *patient) {
		p.must(os.Symlink("../"+id("nothing")+"/diff", p.path("overlay/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
	}, garbage: true, want: []string{"file overlay/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ"}},
	{name: "second short name of a layer", do: func(p *patient) {
		p.must(os.Symlink("../"+id("base")+"/diff", p.path("overlay/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
	}, garbage: true, want: []string{"file overlay/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ"}},
	{name: "directories of an image and a container without a record", do: func(p *patient) {
		p.write(p.path("overlay-images", ":stray", "manifest"), "{}")
		p.write(p.path("overlay-containers", ":stray", "userdata/file"), "x")
		p.write(filepath.Join(p.cfg.RunRoot, "overlay-containers", id("stray"), "userdata/file"), "x")
	}, garbage: true, want: []string{"file overlay-images/:stray", "file overlay-containers/:stray",
		"file run/overlay-containers/:stray"}},
	{name: "items that no record has", do: func(p *patient) {
		p.write(p.path("overlay-images", ":img", "stray"), "x")
		p.write(p.path("overlay-layers", ":app", "stray"), "x")
		p.write(p.path("overlay-containers", ":box", "stray"), "x")
	}, garbage: true, want: []string{"file overlay-images/:img/stray", "file overlay-layers/:app/stray",
		"file overlay-containers/:box/stray"}},
	{name: "temporary directories", do: func(p *patient) {
		p.write(p.path("overlay/tempdirs/temp-dir-7/0-addition/diff/file"), "x")
		p.write(p.path("overlay-layers/tmp/lock-8"), "")
		p.write(p.path("overlay/metacopy-check123/lower/file"), "x")
		p.must(os.Mkdir(p.path("overlay/metacopy-check123/merged"), 0o700))
		p.must(unix.Mount("tmpfs", p.path("overlay/metacopy-check123/merged"), "tmpfs", 0, ""))
		p.must(os.Chtimes(p.path("overlay/metacopy-check123"), time.Unix(5, 0), time.Unix(5, 0)))
		p.write(p.path("overlay/compat456/lower1/young"), "x") // perhaps of a living process
		p.write(p.path("overlay/staging/9/staging.lock"), "")
		p.write(p.path("overlay/staging/9/dir/file"), "x")
	}, garbage: true, want: []string{"file overlay/tempdirs/temp-dir-7", "file overlay-layers/tmp/lock-8",
		"file overlay/staging/9", "file overlay/metacopy-check123"}},
	{name: "half-written files", do: func(p *patient) {
		p.write(p.path("overlay-layers/.tmp-layers.json123"), "[")
		p.write(p.path("overlay-images/.tmp-images.json123"), "[")
		p.write(p.path("overlay-images", ":img", ".tmp-manifest123"), "{")
		p.write(filepath.Join(p.cfg.RunRoot, "overlay-layers/.tmp-mountpoints.json1"), "[")
	}, garbage: true, want: []string{"file overlay-layers/.tmp-layers.json123",
		"file overlay-images/.tmp-images.json123",
		"file overlay-images/:img/.tmp-manifest123", "file run/overlay-layers/.tmp-mountpoints.json1"}},
}
