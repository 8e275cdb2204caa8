package idtools

import (
	"errors"
	"fmt"
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
