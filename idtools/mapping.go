package idtools

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
)

// Map is one contiguous range of an ID map, as a line of /proc/self/uid_map gives it
// (user_namespaces(7)). Its JSON form is that of containers/storage's records.
type Map struct {
	ContainerID int `json:"container_id"` // first ID inside the container
	HostID      int `json:"host_id"`      // the host ID it stands for
	Size        int `json:"size"`         // how many consecutive IDs the range has; never less than 1
}

// String is the map in the form of --uidmap: container:host:size.
func (m Map) String() string { return fmt.Sprintf("%d:%d:%d", m.ContainerID, m.HostID, m.Size) }

// Mapping translates the IDs of a container into those of the host and back. The zero
// value is the identity, and a side without maps is the identity for that side. A Mapping
// is immutable once made, so that it can be shared between goroutines.
type Mapping struct {
	UIDs []Map
	GIDs []Map
}

// IsIdentity reports whether m maps every ID to itself.
func (m Mapping) IsIdentity() bool { return len(m.UIDs) == 0 && len(m.GIDs) == 0 }

// ToHost returns the host's IDs for a container's user and group. An ID without a mapping
// is errdefs.ErrInvalid.
func (m Mapping) ToHost(uid, gid uint32) (hostUID, hostGID uint32, err error) {
	if hostUID, err = toHost(m.UIDs, "user", uid); err != nil {
		return 0, 0, err
	}
	hostGID, err = toHost(m.GIDs, "group", gid)
	return hostUID, hostGID, err
}

// ToContainer returns the container's IDs for a user and a group of the host. An ID
// without a mapping is errdefs.ErrInvalid.
func (m Mapping) ToContainer(hostUID, hostGID uint32) (uid, gid uint32, err error) {
	if uid, err = toContainer(m.UIDs, "user", hostUID); err != nil {
		return 0, 0, err
	}
	gid, err = toContainer(m.GIDs, "group", hostGID)
	return uid, gid, err
}

// RootPair returns the host's IDs for the container's root. A map of a single ID gives
// that ID, whatever it is called inside, as containers/storage has it. An unmapped root
// is errdefs.ErrInvalid.
func (m Mapping) RootPair() (uid, gid uint32, err error) {
	if uid, err = rootOf(m.UIDs, "user"); err != nil {
		return 0, 0, err
	}
	gid, err = rootOf(m.GIDs, "group")
	return uid, gid, err
}

func rootOf(maps []Map, what string) (uint32, error) {
	if len(maps) == 1 && maps[0].Size == 1 && maps[0].HostID >= 0 && int64(maps[0].HostID) <= maxID {
		return uint32(maps[0].HostID), nil
	}
	return toHost(maps, what, 0)
}

func toHost(maps []Map, what string, id uint32) (uint32, error) {
	if len(maps) == 0 {
		return id, nil
	}
	for _, m := range maps {
		if to, ok := shift(id, m.ContainerID, m.HostID, m.Size); ok {
			return to, nil
		}
	}
	return 0, fmt.Errorf("%w: container %s ID %d is not mapped to the host", errdefs.ErrInvalid, what, id)
}

func toContainer(maps []Map, what string, id uint32) (uint32, error) {
	if len(maps) == 0 {
		return id, nil
	}
	for _, m := range maps {
		if to, ok := shift(id, m.HostID, m.ContainerID, m.Size); ok {
			return to, nil
		}
	}
	return 0, fmt.Errorf("%w: host %s ID %d is not mapped into the container", errdefs.ErrInvalid, what, id)
}

// shift translates id from a range at from into one at to. Maps come from records that
// others wrote too, so nothing is taken for granted about their numbers.
func shift(id uint32, from, to, size int) (uint32, bool) {
	offset := int64(id) - int64(from)
	if from < 0 || to < 0 || offset < 0 || offset >= int64(size) || int64(to) > maxID-offset {
		return 0, false
	}
	return uint32(int64(to) + offset), true
}

// Equal reports whether both map every ID alike, in whatever order and pieces their
// ranges are. Maps that are not sound are equal only if they are the same.
func (m Mapping) Equal(o Mapping) bool {
	if m.Validate() != nil || o.Validate() != nil {
		return slices.Equal(m.UIDs, o.UIDs) && slices.Equal(m.GIDs, o.GIDs)
	}
	return slices.Equal(normal(m.UIDs), normal(o.UIDs)) && slices.Equal(normal(m.GIDs), normal(o.GIDs))
}

// normal sorts maps and joins those that continue each other on both sides.
func normal(maps []Map) []Map {
	maps = slices.SortedFunc(slices.Values(maps), func(a, b Map) int {
		return cmp.Compare(a.ContainerID, b.ContainerID)
	})
	out := maps[:0]
	for _, m := range maps {
		if n := len(out); n > 0 && out[n-1].ContainerID+out[n-1].Size == m.ContainerID && out[n-1].HostID+
			out[n-1].Size == m.HostID {
			out[n-1].Size += m.Size
			continue
		}
		out = append(out, m)
	}
	return out
}

// IsOneRange reports whether both users and groups are mapped in one piece, of however
// many lines.
func (m Mapping) IsOneRange() bool { return len(normal(m.UIDs)) == 1 && len(normal(m.GIDs)) == 1 }

// Validate returns errdefs.ErrInvalid unless both sides are sound: see ValidateMaps.
func (m Mapping) Validate() error {
	if err := ValidateMaps(m.UIDs); err != nil {
		return fmt.Errorf("user ID map: %w", err)
	}
	if err := ValidateMaps(m.GIDs); err != nil {
		return fmt.Errorf("group ID map: %w", err)
	}
	return nil
}

// ValidateMaps returns errdefs.ErrInvalid when a range is empty, leaves the IDs from 0 to
// 2^32-2, or overlaps another one, inside or outside. The kernel refuses such maps as
// well (map_write in kernel/user_namespace.c).
func ValidateMaps(maps []Map) error {
	for _, m := range maps {
		if m.Size < 1 || m.ContainerID < 0 || m.HostID < 0 ||
			int64(m.Size) > maxID+1-int64(m.ContainerID) || int64(m.Size) > maxID+1-int64(m.HostID) {
			return fmt.Errorf("%w: range %s leaves the IDs from 0 to %d or has none", errdefs.ErrInvalid, m,
				uint32(maxID))
		}
	}
	for _, side := range []struct {
		name  string
		first func(Map) int
	}{
		{"container", func(m Map) int { return m.ContainerID }},
		{"host", func(m Map) int { return m.HostID }},
	} {
		sorted := slices.SortedFunc(slices.Values(maps),
			func(a, b Map) int { return cmp.Compare(side.first(a), side.first(b)) })
		for i := 1; i < len(sorted); i++ {
			if int64(side.first(sorted[i-1]))+int64(sorted[i-1].Size) > int64(side.first(sorted[i])) {
				return fmt.Errorf("%w: ranges %s and %s have %s IDs in common", errdefs.ErrInvalid, sorted[i-1],
					sorted[i], side.name)
			}
		}
	}
	return nil
}
