package idtools

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
)

// Table is a Mapping made ready to translate many IDs: a lookup takes time in the
// logarithm of the number of ranges, of which the kernel allows 340 a side. It is
// immutable and can be shared between goroutines. The zero value is the identity.
type Table struct {
	uids, gids sides
}

// sides are one kind's maps, sorted for each direction.
type sides struct {
	byContainer, byHost []Map
}

// Table returns m as a Table, or errdefs.ErrInvalid when m is not sound.
func (m Mapping) Table() (Table, error) {
	if err := m.Validate(); err != nil {
		return Table{}, err
	}
	return Table{uids: sortSides(m.UIDs), gids: sortSides(m.GIDs)}, nil
}

func sortSides(maps []Map) sides {
	inside, outside := slices.Clone(maps), slices.Clone(maps)
	slices.SortFunc(inside, func(a, b Map) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	slices.SortFunc(outside, func(a, b Map) int { return cmp.Compare(a.HostID, b.HostID) })
	return sides{byContainer: inside, byHost: outside}
}

// ToHost is Mapping.ToHost.
func (t Table) ToHost(uid, gid uint32) (hostUID, hostGID uint32, err error) {
	if hostUID, err = t.uids.toHost("user", uid); err != nil {
		return 0, 0, err
	}
	hostGID, err = t.gids.toHost("group", gid)
	return hostUID, hostGID, err
}

// ToContainer is Mapping.ToContainer.
func (t Table) ToContainer(hostUID, hostGID uint32) (uid, gid uint32, err error) {
	if uid, err = t.uids.toContainer("user", hostUID); err != nil {
		return 0, 0, err
	}
	gid, err = t.gids.toContainer("group", hostGID)
	return uid, gid, err
}

func (s sides) toHost(what string, id uint32) (uint32, error) {
	return find(s.byContainer, func(m Map) int { return m.ContainerID }, what, id, toHost)
}

func (s sides) toContainer(what string, id uint32) (uint32, error) {
	return find(s.byHost, func(m Map) int { return m.HostID }, what, id, toContainer)
}

// find translates id by the last map that starts at or before it, the only one that can
// hold it.
func find(maps []Map, first func(Map) int, what string, id uint32,
	translate func([]Map, string, uint32) (uint32, error)) (uint32, error) {
	if len(maps) == 0 {
		return id, nil
	}
	i, found := slices.BinarySearchFunc(maps, id, func(m Map, id uint32) int {
		return cmp.Compare(int64(first(m)),
			int64(id))
	})
	if !found {
		i--
	}
	if i < 0 {
		return 0, fmt.Errorf("%w: %s ID %d is below every mapped range", errdefs.ErrInvalid, what, id)
	}
	return translate(maps[i:i+1], what, id)
}
