package idtools

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Range is a number of consecutive IDs of the host that a user may use for containers.
type Range struct {
	Start, Size uint32
}

// SubIDFiles tells where subordinate IDs are listed. The zero value means /etc/subuid and
// /etc/subgid. What sites keep in a directory service (subid in nsswitch.conf) isn't
// asked for: that takes a C library.
type SubIDFiles struct {
	SubUID, SubGID string
}

// maxSubIDFile bounds those files: more than 100,000 users fit.
const maxSubIDFile = 8 << 20

// UIDs returns the subordinate user IDs of a user, who is given by name or by number, as
// maps that give them to a container one after the other, the lowest first, from
// container ID 0 on. A user without any is errdefs.ErrNotFound; a line of the wrong form
// or with numbers that make no sense is errdefs.ErrInvalid and named by file and line.
func (f SubIDFiles) UIDs(name string) ([]Map, error) {
	return subordinate(cmp.Or(f.SubUID, "/etc/subuid"), name)
}

// GIDs is UIDs for group IDs. The file is sorted by users all the same.
func (f SubIDFiles) GIDs(name string) ([]Map, error) {
	return subordinate(cmp.Or(f.SubGID, "/etc/subgid"), name)
}

func subordinate(path, name string) ([]Map, error) {
	ranges, err := ReadRanges(path, name)
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 {
		return nil, errdefs.Missing{Kind: errdefs.SubIDs, Ref: name, Why: "no line in " + path}
	}
	maps := Consecutive(ranges)
	if err := ValidateMaps(maps); err != nil {
		return nil, fmt.Errorf("%s: ranges of user %q: %w", path, name, err)
	}
	return maps, nil
}

// Consecutive gives ranges to a container one after the other from ID 0 on, the lowest
// first.
func Consecutive(ranges []Range) []Map {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var maps []Map
	next := 0
	for _, r := range sorted {
		maps = append(maps, Map{ContainerID: next, HostID: int(r.Start), Size: int(r.Size)})
		next += int(r.Size)
	}
	return maps
}

// ReadRanges reads the ranges of a user from a file of the form of subuid(5). Lines say
// "name:start:size"; the name may be a number, and the user is found by either. A range
// that is listed twice counts once. A file that doesn't exist lists nobody.
func ReadRanges(path, name string) ([]Range, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if os.IsNotExist(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxSubIDFile {
		return nil, fmt.Errorf("%s: %w: not a regular file of at most %d bytes", path, errdefs.ErrInvalid, maxSubIDFile)
	}
	ids := aliases(name)
	var ranges []Range
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		r, mine, err := parseRange(lines.Text(), ids)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if mine && !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, errdefs.ErrInvalid, err)
	}
	return ranges, nil
}

// parseRange reads one line; mine reports whether it is about one of the names.
func parseRange(line string, names []string) (r Range, mine bool, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return Range{}, false, nil
	}
	fields := strings.Split(line, ":")
	if len(fields) != 3 {
		return Range{}, false, fmt.Errorf("%w: %q is not of the form name:start:size", errdefs.ErrInvalid, line)
	}
	if fields[0] == "" || !slices.Contains(names, fields[0]) {
		return Range{}, false, nil
	}
	start, err := ParseID(fields[1])
	if err != nil {
		return Range{}, false, err
	}
	size, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil || size == 0 || uint64(start)+size > maxID+1 {
		return Range{}, false, fmt.Errorf("%w: %q is not a size that fits IDs up to %d", errdefs.ErrInvalid, fields[2],
			uint32(maxID))
	}
	return Range{Start: start, Size: uint32(size)}, true, nil
}

// aliases returns a user's name and number, as far as /etc/passwd knows them.
func aliases(name string) []string {
	names := []string{name}
	if u, err := user.Lookup(name); err == nil {
		names = append(names, u.Uid)
	}
	if _, err := ParseID(name); err == nil {
		if u, err := user.LookupId(name); err == nil {
			names = append(names, u.Username)
		}
	}
	return names
}
