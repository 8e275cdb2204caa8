package userns

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/shalestore/shale/idtools"
)

// Usermod is the command by which root gives the user as many subordinate IDs as an owner
// takes that is outside of the map; "" where there aren't so many.
func Usermod(e idtools.OutsideMap, files idtools.SubIDFiles) string {
	if len(e.Map.UIDs) == 0 {
		return ""
	}
	name := strconv.Itoa(e.Map.UIDs[0].HostID)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	uids, okU := moreIDs("subuids", cmp.Or(files.SubUID, "/etc/subuid"), e.Map.UIDs, e.UID)
	gids, okG := moreIDs("subgids", cmp.Or(files.SubGID, "/etc/subgid"), e.Map.GIDs, e.GID)
	if !okU || !okG {
		return ""
	}
	return "usermod" + uids + gids + " " + name
}

// moreIDs is the flag of usermod(8) for the IDs that a map lacks up to this one: a range
// behind all that a file has given away.
func moreIDs(flag, path string, maps []idtools.Map, id uint32) (string, bool) {
	next, first := int64(0), int64(100_000) // where useradd(8) begins
	for _, m := range maps {
		next = max(next, int64(m.ContainerID)+int64(m.Size))
	}
	if int64(id) < next {
		return "", true
	}
	data, _ := os.ReadFile(path) // one that isn't there has given nothing away
	for line := range strings.Lines(string(data)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) == 3 {
			start, serr := strconv.ParseUint(fields[1], 10, 32)
			size, err := strconv.ParseUint(fields[2], 10, 32)
			if serr == nil && err == nil {
				first = max(first, int64(start+size))
			}
		}
	}
	last := first + int64(id) - next
	return fmt.Sprintf(" --add-%s %d-%d", flag, first, last), last < 1<<32-1
}
