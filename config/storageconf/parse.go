package storageconf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/shalestore/shale/errdefs"
)

// entry is one key of one file with its value, which has the kind of its key.
type entry struct {
	key    key
	text   string // also numbers in decimal, and "true" or "false"
	list   []string
	append *bool // {append=…} within the list; nil when it isn't there
	origin Origin
}

// parse reads one file of the storage.conf grammar. Keys that nobody knows become
// warnings.
func parse(name string, data []byte) ([]entry, []Warning, error) {
	// The decoder checks the document as a whole (no key twice, no table within a value);
	// the parser below it then tells the lines, which the decoder keeps to itself unless
	// something is wrong.
	var whole map[string]any
	if err := toml.Unmarshal(data, &whole); err != nil {
		at := Origin{File: name}
		if bad := (*toml.DecodeError)(nil); errors.As(err, &bad) {
			at.Line, _ = bad.Position()
		}
		return nil, nil, fmt.Errorf("%s: %w: %w", at, errdefs.ErrInvalid, err)
	}
	p := fileParser{name: name, data: data, line: 1, known: map[string]key{}, tables: map[string]bool{},
		seen: map[string]Origin{}}
	for _, k := range keys() {
		p.known[k.name] = k
		for i, c := range k.name {
			if c == '.' {
				p.tables[k.name[:i]] = true
			}
		}
	}
	return p.entries, p.warnings, p.run()
}

// fileParser walks over a document that is known to be sound TOML.
type fileParser struct {
	name     string
	data     []byte
	known    map[string]key
	tables   map[string]bool
	seen     map[string]Origin // known keys, which may be spelled in either case
	entries  []entry
	warnings []Warning

	line, offset int // the line of the last place asked for: places are asked for in order
}

func (p *fileParser) run() error {
	parser := unstable.Parser{}
	parser.Reset(p.data)
	var table []string
	skip := false // within a table that nobody knows, which was warned of as a whole
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			names, at := p.path(e.Key())
			table, skip = names, false
			dotted := join(table)
			if k, ok := p.known[dotted]; ok {
				return wrong(at, dotted, "must be %s, not a table", k.kind)
			}
			if !p.tables[dotted] {
				if skip = true; !isForeign(dotted) {
					p.warn(at, "unknown table [%s]", strings.Join(names, "."))
				}
			} else if e.Kind == unstable.ArrayTable {
				return wrong(at, dotted, "must be a table, not an array of tables")
			}
		case unstable.KeyValue:
			if skip {
				continue
			}
			if err := p.keyValue(table, e); err != nil {
				return err
			}
		}
	}
	if err := parser.Error(); err != nil {
		return fmt.Errorf("%s: %w: %w", p.name, errdefs.ErrInvalid, err)
	}
	return nil
}

