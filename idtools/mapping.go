package idtools

// Map is one contiguous range of an ID map, as a line of /proc/self/uid_map gives it (user_namespaces(7)).
// Its JSON form is that of containers/storage's records.
type Map struct {
	ContainerID int `json:"container_id"` // first ID inside the container
	HostID      int `json:"host_id"`      // the host ID it stands for
	Size        int `json:"size"`         // how many consecutive IDs the range has; never less than 1
}

// Mapping translates the IDs of a container into those of the host and back. The zero value is the identity.
// A Mapping is immutable once made, so that it can be shared between goroutines.
type Mapping struct {
	UIDs []Map
	GIDs []Map
}

// IsIdentity reports whether m maps every ID to itself.
func (m Mapping) IsIdentity() bool { return len(m.UIDs) == 0 && len(m.GIDs) == 0 }
