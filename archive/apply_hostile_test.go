package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// hostile is an archive that means harm, or nonsense. Its name says where it comes from.
type hostile struct {
	name    string
	there   []string // what is in the layer's directory before
	members []member
	data    []byte // in place of members
	form    archive.WhiteoutForm
	limits  archive.Limits
	err     string   // what the error must contain; "" for success
	want    []string // what the layer must then hold, as listing has it; nil for whatever
}

const (
	sym  = tar.TypeSymlink
	lnk  = tar.TypeLink
	dirT = tar.TypeDir
)

// OUT in a name or target stands for the absolute path of the sentinels, and SENTINEL for
// one of them.
const escape = "leads out of the layer"

// hostileTable is the table proper; hostileMatrix and hostileDamage add to it what is
// made by rule.
func hostileTable() []hostile {
	climb := []member{{name: "a/b/c", typ: sym, link: "../.."}, {name: "a/b/c/d", typ: sym, link: ".."},
		{name: "a/b/c/d/outside/x", body: "x"}}
	many := func(n int, f func(i int) member) (all []member) {
		for i := range n {
			all = append(all, f(i))
		}
		return all
	}
	pax := func(records string) member { return member{name: "PaxHeaders/x", typ: tar.TypeXHeader, body: records} }
	return []hostile{
		// Names.
		{name: "CVE-2014-9356: dot-dot", members: []member{{name: "../outside/file", body: "x"}}, err: escape},
		{name: "CVE-2014-9356: dot-dot after a directory",
			members: []member{{name: "d/"}, {name: "d/../../outside/file", body: "x"}}, err: escape},
		{name: "CVE-2014-9356: dot-slash-dot-dot", members: []member{{name: "./../outside/file", body: "x"}},
			err: escape},
		{name: "CVE-2014-9356: double slashes", members: []member{{name: ".//..//outside/file", body: "x"}},
			err: escape},
		{name: "CVE-2014-9356: dot-dot by PAX path",
			members: []member{{name: "a", body: "x", pax: [][2]string{{"path", "../outside/file"}}}}, err: escape},
		{name: "CVE-2014-9356: dot-dot by GNU long name",
			members: []member{{name: "././@LongLink", typ: tar.TypeGNULongName, gnu: true, body: "../outside/file\x00"},
				{name: "a", gnu: true}}, err: escape},
		{name: "CVE-2014-9356: dot-dot by sparse name",
			members: []member{{name: "a", pax: [][2]string{{"GNU.sparse.major", "0"}, {"GNU.sparse.minor", "1"},
				{"GNU.sparse.name", "../outside/file"}, {"GNU.sparse.size", "0"}, {"GNU.sparse.numblocks", "0"},
				{"GNU.sparse.map", "x"}}}}, err: "invalid tar header"},
		{name: "CVE-2014-9356: dot-dot by ustar prefix", members: []member{{name: "file", edit: func(b []byte) {
			copy(b[345:], "../outside")
		}}}, err: escape},
		{name: "CVE-2014-9358: absolute name", members: []member{{name: "OUT/file", body: "x"}}},
		{name: "CVE-2014-9358: slash dot-dot", members: []member{{name: "/../outside/file", body: "x"}},
			want: []string{"d outside", `f outside/file "x"`}},
		{name: "a name inside that only looks like it leads out", members: []member{{name: "a/b/../../c", body: "x"},
			{name: "..c", body: "y"}, {name: "...", body: "z"}}, want: []string{`f ... "z"`, `f ..c "y"`, `f c "x"`}},
		{name: "CVE-2025-22873: a name that ends in slash dot-dot",
			members: []member{{name: "d/"}, {name: "d/..", body: "x"}}, err: "root of a layer"},
		{name: "CVE-2025-22873: a name that ends in dot-dot slash", members: []member{{name: "d/../", mode: 0o700}},
			want: nil},
		{name: "CVE-2026-39822: a symlink's name with a slash",
			members: []member{{name: "l", typ: sym, link: "../outside"}, {name: "l/", mode: 0o777}},
			want:    []string{"d l"}},
		{name: "CVE-2026-39822: a file's name with slash dot through a symlink",
			members: []member{{name: "l", typ: sym, link: "../outside/file"},
				{name: "l/.", typ: tar.TypeReg, body: "x"}}, want: []string{`f l "x"`}},
		{name: "CVE-2026-17106: empty name", members: []member{{name: "", typ: tar.TypeReg, body: "x"}},
			err: "root of a layer"},
		{name: "CVE-2026-17106: empty name of a directory", members: []member{{name: "", typ: dirT}}, want: nil},
		{name: "CVE-2025-11395 c: a sibling with the root's name as prefix",
			members: []member{{name: "../layer-evil/file", body: "x"}}, err: escape},
		{name: "CVE-2025-11395 c: a symlink to such a sibling",
			members: []member{{name: "l", typ: sym, link: "../layer-evil"}, {name: "l/file", body: "x"}},
			want:    []string{"l l ../layer-evil", "d layer-evil", `f layer-evil/file "x"`}},
		{name: "a name of 5000 bytes", members: []member{{name: strings.Repeat("abcdefgh/", 600) + "x"}},
			err: "file name too long"},
		{name: "a component of 256 bytes", members: []member{{name: strings.Repeat("x", 256)}},
			err: "file name too long"},
		{name: "a component of 255 bytes", members: []member{{name: strings.Repeat("x", 255)}},
			want: []string{`f ` + strings.Repeat("x", 255) + ` ""`}},
		{name: "a name with newline and control bytes", members: []member{{name: "a\nb\x01\x7f", body: "x"}},
			want: []string{"f a\nb\x01\x7f \"x\""}},

		// The root.
		{name: "CVE-2021-29136: the root as a symlink", members: []member{{name: "./", typ: sym, link: "../outside"},
			{name: "file", body: "x"}}, err: "root of a layer"},
		{name: "CVE-2021-29136: the root as a symlink, by slash",
			members: []member{{name: "/", typ: sym, link: "../outside"}}, err: "root of a layer"},
		{name: "CVE-2021-29136: the root as a file", members: []member{{name: ".", typ: tar.TypeReg, body: "x"}},
			err: "root of a layer"},
		{name: "CVE-2021-29136: the root as a hard link", members: []member{{name: ".", typ: lnk, link: "a"}},
			err: "root of a layer"},
		{name: "CVE-2021-29136: the root as a FIFO", members: []member{{name: ".", typ: tar.TypeFifo}},
			err: "root of a layer"},
		{name: "CVE-2021-29136: the root as a device", members: []member{{name: ".", typ: tar.TypeChar}},
			err: "root of a layer"},
		{name: "CVE-2021-29136: the root by way of a directory",
			members: []member{{name: "a/"}, {name: "a/..", typ: sym, link: "../outside"}}, err: "root of a layer"},
		{name: "the root as a directory is welcome", members: []member{{name: "./", mode: 0o700},
			{name: "f", body: "x"}}, want: []string{`f f "x"`}},
		{name: "CVE-2025-11395 e: a whiteout of dot", members: []member{{name: ".wh.."}}, err: "invalid whiteout"},
		{name: "CVE-2025-11395 e: a whiteout of dot-dot", members: []member{{name: ".wh..."}}, err: "invalid whiteout"},
		{name: "CVE-2025-11395 e: a whiteout of nothing", members: []member{{name: ".wh."}}, err: "invalid whiteout"},
		{name: "CVE-2025-11395 e: a whiteout of nothing, below", members: []member{{name: "d/e/.wh."}},
			err: "invalid whiteout"},
		{name: "CVE-2025-11395 e: a whiteout of dot-dot, overlay", members: []member{{name: "d/.wh..."}},
			form: archive.OverlayTrusted, err: "invalid whiteout"},
		{name: "CVE-2025-11395 e: three dots are a name", members: []member{{name: ".wh....", mode: 0o600}},
			there: []string{"...=x"}, want: []string{}},

		// Symlinks.
		{name: "CVE-2025-11395 a: symlinks that climb step by step", members: climb,
			want: []string{"d a", "d a/b", "l a/b/c ../..", "l d ..", "d outside", `f outside/x "x"`}},
		{name: "CVE-2025-11395 a: the same, overlay", members: climb, form: archive.OverlayTrusted,
			want: []string{"d a", "d a/b", "l a/b/c ../..", "l d ..", "d outside", `f outside/x "x"`}},
		{name: "CVE-2014-6407: write through an absolute symlink", members: []member{{name: "l", typ: sym, link: "OUT"},
			{name: "l/file", body: "x"}}},
		{name: "CVE-2014-6407: write through a relative symlink",
			members: []member{{name: "l", typ: sym, link: "../outside"}, {name: "l/file", body: "x"}},
			want:    []string{"l l ../outside", "d outside", `f outside/file "x"`}},
		{name: "a symlink to a file outside, then that name as a file",
			members: []member{{name: "l", typ: sym, link: "../outside/file"}, {name: "l", body: "x"}},
			want:    []string{`f l "x"`}},
		{name: "symlink to the root's parent, listed from below",
			members: []member{{name: "d/l", typ: sym, link: "../../../../../.."}, {name: "d/l/etc/x", body: "x"}},
			want:    []string{"d d", "l d/l ../../../../../..", "d etc", `f etc/x "x"`}},
		{name: "a chain of forty symlinks", members: append(many(40, func(i int) member {
			return member{name: fmt.Sprintf("l%d", i), typ: sym, link: fmt.Sprintf("l%d", i+1)}
		}), member{name: "l0/f", body: "x"}), want: nil},
		{name: "a chain of three hundred symlinks", members: append(many(300, func(i int) member {
			return member{name: fmt.Sprintf("l%d", i), typ: sym, link: fmt.Sprintf("l%d", i+1)}
		}), member{name: "l0/f", body: "x"}), err: "too many levels of symbolic links"},
		{name: "a symlink to itself", members: []member{{name: "l", typ: sym, link: "l"}, {name: "l/f", body: "x"}},
			err: "too many levels of symbolic links"},
		{name: "two symlinks to each other", members: []member{{name: "a", typ: sym, link: "b"},
			{name: "b", typ: sym, link: "a"}, {name: "a/f", body: "x"}}, err: "too many levels of symbolic links"},
		{name: "symlinks that double at every step", members: append(many(30, func(i int) member {
			return member{name: fmt.Sprintf("l%d", i+1), typ: sym, link: fmt.Sprintf("l%d/l%d", i, i)}
		}), member{name: "l0", typ: sym, link: "."}, member{name: "l30/f", body: "x"}),
			err: "too many levels of symbolic links"},
		{name: "an empty symlink target", members: []member{{name: "l", typ: sym}}, err: "make symlink"},
		{name: "a symlink target of 4095 bytes", members: []member{{name: "l", typ: sym,
			link: strings.Repeat("a/", 2047) + "b"}}, want: []string{"l l " + strings.Repeat("a/", 2047) + "b"}},
		{name: "a symlink target of 4097 bytes", members: []member{{name: "l", typ: sym,
			link: strings.Repeat("a/", 2048) + "b"}}, err: "file name too long"},
		{name: "a symlink target with every byte but NUL",
			members: []member{{name: "l", typ: sym, link: "\x01\xff\n../\\*?$(x)"}},
			want:    []string{"l l \x01\xff\n../\\*?$(x)"}},
		{name: "CVE-2024-21626: a magic link as parent",
			members: []member{{name: "l", typ: sym, link: "/proc/self/cwd"}, {name: "l/f", body: "x"}},
			want: []string{"l l /proc/self/cwd", "d proc", "d proc/self", "d proc/self/cwd",
				`f proc/self/cwd/f "x"`}},
		{name: "CVE-2024-21626: a descriptor as parent",
			members: []member{{name: "l", typ: sym, link: "/proc/self/fd/3"}, {name: "l/../f", body: "x"}}, want: nil},
		{name: "CVE-2026-55686: /dev is a symlink", members: []member{{name: "dev", typ: sym, link: "OUT"},
			{name: "dev/null", typ: tar.TypeFifo}}},

		// Hard links.
		{name: "CVE-2014-9356: a hard link to the host",
			members: []member{{name: "h", typ: lnk, link: "../outside/file"}}, err: escape},
		{name: "CVE-2014-9356: an absolute hard link to the host",
			members: []member{{name: "h", typ: lnk, link: "OUT/file"}}, err: "no such file"},
		{name: "CVE-2014-9356: a hard link by slash dot-dot",
			members: []member{{name: "h", typ: lnk, link: "/../outside/file"}}, err: escape},
		{name: "CVE-2025-11395 b: a hard link whose target's parent is a symlink",
			members: []member{{name: "l", typ: sym, link: "../outside"}, {name: "h", typ: lnk, link: "l/file"}},
			err:     "no such file"},
		{name: "CVE-2025-11395 b: the same by an absolute symlink",
			members: []member{{name: "l", typ: sym, link: "OUT"}, {name: "h", typ: lnk, link: "l/file"}},
			err:     "no such file"},
		{name: "CVE-2021-32760: a hard link to a symlink to the host, with a mode",
			members: []member{{name: "l", typ: sym, link: "../outside/file"},
				{name: "h", typ: lnk, link: "l", mode: 0o7777, uid: 1, gid: 1, time: 5}},
			want: []string{"l h ../outside/file", "l l ../outside/file"}},
		{name: "CVE-2021-32760: a symlink to the host, with a mode",
			members: []member{{name: "l", typ: sym, link: "../outside/file", mode: 0o7777, uid: 1, gid: 1, time: 5}},
			want:    []string{"l l ../outside/file"}},
		{name: "CVE-2021-32760: a hard link to an absolute symlink, then a file over it",
			members: []member{{name: "l", typ: sym, link: "OUT/file"}, {name: "h", typ: lnk, link: "l"},
				{name: "h", body: "x"}}, want: nil},
		{name: "CVE-2021-32760: attributes through a symlink to the host",
			members: []member{{name: "l", typ: sym, link: "../outside/file",
				pax: [][2]string{{"SCHILY.xattr.trusted.x", "1"}}}}, want: []string{"l l ../outside/file"}},
		{name: "CVE-2026-50163: a target that exists where the process is",
			members: []member{{name: "h", typ: lnk, link: "apply_hostile_test.go"}}, err: "no such file"},
		{name: "CVE-2026-26960: node-tar's chain",
			members: []member{{name: "a/b/c/"}, {name: "a/b/c/up", typ: sym, link: "../.."},
				{name: "a/b/escape", typ: sym, link: "c/up/../.."},
				{name: "exfil", typ: lnk, link: "a/b/escape/outside/file"}}, err: "no such file"},
		{name: "CVE-2026-26960: node-tar's chain, written through",
			members: []member{{name: "a/b/c/"}, {name: "a/b/c/up", typ: sym, link: "../.."},
				{name: "a/b/escape", typ: sym, link: "c/up/../.."}, {name: "a/b/escape/outside/x", body: "x"}},
			want: []string{"d a", "d a/b", "d a/b/c", "l a/b/c/up ../..", "l a/b/escape c/up/../..", "d outside",
				`f outside/x "x"`}},
		{name: "go-archive v0.3.0 regression: an absolute hard link within the layer",
			members: []member{{name: "d/f", body: "x"}, {name: "h", typ: lnk, link: "/d/f"}},
			want:    []string{"d d", `f d/f "x"`, `f h "x"`}},
		{name: "a hard link through a symlink within the layer",
			members: []member{{name: "d/f", body: "x"}, {name: "l", typ: sym, link: "d"},
				{name: "h", typ: lnk, link: "l/f"}}, want: []string{"d d", `f d/f "x"`, `f h "x"`, "l l d"}},
		{name: "a hard link to what comes later", members: []member{{name: "h", typ: lnk, link: "f"},
			{name: "f", body: "x"}}, err: `entry "h": invalid: hard link to "f"`},
		{name: "a hard link to itself", members: []member{{name: "f", body: "x"}, {name: "f", typ: lnk, link: "./f"}},
			err: "its own name"},
		{name: "a hard link to a directory", members: []member{{name: "d/"}, {name: "h", typ: lnk, link: "d"}},
			err: "it is a directory"},
		{name: "a hard link to the root", members: []member{{name: "h", typ: lnk, link: "."}}, err: "it is the root"},
		{name: "a hard link to nothing", members: []member{{name: "h", typ: lnk}}, err: "it is the root"},
		{name: "a hard link whose target's parent is a file",
			members: []member{{name: "f", body: "x"}, {name: "h", typ: lnk, link: "f/g"}}, err: "not a directory"},
		{name: "a hard link in place of its target's directory",
			members: []member{{name: "d/f", body: "x"}, {name: "d", typ: lnk, link: "d/f"}}, err: "no such file"},
		{name: "a hard link with content", members: []member{{name: "f", body: "x"},
			{name: "h", typ: lnk, link: "f", body: "hidden"}}, err: "invalid tar header"},
		{name: "a hard link to a whiteout's device",
			members: []member{{name: ".wh.a"}, {name: "h", typ: lnk, link: "a"}}, form: archive.OverlayTrusted,
			err: `hard link to "a": invalid: this layer removes it`},

		// One member against another, also while it is being written.
		{name: "CVE-2025-47290: the parent becomes a symlink between two files",
			members: []member{{name: "d/"}, {name: "d/a", body: "a"}, {name: "d", typ: sym, link: "../outside"},
				{name: "d/file", body: "x"}}, want: []string{"l d ../outside", "d outside", `f outside/file "x"`}},
		{name: "CVE-2025-47290: the parent alternates", members: many(200, func(i int) member {
			return []member{{name: "d/"}, {name: "d/" + strconv.Itoa(i), body: "a"},
				{name: "d", typ: sym, link: "../outside"}, {name: "d/file", body: "x"}}[i%4]
		}), want: []string{"l d ../outside", "d outside", `f outside/file "x"`}},
		{name: "CVE-2025-47290: a large file's parent goes while it is written",
			members: []member{{name: "d/big", body: strings.Repeat("x", 3<<20)},
				{name: "d", typ: sym, link: "../outside"}, {name: "d/file", body: "x"}},
			want: []string{"l d ../outside", "d outside", `f outside/file "x"`}},
		{name: "CVE-2025-11395 d: a directory with times becomes a symlink",
			members: []member{{name: "d/", time: 5}, {name: "d", typ: sym, link: "../outside", time: 6}},
			want:    []string{"l d ../outside"}},
		{name: "CVE-2025-11395 d: an inner directory with times, its parent becomes a symlink",
			members: []member{{name: "d/e/", time: 5}, {name: "d", typ: sym, link: "OUT"}}, want: nil},
		{name: "CVE-2025-11395 d: the same by a whiteout", members: []member{{name: "d/", time: 5}, {name: ".wh.d"},
			{name: "d", typ: sym, link: "../outside"}}, form: archive.OverlayTrusted, want: []string{"l d ../outside"}},
		{name: "the same name two hundred times", members: many(200,
			func(i int) member { return member{name: "f", body: strconv.Itoa(i)} }), want: []string{`f f "199"`}},
		{name: "the same name by two paths", members: many(100, func(i int) member {
			return []member{{name: "d/f", body: strconv.Itoa(i)}, {name: "l", typ: sym, link: "d"},
				{name: "l/f", body: strconv.Itoa(i)}, {name: "./d//f", body: strconv.Itoa(i)}}[i%4]
		}), want: []string{"d d", `f d/f "99"`, "l l d"}},
		{name: "file and directory take turns", members: many(99, func(i int) member {
			return []member{{name: "a", body: "f"}, {name: "a/"}, {name: "a/b", body: strconv.Itoa(i)}}[i%3]
		}), want: []string{"d a", `f a/b "98"`}},
		{name: "every type in one place", members: []member{{name: "x", body: "f"}, {name: "x/"},
			{name: "x", typ: sym, link: "../outside"}, {name: "x", typ: tar.TypeFifo},
			{name: "x", typ: tar.TypeChar, dev: [2]int64{1, 3}}, {name: "o", body: "o"},
			{name: "x", typ: lnk, link: "o"}, {name: "x", body: "last"}}, want: []string{`f o "o"`, `f x "last"`}},
		{name: "a hard link to a file that was just replaced",
			members: []member{{name: "f", body: "1"}, {name: "h", typ: lnk, link: "f"}, {name: "f", body: "2"},
				{name: "i", typ: lnk, link: "f"}}, want: []string{`f f "2"`, `f h "1"`, `f i "2"`}},
		{name: "a thousand hard links to files in flight", members: many(1000, func(i int) member {
			if i%2 == 0 {
				return member{name: fmt.Sprintf("f%d", i), body: "x"}
			}
			return member{name: fmt.Sprintf("h%d", i), typ: lnk, link: fmt.Sprintf("f%d", i-1)}
		})},
		{name: "writing to a hard link must not change the other name",
			members: []member{{name: "f", body: "1"}, {name: "h", typ: lnk, link: "f"}, {name: "h", body: "changed"}},
			want:    []string{`f f "1"`, `f h "changed"`}},

		// Files where directories should be, and the other way round.
		{name: "a parent that is a file", members: []member{{name: "f", body: "x"}, {name: "f/g", body: "y"}},
			err: "not a directory"},
		{name: "a parent that is a FIFO", members: []member{{name: "f", typ: tar.TypeFifo}, {name: "f/g", body: "y"}},
			err: "not a directory"},
		{name: "a parent that is a device", members: []member{{name: "f", typ: tar.TypeChar, dev: [2]int64{1, 5}},
			{name: "f/g", body: "y"}}, err: "not a directory"},
		{name: "a parent that is a symlink to a file",
			members: []member{{name: "f", body: "x"}, {name: "l", typ: sym, link: "f"}, {name: "l/g", body: "y"}},
			err:     "not a directory"},
		{name: "a parent that is a whiteout", members: []member{{name: ".wh.d"}, {name: "d/g", body: "y"}},
			form: archive.OverlayTrusted, want: []string{"d d", `f d/g "y"`}},
		{name: "a FIFO in place of a file", there: []string{"f=x"}, members: []member{{name: "f", typ: tar.TypeFifo}},
			want: []string{"p f"}},
		{name: "a file in place of a FIFO", there: []string{"f|"}, members: []member{{name: "f", body: "x"}},
			want: []string{`f f "x"`}},
		{name: "a file in place of a device", there: []string{"f%1:3"}, members: []member{{name: "f", body: "x"}},
			want: []string{`f f "x"`}},
		{name: "a directory in place of a device", there: []string{"f%1:3"},
			members: []member{{name: "f/", mode: 0o700}}, want: []string{"d f"}},
		{name: "a hard link in place of a FIFO", there: []string{"f|"},
			members: []member{{name: "g", body: "x"}, {name: "f", typ: lnk, link: "g"}},
			want:    []string{`f f "x"`, `f g "x"`}},
		{name: "a hard link to a FIFO, with a mode", members: []member{{name: "p", typ: tar.TypeFifo, mode: 0o600},
			{name: "h", typ: lnk, link: "p", mode: 0o640}}, want: []string{"p h", "p p"}},
		{name: "a hard link to a device, with a mode",
			members: []member{{name: "c", typ: tar.TypeChar, dev: [2]int64{5, 0}, mode: 0o600},
				{name: "h", typ: lnk, link: "c", mode: 0o640}}, want: []string{"c c 5:0", "c h 5:0"}},
		{name: "a deep directory in place of which a file comes", there: []string{strings.Repeat("deep/", 300) + "f=x"},
			members: []member{{name: "deep", body: "x"}}, want: []string{`f deep "x"`}},

		// Whiteouts.
		{name: "CVE-2026-17106: an opaque marker through a symlink", there: []string{"keep=1"},
			members: []member{{name: "l", typ: sym, link: "../outside"}, {name: "l/.wh..wh..opq"}},
			want:    []string{`f keep "1"`, "l l ../outside"}},
		{name: "CVE-2026-17106: an opaque marker through an absolute symlink", there: []string{"keep=1"},
			members: []member{{name: "l", typ: sym, link: "OUT"}, {name: "l/.wh..wh..opq"}}},
		{name: "CVE-2026-17106: an opaque marker through a symlink, overlay",
			members: []member{{name: "l", typ: sym, link: "../outside"}, {name: "l/.wh..wh..opq"}},
			form:    archive.OverlayTrusted, want: []string{"l l ../outside", "d outside"}},
		{name: "a whiteout through a symlink", members: []member{{name: "l", typ: sym, link: "../outside"},
			{name: "l/.wh.file"}}, want: []string{"l l ../outside"}},
		{name: "a whiteout of a symlink to the host", there: []string{"l->../outside"},
			members: []member{{name: ".wh.l"}}, want: []string{}},
		{name: "an opaque marker over a symlink to the host",
			there:   []string{"d/l->../../outside", "d/sub/m->../../../outside"},
			members: []member{{name: "d/.wh..wh..opq"}}, want: []string{"d d"}},
		{name: "a whiteout by dot-dot", members: []member{{name: "../outside/.wh.file"}}, err: escape},
		{name: "an opaque marker by dot-dot", members: []member{{name: "../outside/.wh..wh..opq"}}, err: escape},
		{name: "a whiteout whose name holds a slash is a path", members: []member{{name: ".wh.d/f", body: "x"}},
			want: []string{"d .wh.d", `f .wh.d/f "x"`}},
		{name: "CVE-2025-11395 f: AUFS plink scratch names",
			members: []member{{name: ".wh..wh.plnk/../../outside/file", body: "x"}}, err: escape},
		{name: "CVE-2025-11395 f: a hard link into AUFS plink", members: []member{{name: ".wh..wh.plnk/1.2", body: "x"},
			{name: "h", typ: lnk, link: ".wh..wh.plnk/1.2"}}, want: []string{`f h "x"`}},
		{name: "a hard link into AUFS plink, of what isn't there", members: []member{
			{name: "h", typ: lnk, link: ".wh..wh.plnk/1.2"}}, err: "no such file"},
		{name: "CVE-2025-11395 f: AUFS plink as a symlink",
			members: []member{{name: ".wh..wh.plnk", typ: sym, link: "../outside"},
				{name: ".wh..wh.plnk/file", body: "x"}}, want: []string{}},
		{name: "a whiteout that is a directory", members: []member{{name: ".wh.f/", typ: dirT}}, there: []string{"f=x"},
			want: []string{}},
		{name: "a whiteout that is a symlink", members: []member{{name: ".wh.f", typ: sym, link: "../outside"}},
			there: []string{"f=x"}, want: []string{}},
		{name: "a whiteout that is a hard link to the host",
			members: []member{{name: ".wh.f", typ: lnk, link: "../outside/file"}}, there: []string{"f=x"},
			want: []string{}},
		{name: "a whiteout of a whiteout", members: []member{{name: ".wh..wh.f"}}, there: []string{".wh.f=x"},
			want: nil},
		{name: "a device that looks like a whiteout", members: []member{{name: "c", typ: tar.TypeChar}},
			form: archive.OverlayTrusted, want: []string{"c c 0:0"}},

		// Numbers.
		{name: "CVE-2024-40635: user ID 2^32", members: []member{{name: "f", uid: 1 << 32}}, err: "is no user ID"},
		{name: "CVE-2024-40635: user ID 2^32-1, chown's \"leave it\"", members: []member{{name: "f", uid: 1<<32 - 1}},
			err: "is no user ID"},
		{name: "CVE-2024-40635: user ID -1", members: []member{{name: "f", uid: -1}}, err: "is no user ID"},
		{name: "CVE-2024-40635: group ID 2^32", members: []member{{name: "f", gid: 1 << 32}}, err: "is no group ID"},
		{name: "CVE-2024-40635: user ID 2^31 is one", members: []member{{name: "f", uid: 1 << 31, body: "x"}},
			want: []string{`f f "x"`}},
		{name: "CVE-2024-40635: user ID 2^64 by PAX",
			members: []member{{name: "f", pax: [][2]string{{"uid", "18446744073709551616"}}}},
			err:     "invalid tar header"},
		{name: "CVE-2024-40635: user ID 2^63 by PAX",
			members: []member{{name: "f", pax: [][2]string{{"uid", "9223372036854775808"}}}},
			err:     "invalid tar header"},
		{name: "CVE-2024-40635: user ID 4294967296 by PAX",
			members: []member{{name: "f", pax: [][2]string{{"uid", "4294967296"}}}}, err: "is no user ID"},
		{name: "CVE-2024-40635: user ID in words", members: []member{{name: "f", pax: [][2]string{{"uid", "root"}}}},
			err: "invalid tar header"},
		{name: "CVE-2024-40635: user ID in hexadecimal",
			members: []member{{name: "f", pax: [][2]string{{"uid", "0x10"}}}}, err: "invalid tar header"},
		{name: "an octal field with a nine", members: []member{{name: "f", edit: func(b []byte) {
			copy(b[108:116], "0000009\x00")
		}}}, err: "invalid tar header"},
		{name: "a base-256 field that overflows", members: []member{{name: "f", edit: func(b []byte) {
			copy(b[136:148], "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		}}}, err: "invalid tar header"},
		{name: "a negative size", members: []member{{name: "f", size: "256:-1"}}, err: "invalid tar header"},
		{name: "a negative size by PAX", members: []member{{name: "f", pax: [][2]string{{"size", "-1"}}}},
			err: "invalid tar header"},
		{name: "the least size there is", members: []member{{name: "f", size: "256:-9223372036854775808"}},
			err: "invalid tar header"},
		{name: "CVE-2017-14992: a size of 8 EiB", members: []member{{name: "f", size: "256:9223372036854775807"}},
			err: "unexpected EOF"},
		{name: "CVE-2017-14992: a size of 100 GiB", members: []member{{name: "f", size: "256:107374182400", body: "x"}},
			err: "unexpected EOF"},
		{name: "CVE-2017-14992: a PAX header of 100 GiB",
			members: []member{{name: "x", typ: tar.TypeXHeader, size: "256:107374182400"}},
			err:     "header field too long"},
		{name: "CVE-2017-14992: a long name of 8 GiB",
			members: []member{{name: "x", typ: tar.TypeGNULongName, gnu: true, size: "256:8589934592"}},
			err:     "header field too long"},
		{name: "a negative mode", members: []member{{name: "f", edit: func(b []byte) { base256(b[100:108], "-1") }}},
			want: []string{`f f ""`}},
		{name: "a device number beyond the kernel's",
			members: []member{{name: "c", typ: tar.TypeChar, dev: [2]int64{1 << 20, 1 << 30}}}, err: "device number"},
		{name: "a negative device number", members: []member{{name: "c", typ: tar.TypeBlock, dev: [2]int64{-1, 0}}},
			err: "device number"},
		{name: "a time at the end of the world", members: []member{
			{name: "f", pax: [][2]string{{"mtime", "9223372036854775807.999999999"}}},
			{name: "d/", pax: [][2]string{{"mtime", "-9223372036854775808"}}}}, want: []string{"d d", `f f ""`}},
		{name: "a time that is no number", members: []member{{name: "f", pax: [][2]string{{"mtime", "soon"}}}},
			err: "invalid tar header"},
		{name: "a time with a fraction that is no number",
			members: []member{{name: "f", pax: [][2]string{{"mtime", "1.5e9"}}}}, err: "invalid tar header"},

		// Readers that disagree.
		{name: "CVE-2025-62518: PAX size hides members from a reader of ustar sizes",
			members: []member{{name: "outer", size: "00000000000",
				body: string(joined(member{name: "smuggled", body: "x"})), pax: [][2]string{{"size", "1024"}}}},
			want: []string{"f outer 1024 bytes"}},
		{name: "CVE-2025-62518: PAX size smaller than the ustar size",
			members: []member{{name: "outer", body: string(joined(member{name: "smuggled", body: "x"})),
				pax: [][2]string{{"size", "0"}}}}, want: []string{`f outer ""`, `f smuggled "x"`}},
		{name: "CVE-2026-33055: a malformed PAX record before a good one",
			members: []member{pax("zz path=a\n" + paxRecord("path", "b")), {name: "c"}}, err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX record that is too short", members: []member{pax("3 a\n"), {name: "c"}},
			err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX record that is longer than the header",
			members: []member{pax("99 path=a\n"), {name: "c"}}, err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX record without newline", members: []member{pax("9 path=ab"), {name: "c"}},
			err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX record of negative length", members: []member{pax("-9 path=a\n"), {name: "c"}},
			err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX path with a NUL", members: []member{pax(paxRecord("path", "a\x00b")),
			{name: "c"}}, err: "invalid tar header"},
		{name: "CVE-2026-32766: a PAX key with a NUL", members: []member{pax(paxRecord("a\x00b", "c")), {name: "c"}},
			err: "invalid tar header"},
		{name: "PAX path twice: the last one counts",
			members: []member{pax(paxRecord("path", "a") + paxRecord("path", "b")), {name: "c"}},
			want:    []string{`f b ""`}},
		{name: "two PAX headers: the last one counts", members: []member{pax(paxRecord("path", "a")),
			pax(paxRecord("mtime", "5")), {name: "c"}}, want: []string{`f c ""`}},
		{name: "a global header does not rename", members: []member{{name: "g", typ: tar.TypeXGlobalHeader,
			body: paxRecord("path", "../outside/file")}, {name: "c"}}, want: []string{`f c ""`}},
		{name: "a global header that is malformed",
			members: []member{{name: "g", typ: tar.TypeXGlobalHeader, body: "junk"}, {name: "c"}},
			err:     "invalid tar header"},
		{name: "a long name for nothing", members: []member{{name: "././@LongLink", typ: tar.TypeGNULongName, gnu: true,
			body: "a\x00"}}, want: []string{}},
		{name: "a type nobody knows", members: []member{{name: "x", typ: 'Q'}}, err: "unhandled tar header type 81"},
		{name: "a Solaris extended header", members: []member{{name: "x", typ: 'X', body: "a"}},
			err: "unhandled tar header type"},
		{name: "a volume label", members: []member{{name: "x", typ: 'V'}}, err: "unhandled tar header type"},
		{name: "a zero block, then a header", data: append(make([]byte, 512), tarball(member{name: "f"})...),
			err: "invalid tar header"},
		{name: "a wrong checksum", data: func() []byte { b := tarball(member{name: "f"}); b[0] = 'g'; return b }(),
			err: "invalid tar header"},
		{name: "garbage", data: []byte(strings.Repeat("this is no tar. ", 64)), err: "archive/tar: invalid tar header"},
		{name: "garbage, shorter than a block", data: []byte("this is no tar"), err: "unexpected EOF"},
		{name: "noise", data: testutil.Noise("noise", 100<<10), err: "invalid tar header"},

		// Sparse maps.
		{name: "CVE-2025-58183: a sparse map of a million",
			members: []member{{name: "f", body: "1000000\n" + strings.Repeat("0\n", 2000000),
				pax: [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "0"}}}},
			err: "sparse map too long"},
		{name: "CVE-2025-58183: a sparse map that claims more than it has",
			members: []member{{name: "f", body: "9999999999\n", pax: [][2]string{{"GNU.sparse.major", "1"},
				{"GNU.sparse.minor", "0"}}}}, err: "unexpected EOF"},
		{name: "CVE-2026-32288: an endless old GNU sparse map", members: []member{{raw: endlessSparse()}},
			err: "sparse map too long"},
		{name: "a sparse file of 8 EiB", members: []member{paxSparse("f", "9223372036854775807", "0,1", "1", "x")},
			err: "file too large"},
		{name: "a sparse extent before the last", members: []member{paxSparse("f", "100", "50,1,0,1", "2", "xy")},
			err: "invalid tar header"},
		{name: "sparse extents that overlap", members: []member{paxSparse("f", "100", "0,2,1,1", "2", "xyz")},
			err: "invalid tar header"},
		{name: "a sparse extent beyond the end", members: []member{paxSparse("f", "100", "99,2", "1", "xy")},
			err: "invalid tar header"},
		{name: "a sparse extent that overflows", members: []member{paxSparse("f", "9223372036854775807",
			"9223372036854775807,2", "1", "xy")}, err: "invalid tar header"},
		{name: "a negative sparse extent", members: []member{paxSparse("f", "100", "0,-1", "1", "")},
			err: "invalid tar header"},
		{name: "a sparse map for more content than there is",
			members: []member{paxSparse("f", "100", "0,50", "1", "x")}, err: "sparse map stands for 50 bytes"},
		{name: "a sparse map for less content than there is",
			members: []member{paxSparse("f", "100", "0,1", "1", "xyz")}, err: "sparse map stands for 1 bytes"},
		{name: "a sparse map with a wrong count", members: []member{paxSparse("f", "100", "0,1", "2", "x")},
			err: "invalid tar header"},
		{name: "a sparse directory", members: []member{
			{name: "d/", pax: [][2]string{{"GNU.sparse.numblocks", "1"}, {"GNU.sparse.size", "10"},
				{"GNU.sparse.map", "0,1"}}}}, err: "invalid tar header"},
		{name: "an old GNU sparse member in a ustar header", members: []member{{name: "f", typ: tar.TypeGNUSparse}},
			err: "invalid tar header"},

		// What errors show.
		{name: "the entry before what is no header", members: []member{{name: "f"}, {name: "g", size: "256:-1"}},
			err: `after entry "f": invalid: archive/tar: invalid tar header`},
		{name: "the ends of a name of a hundred thousand bytes",
			members: []member{{name: "first/" + strings.Repeat("d/", 50_000) + "last"}}, err: `d/d/"..."d/d/`},

		// Attributes.
		{name: "an attribute of a namespace that isn't",
			members: []member{{name: "f", pax: [][2]string{{"SCHILY.xattr.nonsense", "1"}}}}, want: []string{`f f ""`}},
		{name: "an attribute without a name", members: []member{{name: "f", pax: [][2]string{{"SCHILY.xattr.", "1"}}}},
			err: "set attribute"},
		{name: "an attribute with a name of 300 bytes",
			members: []member{{name: "f", pax: [][2]string{{"SCHILY.xattr.user." + strings.Repeat("x", 300), "1"}}}},
			err:     "set attribute"},
		{name: "an attribute of 70,000 bytes", members: []member{
			{name: "f", pax: [][2]string{{"SCHILY.xattr.user.x", strings.Repeat("x", 70000)}}}}, err: "set attribute"},
		{name: "an ACL that is none", members: []member{
			{name: "f", pax: [][2]string{{"SCHILY.xattr.system.posix_acl_access", "nonsense"}}}},
			want: []string{`f f ""`}},
		{name: "file capabilities that are none", members: []member{
			{name: "f", pax: [][2]string{{"SCHILY.xattr.security.capability", "nonsense"}}}}, err: "set attribute"},
		{name: "a user attribute on a FIFO", members: []member{{name: "p", typ: tar.TypeFifo,
			pax: [][2]string{{"SCHILY.xattr.user.x", "1"}}}}, err: "set attribute"},
		{name: "a label of another host", members: []member{
			{name: "f", pax: [][2]string{{"SCHILY.xattr.security.selinux", "system_u:object_r:shadow_t:s0"}}}},
			want: []string{`f f ""`}},

		// Bombs.
		{name: "CVE-2023-30551: beyond a limit on bytes",
			members: []member{{name: "f", body: strings.Repeat("\x00", 3<<20)}},
			limits:  archive.Limits{MaxBytes: 1 << 20}, err: "limit of 1048576 bytes"},
		{name: "CVE-2023-30551: a gzip bomb", data: zipped(make([]byte, 64<<20)),
			limits: archive.Limits{MaxRatio: 100, RatioFloor: 1 << 20}, err: "past the limit of 100 to 1"},
		{name: "CVE-2023-30551: a gzip bomb of zeros is an end without end", data: zipped(make([]byte, 64<<20)),
			want: []string{}},
		{name: "CVE-2022-30631: a hundred thousand empty gzip members", data: append(bytes.Repeat(zipped(nil), 100_000),
			zipped(tarball())...),
			want: []string{}},
		{name: "beyond a limit on entries", members: many(101,
			func(i int) member { return member{name: strconv.Itoa(i)} }), limits: archive.Limits{MaxEntries: 100},
			err: "more than 100 entries"},
		{name: "extended headers count as entries",
			members: many(200, func(i int) member { return pax(paxRecord("path", "a")) }),
			limits:  archive.Limits{MaxEntries: 100}, err: "more than 100 entries"},
		{name: "PAX headers without end", members: many(500,
			func(i int) member { return pax(paxRecord("comment", strings.Repeat("x", 20000))) }), want: []string{}},
		{name: "a PAX header of a megabyte and more",
			members: []member{pax(paxRecord("comment", strings.Repeat("x", 1<<20)))}, err: "header field too long"},
		{name: "a tree 1,300 levels deep", members: []member{{name: strings.Repeat("d/", 1300) + "f", body: "x"}}},
		{name: "a tree of 4,000 levels, by symlinks", members: []member{{name: strings.Repeat("d/", 1999) + "e/"},
			{name: "l", typ: sym, link: strings.Repeat("d/", 1999) + "e"}, {name: "l/" + strings.Repeat("g/", 1999)},
			{name: "d", body: "gone"}}, want: []string{`f d "gone"`, "l l " + strings.Repeat("d/", 1999) + "e"}},
		{name: "moby: 65,500 hard links, past ext4's limit",
			members: append([]member{{name: "f"}},
				many(65_500, func(i int) member {
					return member{name: "h" + strconv.Itoa(i), typ: lnk,
						link: "f"}
				})...), err: "too many links"},
	}
}

func paxSparse(name, size, extents, count, body string) member {
	return member{name: name, body: body, pax: [][2]string{{"GNU.sparse.size", size}, {"GNU.sparse.numblocks", count},
		{"GNU.sparse.map", extents}}}
}

// endlessSparse is an old GNU sparse member whose map goes on for 3 MiB.
func endlessSparse() []byte {
	b := joined(member{name: "f", typ: tar.TypeGNUSparse, gnu: true, edit: func(b []byte) {
		b[482] = 1
		copy(b[483:], "00000000000")
	}})
	ext := make([]byte, 512)
	ext[504] = 1
	return append(b, bytes.Repeat(ext, 6<<10)...)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

// hostileMatrix puts a member of each type in each place from which it might reach the
// host.
func hostileMatrix() (table []hostile) {
	types := []struct {
		name string
		m    member
	}{
		{"directory", member{typ: dirT, mode: 0o777}},
		{"file", member{body: "x", mode: 0o7777}},
		{"symlink", member{typ: sym, link: "../outside"}},
		{"hard link", member{typ: lnk, link: "t"}},
		{"FIFO", member{typ: tar.TypeFifo}},
		{"device", member{typ: tar.TypeChar, dev: [2]int64{1, 3}}},
		{"whiteout", member{}},
		{"opaque marker", member{}},
	}
	for _, typ := range types {
		at := func(dir string) member {
			m := typ.m
			switch typ.name {
			case "whiteout":
				m.name = dir + ".wh.file"
			case "opaque marker":
				m.name = dir + ".wh..wh..opq"
			default:
				m.name = dir + "file"
			}
			return m
		}
		for _, form := range []archive.WhiteoutForm{archive.RemoveWhiteouts, archive.OverlayTrusted} {
			add := func(place, err string, members ...member) {
				members = append([]member{{name: "t", body: "t"}}, members...)
				table = append(table, hostile{name: fmt.Sprintf("CVE-2026-46703 matrix: %s, %s, form %d", typ.name,
					place, form), members: members, form: form, err: err})
			}
			add("dot-dot", escape, at("../outside/"))
			add("below a relative symlink", "", member{name: "l", typ: sym, link: "../outside"}, at("l/"))
			add("below an absolute symlink", "", member{name: "l", typ: sym, link: "OUT"}, at("l/"))
			add("below a symlink in a symlink", "", member{name: "l", typ: sym, link: ".."},
				member{name: "l/m", typ: sym, link: "../outside"}, at("m/"))
			add("in the place of a symlink", "", member{name: "file", typ: sym, link: "OUT/file"}, at(""))
			add("below the root by its absolute path", "", at("OUT/"))
		}
	}
	return table
}

// hostileDamage cuts a small archive off at every block, in the plain and compressed.
func hostileDamage() (table []hostile) {
	whole := joined(
		member{name: "d/"}, member{name: "d/f", body: strings.Repeat("x", 1500)},
		member{name: strings.Repeat("long", 50), body: "y"},
		member{name: "s", body: "1\n0\n3\n" + strings.Repeat("\x00", 506) + "abc",
			pax: [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "9"}}},
	)
	// Where a reader can't tell a cut from an end: between two members, and in the
	// padding of the last.
	clean := func(cut int) bool {
		return cut == 0 || cut == 512 || cut >= 512+512+1500 && cut <= 512+4*512 || cut == 2560+1536+512 ||
			cut > 4096 && cut < 4608 || cut >= 4608+2048+3
	}
	for cut := 0; cut < len(whole); cut += 256 {
		err := "unexpected EOF"
		if clean(cut) {
			err = ""
		}
		if cut == 0 {
			err = "it is empty"
		}
		table = append(table, hostile{name: fmt.Sprintf("truncation at byte %d", cut), data: whole[:cut], err: err})
	}
	for _, packed := range []struct {
		name string
		data []byte
	}{{"gzip", zipped(append(whole, make([]byte, 1024)...))}} {
		for cut := 1; cut < len(packed.data); cut += 16 {
			if cut < 6 {
				continue
			}
			table = append(table, hostile{name: fmt.Sprintf("CVE-2021-20291 %s cut off at byte %d", packed.name, cut),
				data: packed.data[:cut], err: "unexpected EOF"})
		}
		broken := bytes.Clone(packed.data)
		broken[len(broken)-5] ^= 1
		table = append(table, hostile{name: packed.name + " with a wrong checksum", data: broken, err: "checksum"})
		table = append(table, hostile{name: packed.name + " followed by junk",
			data: append(bytes.Clone(packed.data), "junk junk junk"...), err: "gzip stream is invalid"})
	}
	return table
}

func allHostile() []hostile {
	return append(append(hostileTable(), hostileMatrix()...), hostileDamage()...)
}

// archive is the case's stream with OUT replaced.
func (h *hostile) archive(outside string) []byte {
	if h.data != nil {
		return h.data
	}
	members := make([]member, len(h.members))
	for i, m := range h.members {
		m.name = strings.ReplaceAll(m.name, "OUT", outside)
		m.link = strings.ReplaceAll(m.link, "OUT", outside)
		members[i] = m
	}
	return tarball(members...)
}

// sentinels are files beside the layer's directory that nobody may touch.
func sentinels(t testing.TB, dir string) {
	for _, d := range []string{"outside", "layer-evil", "l"} {
		testutil.Tree(t, filepath.Join(dir, d),
			"file=sentinel 0640 user.sentinel=1 @1000000000", "hard=>file", "x=another 04755",
			"dir/inner=inner 0600 @1000000001", "dir/ 0700 @1000000002", "link->file", "pipe|", "./ 0750 @1000000003")
	}
}

// sentinelState is everything about them that an archive could change, the time of the
// last change of their inodes included.
func sentinelState(t testing.TB, dir string) map[string]string {
	state := map[string]string{}
	for _, d := range []string{"outside", "layer-evil", "l"} {
		for path, line := range testutil.Snapshot(t, filepath.Join(dir, d)) {
			path = filepath.Join(d, path)
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, path), &st); err != nil {
				t.Fatal(err)
			}
			state[path] = fmt.Sprintf("%s ino=%d nlink=%d ctime=%d.%d", line, st.Ino, st.Nlink, st.Ctim.Sec,
				st.Ctim.Nsec)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		state["entry "+e.Name()] = e.Type().String()
	}
	return state
}

func TestApplyHostile(t *testing.T) {
	testutil.Root(t)
	if !testutil.OnHost() {
		t.Skip("needs the host's root: devices and trusted attributes")
	}
	table := allHostile()
	if len(table) < 120 {
		t.Fatalf("the table has %d archives, at least 120 are promised", len(table))
	}
	dir := t.TempDir()
	sentinels(t, dir)
	before := sentinelState(t, dir)
	layer := filepath.Join(dir, "layer")
	for _, h := range table {
		t.Run(h.name, func(t *testing.T) {
			checkLeaks(t)
			data := h.archive(filepath.Join(dir, "outside"))
			counts := []int{1, 2, 4}
			switch {
			case len(data) > 16<<20, len(data) > 1<<20 && !testutil.Long():
				counts = []int{2}
			case !testutil.Long():
				counts = []int{1, 4}
			}
			for _, writers := range counts {
				if err := os.Mkdir(layer, 0o755); err != nil {
					t.Fatal(err)
				}
				testutil.Tree(t, layer, h.there...)
				split, err := os.Create(filepath.Join(dir, "split"))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				_, err = apply.Tar(ctx, layer, bytes.NewReader(data), split,
					apply.Options{Whiteouts: h.form, Limits: h.limits, Writers: writers})
				cancel()
				switch {
				case h.err == "" && err != nil:
					t.Errorf("%d writers: %v", writers, err)
				case h.err != "" && (err == nil || !strings.Contains(err.Error(), h.err)):
					t.Errorf("%d writers: error is %v, want %q", writers, err, h.err)
				case h.err != "" && !errors.Is(err, errdefs.ErrInvalid):
					t.Errorf("%d writers: %v is not errdefs.ErrInvalid", writers, err)
				}
				if h.want != nil && err == nil {
					sameLines(t, h.want, listing(t, layer))
				}
				if err == nil && h.data == nil && len(data) < 1<<20 {
					sameReplay(t, data, layer, split.Name())
				}
				split.Close()
				os.Remove(split.Name())
				if err := os.RemoveAll(layer); err != nil {
					t.Fatal(err)
				}
				if lines := testutil.Diff(before, sentinelState(t, dir)); len(lines) > 0 {
					t.Fatalf("outside of the layer something has changed:\n%s", strings.Join(lines, "\n"))
				}
			}
		})
	}
}
