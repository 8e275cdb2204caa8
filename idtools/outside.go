package idtools

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// OutsideMap says that files can't have an owner in this user namespace, because it has
// too few IDs. It is errdefs.ErrUnsupported.
type OutsideMap struct {
	UID, GID uint32
	// Map is that of the namespace.
	Map Mapping
	// SubIDs tells where the user's subordinate IDs are listed.
	SubIDs SubIDFiles
}

// ExplainOwner returns OutsideMap in place of err, the kernel's answer to who would give
// a file this owner, where that is the reason, and else err.
func ExplainOwner(uid, gid uint32, err error) error {
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	m, merr := NamespaceMapping()
	if merr != nil {
		return err
	}
	if _, _, merr = m.ToHost(uid, gid); merr == nil {
		return err
	}
	return OutsideMap{UID: uid, GID: gid, Map: m}
}

func (e OutsideMap) Error() string {
	var missing []string
	if _, err := toHost(e.Map.UIDs, "user", e.UID); err != nil {
		missing = append(missing, fmt.Sprintf("user ID %d isn't among those of this user namespace, %s", e.UID,
			ranges(e.Map.UIDs)))
	}
	if _, err := toHost(e.Map.GIDs, "group", e.GID); err != nil {
		missing = append(missing, fmt.Sprintf("group ID %d isn't among those of this user namespace, %s", e.GID,
			ranges(e.Map.GIDs)))
	}
	return fmt.Sprintf("%v: %s", errdefs.ErrUnsupported, strings.Join(missing, "; "))
}

// Is makes it an ErrUnsupported, and what the kernel said.
func (e OutsideMap) Is(target error) bool {
	return target == errdefs.ErrUnsupported || target == unix.EINVAL
}

// Cure is the command by which root gives the user as many subordinate IDs as it takes;
// "" where there aren't so many.
func (e OutsideMap) Cure() string {
	if len(e.Map.UIDs) == 0 {
		return ""
	}
	name := strconv.Itoa(e.Map.UIDs[0].HostID)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	uids, okU := e.more("subuids", e.SubIDs.subUID(), e.Map.UIDs, e.UID)
	gids, okG := e.more("subgids", e.SubIDs.subGID(), e.Map.GIDs, e.GID)
	if !okU || !okG {
		return ""
	}
	return "usermod" + uids + gids + " " + name
}

// more is the flag of usermod(8) for the IDs that a map lacks up to this one: a range
// behind all that a file has given away.
func (e OutsideMap) more(flag, path string, maps []Map, id uint32) (string, bool) {
	next, first := int64(0), int64(100_000) // where useradd(8) begins
	for _, m := range maps {
		next = max(next, int64(m.ContainerID)+int64(m.Size))
	}
	if int64(id) < next {
		return "", true
	}
	data, _ := os.ReadFile(path) // one that isn't there has given nothing away
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if r, _, err := parseRange(line, fields[:1]); err == nil {
			first = max(first, int64(r.Start)+int64(r.Size))
		}
	}
	last := first + int64(id) - next
	return fmt.Sprintf(" --add-%s %d-%d", flag, first, last), last <= maxID
}

// ranges are the container's IDs in maps, for people.
func ranges(maps []Map) string {
	same := make([]Map, len(maps)) // so that what continues inside is joined
	for i, m := range maps {
		same[i] = Map{ContainerID: m.ContainerID, HostID: m.ContainerID, Size: m.Size}
	}
	var list []string
	for _, m := range normal(same) {
		if m.Size == 1 {
			list = append(list, strconv.Itoa(m.ContainerID))
			continue
		}
		list = append(list, fmt.Sprintf("%d-%d", m.ContainerID, m.ContainerID+m.Size-1))
	}
	return strings.Join(list, ", ")
}
