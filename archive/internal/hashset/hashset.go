package hashset

// Set is a set of 64-bit hashes: 8 to 16 bytes a member, where a map of names would
// take ten times as much. Two names with one hash count as one. The hashes are of
// hash/maphash, with a seed that no archive can know, so that this happens once in 2^64
// pairs by accident and not by intent.
type Set struct {
	slots []uint64 // open addressing; 0 is free
	count int
}

func New() *Set { return &Set{slots: make([]uint64, 1<<10)} }

// Add puts h in and reports whether it was new.
func (s *Set) Add(h uint64) bool {
	if h == 0 {
		h = 1
	}
	if !s.put(h) {
		return false
	}
	if s.count++; s.count*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]uint64, 2*len(old))
		for _, h := range old {
			if h != 0 {
				s.put(h)
			}
		}
	}
	return true
}

// Has reports whether h is in.
func (s *Set) Has(h uint64) bool {
	if h == 0 {
		h = 1
	}
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == h {
			return true
		}
	}
	return false
}

func (s *Set) put(h uint64) bool {
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case h:
			return false
		case 0:
			s.slots[i] = h
			return true
		}
	}
}
