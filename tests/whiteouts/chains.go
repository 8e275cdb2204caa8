package whiteouts

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// chain makes random layers of a few names, so that they meet often.
func chain(r *rand.Rand) (layers [][]member) {
	shown := tree{}
	for range 1 + r.IntN(3) {
		var layer []member
		for range 1 + r.IntN(7) {
			m := randomMember(r, shown, layer)
			if m != nil {
				layer = append(layer, m...)
			}
		}
		layers = append(layers, layer)
		shown = right(shown, layer)
	}
	return layers
}

// randomMember returns nothing where what it has thought of has no meaning that all
// readers agree on: a name beneath a file.
func randomMember(r *rand.Rand, lower tree, layer []member) []member {
	now := right(lower, layer)
	name := randomName(r)
	up := path.Dir(name)
	// Readers that copy take the members one by one: a file that a later whiteout removes
	// is still in the way.
	for p := up; p != "."; p = path.Dir(p) {
		for _, t := range []tree{now, lower} {
			if content, ok := t[p]; ok && content != dir {
				return nil
			}
		}
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		return []member{{name: name, body: unique(r)}}
	case 3, 4:
		return []member{{name: name + "/"}}
	case 5, 6:
		return beside(up, ".wh."+path.Base(name))
	case 7:
		return beside(up, ".wh..wh..opq")
	case 8:
		// a second name of a file of this layer
		for _, m := range layer {
			if m.body != "" && now[m.name] == m.body && m.name != name && !strings.HasPrefix(m.name, name+"/") {
				return []member{{name: name, link: m.name}}
			}
		}
	case 9:
		scratch := fmt.Sprintf(".wh..wh.plnk/%d.%d", r.IntN(1e6), len(layer))
		return []member{{name: ".wh..wh.plnk/"}, {name: scratch, body: unique(r)}, {name: name, link: scratch}}
	}
	return nil
}

// beside is a whiteout after the entry of its directory, which real archives always have.
func beside(up, name string) []member {
	if up == "." {
		return []member{{name: name}}
	}
	return []member{{name: up + "/"}, {name: up + "/" + name}}
}

func randomName(r *rand.Rand) string {
	parts := []string{}
	for range 1 + r.IntN(3) {
		parts = append(parts, string(rune('a'+r.IntN(3))))
	}
	return strings.Join(parts, "/")
}

// unique is a content whose length is like no other's, so that sizes tell it too.
func unique(r *rand.Rand) string { return strings.Repeat("x", 1+r.IntN(1e4)) }

// act is something that a container does to its files.
type act struct {
	what string // "write", "mkdir", "remove", "rename"
	name string
	to   string
}

func acts(r *rand.Rand, shown tree) (list []act) {
	names := slices.Sorted(maps.Keys(shown))
	for range r.IntN(6) {
		name := randomName(r)
		if len(names) > 0 && r.IntN(2) == 0 {
			name = names[r.IntN(len(names))]
		}
		what := []string{"write", "mkdir", "remove", "remove", "rename"}[r.IntN(5)]
		list = append(list, act{what, name, randomName(r)})
	}
	return list
}

// shrink takes away what a failure doesn't need.
func shrink(layers [][]member, done []act, fails func([][]member, []act) error) ([][]member, []act, error) {
	err := fails(layers, done)
	for again := true; again; {
		again = false
		try := func(l [][]member, a []act) bool {
			if e := fails(l, a); e != nil {
				layers, done, err, again = l, a, e, true
				return true
			}
			return false
		}
		for i := len(layers) - 1; i >= 0; i-- {
			if len(layers) > 1 && try(slices.Delete(slices.Clone(layers), i, i+1), done) {
				break
			}
			for k := len(layers[i]) - 1; k >= 0; k-- {
				fewer := slices.Clone(layers)
				fewer[i] = slices.Delete(slices.Clone(layers[i]), k, k+1)
				if meaningful(fewer) && try(fewer, done) {
					break
				}
			}
		}
		for i := len(done) - 1; i >= 0; i-- {
			if try(layers, slices.Delete(slices.Clone(done), i, i+1)) {
				break
			}
		}
	}
	return layers, done, err
}

// meaningful reports whether every hard link has its target and every whiteout its
// directory, and no name is beneath a file.
func meaningful(layers [][]member) bool {
	shown := tree{}
	for _, layer := range layers {
		for i, m := range layer {
			if m.link != "" && !slices.ContainsFunc(layer[:i], func(t member) bool { return t.name == m.link }) {
				return false
			}
			now := right(shown, layer[:i])
			if up := path.Dir(m.name); strings.HasPrefix(path.Base(m.name), ".wh.") && up != "." &&
				!slices.ContainsFunc(layer[:i], func(m member) bool { return m.name == up+"/" }) {
				return false
			}
			for up := path.Dir(strings.TrimSuffix(m.name, "/")); up != "."; up = path.Dir(up) {
				for _, t := range []tree{shown, now} {
					if content, ok := t[up]; ok && content != dir {
						return false
					}
				}
			}
		}
		shown = right(shown, layer)
	}
	return true
}