// keyValue takes one "key = value" of a table; the keys of an inline table are taken one
// by one.
func (p *fileParser) keyValue(table []string, n *unstable.Node) error {
	names, at := p.path(n.Key())
	full := append(append([]string(nil), table...), names...)
	dotted, value := join(full), n.Value()
	if p.tables[dotted] {
		if value.Kind != unstable.InlineTable {
			return wrong(at, dotted, "must be a table, not %s", describe(value.Kind))
		}
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				if err := p.keyValue(full, it.Node()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	k, ok := p.known[dotted]
	if !ok {
		if !isForeign(dotted) {
			p.warn(at, "unknown key %s", strings.Join(full, "."))
		}
		return nil
	}
	if first, twice := p.seen[k.name]; twice {
		return wrong(at, k.name, "set already on line %d", first.Line)
	}
	p.seen[k.name] = at
	e := entry{key: k, origin: at}
	if err := e.take(value); err != nil {
		return err
	}
	if k.unused != "" {
		p.warn(at, "%s has no effect: %s", k.name, k.unused)
	}
	p.entries = append(p.entries, e)
	return nil
}

// take gives e the value, if its kind is that of the key.
func (e *entry) take(value *unstable.Node) error {
	mismatch := func() error {
		return wrong(e.origin, e.key.name, "must be %s, not %s", e.key.kind, describe(value.Kind))
	}
	switch e.key.kind {
	case text:
		if value.Kind != unstable.String {
			return mismatch()
		}
		e.text = string(value.Data)
		if strings.ContainsRune(e.text, 0) {
			return wrong(e.origin, e.key.name, "holds a NUL byte")
		}
	case boolean:
		if value.Kind != unstable.Bool {
			return mismatch()
		}
		e.text = string(value.Data)
	case integer:
		if value.Kind != unstable.Integer {
			return mismatch()
		}
		// Base 0 knows TOML's underscores and its prefixes 0x, 0o and 0b.
		n, err := strconv.ParseUint(strings.TrimPrefix(string(value.Data), "+"), 0, 32)
		if err != nil {
			return wrong(e.origin, e.key.name, "%s is not a whole number from 0 to 4294967295", value.Data)
		}
		e.text = strconv.FormatUint(n, 10)
	case list:
		if value.Kind != unstable.Array {
			return mismatch()
		}
		return e.takeList(value)
	}
	return nil
}

// takeList reads an array of strings. An inline table {append=true} anywhere in it makes
// the array add to what weaker files said.
func (e *entry) takeList(array *unstable.Node) error {
	e.list = []string{}
	for it := array.Children(); it.Next(); {
		switch n := it.Node(); n.Kind {
		case unstable.String:
			if bytes.IndexByte(n.Data, 0) >= 0 {
				return wrong(e.origin, e.key.name, "holds a NUL byte")
			}
			e.list = append(e.list, string(n.Data))
		case unstable.InlineTable:
			for kv := n.Children(); kv.Next(); {
				if kv.Node().Kind != unstable.KeyValue {
					continue
				}
				names, value := kv.Node().Key(), kv.Node().Value()
				if names.Next(); string(names.Node().Data) != "append" || !names.IsLast() ||
					value.Kind != unstable.Bool {
					return wrong(e.origin, e.key.name, "the only table in an array is {append=true} or {append=false}")
				}
				yes := string(value.Data) == "true"
				e.append = &yes
			}
		case unstable.Comment:
		default:
			return wrong(e.origin, e.key.name, "must be %s, not %s in it", e.key.kind, describe(n.Kind))
		}
	}
	return nil
}

// path returns a dotted key's parts and where the first one stands.
func (p *fileParser) path(it unstable.Iterator) ([]string, Origin) {
	var names []string
	at := Origin{File: p.name, Line: p.line}
	for it.Next() {
		if names == nil {
			at.Line = p.lineOf(int(it.Node().Raw.Offset))
		}
		names = append(names, string(it.Node().Data))
	}
	return names, at
}

// lineOf counts lines from where it was asked last, so that a whole file is counted once.
func (p *fileParser) lineOf(offset int) int {
	if offset < p.offset {
		p.line, p.offset = 1, 0
	}
	p.line += bytes.Count(p.data[p.offset:offset], []byte{'\n'})
	p.offset = offset
	return p.line
}

func (p *fileParser) warn(at Origin, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{Origin: at, Text: fmt.Sprintf(format, args...)})
}

// join is a dotted key as keys has it. Like containers-storage we don't tell upper from
// lower case. A part that holds a dot of its own can't be part of any key we know, and
// must not look like one.
func join(names []string) string {
	for _, n := range names {
		if strings.Contains(n, ".") {
			return ""
		}
	}
	return strings.ToLower(strings.Join(names, "."))
}

// isForeign reports whether a key or table belongs to a driver that Shale doesn't have:
// distributions ship files with their tables, and nobody has to do anything about that.
func isForeign(dotted string) bool {
	rest, _ := strings.CutPrefix(dotted, "storage.options.")
	driver, _, _ := strings.Cut(rest, ".")
	return slices.Contains([]string{"aufs", "btrfs", "devicemapper", "thinpool", "zfs"}, driver)
}

// describe names a kind of TOML value as a person would.
func describe(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "a string"
	case unstable.Bool:
		return "a boolean"
	case unstable.Integer:
		return "a number"
	case unstable.Float:
		return "a fraction"
	case unstable.Array:
		return "an array"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}
