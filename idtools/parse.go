package idtools

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// ParseMaps reads ID maps as the command line gives them: container:host:size, several of
// them separated by commas, spaces or colons, or in arguments of their own. "" is no map
// at all. What is malformed or not sound (ValidateMaps) is errdefs.ErrInvalid.
func ParseMaps(specs ...string) ([]Map, error) {
	var maps []Map
	for _, spec := range specs {
		for word := range strings.FieldsFuncSeq(spec, func(r rune) bool {
			return r == ',' || r == ' ' || r == '\t' ||
				r == '\n'
		}) {
			fields := strings.Split(word, ":")
			if len(fields)%3 != 0 {
				return nil, fmt.Errorf("%w: ID map %q is not of the form container:host:size", errdefs.ErrInvalid, word)
			}
			for i := 0; i < len(fields); i += 3 {
				m, err := parseMap(fields[i : i+3])
				if err != nil {
					return nil, fmt.Errorf("ID map %q: %w", word, err)
				}
				maps = append(maps, m)
			}
		}
	}
	return maps, ValidateMaps(maps)
}

// parseMap reads the three numbers of a range.
func parseMap(fields []string) (Map, error) {
	var n [3]int
	for i, f := range fields {
		v, err := strconv.ParseUint(f, 10, 32)
		if err != nil || v > math.MaxInt {
			return Map{}, fmt.Errorf("%w: %q is not a number from 0 to 4294967295", errdefs.ErrInvalid, f)
		}
		n[i] = int(v)
	}
	return Map{ContainerID: n[0], HostID: n[1], Size: n[2]}, nil
}

// ParseProcMap reads the content of a /proc/PID/uid_map or gid_map: a range a line, three
// numbers each. The host's side is meant as the reader's namespace sees it.
func ParseProcMap(content string) ([]Map, error) {
	var maps []Map
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%w: line %q of an ID map has %d fields, not 3", errdefs.ErrInvalid, line,
				len(fields))
		}
		m, err := parseMap(fields)
		if err != nil {
			return nil, err
		}
		maps = append(maps, m)
	}
	return maps, ValidateMaps(maps)
}

// NamespaceMapping returns the mapping of the user namespace this process is in, towards
// its parent namespace.
func NamespaceMapping() (Mapping, error) {
	var m Mapping
	for _, f := range []struct {
		path string
		to   *[]Map
	}{{"/proc/self/uid_map", &m.UIDs}, {"/proc/self/gid_map", &m.GIDs}} {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return Mapping{}, err
		}
		if *f.to, err = ParseProcMap(string(data)); err != nil {
			return Mapping{}, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return m, nil
}

// ParseID reads a user or group ID. 4294967295 is not one: the kernel takes it for "no
// change" (setresuid(2)).
func ParseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id > maxID {
		return 0, fmt.Errorf("%w: %q is not an ID from 0 to %d", errdefs.ErrInvalid, s, uint32(maxID))
	}
	return uint32(id), nil
}

// maxID is the highest ID there is.
const maxID = 1<<32 - 2
