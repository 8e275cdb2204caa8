package tarstream

import (
	"strconv"
	"strings"
)

// PAX extended headers (POSIX.1-2001, pax(1)): records "length key=value\n" that amend
// the header which follows.

// Keys of records that concern us. Others are kept out of the way: they are in the
// tar-split file all the same.
const (
	paxXattrPrefix     = "SCHILY.xattr."
	paxSparseMajor     = "GNU.sparse.major"
	paxSparseMinor     = "GNU.sparse.minor"
	paxSparseName      = "GNU.sparse.name"
	paxSparseSize      = "GNU.sparse.size"
	paxSparseRealSize  = "GNU.sparse.realsize"
	paxSparseMap       = "GNU.sparse.map"
	paxSparseNumBlocks = "GNU.sparse.numblocks"
	paxSparseOffset    = "GNU.sparse.offset"
	paxSparseNumBytes  = "GNU.sparse.numbytes"
)

// paxRecords are the records of one extended header, in the order of their first
// appearance, so that what they do is the same each time.
type paxRecords struct {
	keys   []string
	values map[string]string
}

func (p *paxRecords) get(key string) string {
	if p == nil {
		return ""
	}
	return p.values[key]
}

// parsePAX reads the records of an extended header. Any malformed record makes the whole
// archive invalid: a reader that skips one sees other files than a reader that doesn't
// (CVE-2025-62518).
func parsePAX(data string) (*paxRecords, error) {
	p := &paxRecords{values: make(map[string]string)}
	// Sparse format 0.0 repeats two keys for each extent; they become the one record of
	// format 0.1.
	var sparse []string
	for len(data) > 0 {
		key, value, rest, ok := cutPAXRecord(data)
		if !ok {
			return nil, errHeader
		}
		data = rest
		if key == paxSparseOffset || key == paxSparseNumBytes {
			wantOffset := len(sparse)%2 == 0
			if wantOffset != (key == paxSparseOffset) || strings.Contains(value, ",") {
				return nil, errHeader
			}
			sparse = append(sparse, value)
			continue
		}
		if _, again := p.values[key]; !again {
			p.keys = append(p.keys, key)
		}
		p.values[key] = value
	}
	if len(sparse) > 0 {
		p.values[paxSparseMap] = strings.Join(sparse, ",")
	}
	return p, nil
}

// cutPAXRecord takes the first record off data.
func cutPAXRecord(data string) (key, value, rest string, ok bool) {
	digits, _, found := strings.Cut(data, " ")
	if !found {
		return "", "", "", false
	}
	n, err := strconv.ParseInt(digits, 10, 0)
	if err != nil || n < 5 || n > int64(len(data)) || int(n) <= len(digits)+1 || data[n-1] != '\n' {
		return "", "", "", false
	}
	key, value, found = strings.Cut(data[len(digits)+1:n-1], "=")
	if !found || key == "" || strings.IndexByte(key, 0) >= 0 {
		return "", "", "", false
	}
	switch key {
	case "path", "linkpath", "uname", "gname":
		if strings.IndexByte(value, 0) >= 0 {
			return "", "", "", false
		}
	}
	return key, value, data[n:], true
}

// apply lets the records amend h. An empty value leaves the field as it was (pax(1)), but
// an extended attribute may well be empty: GNU tar and bsdtar write and restore such
// attributes, which archive/tar loses.
func (p *paxRecords) apply(h *Header) error {
	if p == nil {
		return nil
	}
	for _, key := range p.keys {
		value := p.values[key]
		if name, ok := strings.CutPrefix(key, paxXattrPrefix); ok {
			h.Xattrs = append(h.Xattrs, Xattr{Name: name, Value: value})
			continue
		}
		if value == "" {
			continue
		}
		var err error
		switch key {
		case "path":
			h.Name = value
		case "linkpath":
			h.Link = value
		case "uid":
			h.Uid, err = strconv.ParseInt(value, 10, 64)
		case "gid":
			h.Gid, err = strconv.ParseInt(value, 10, 64)
		case "size":
			h.Size, err = strconv.ParseInt(value, 10, 64)
		case "mtime":
			h.Mtime, err = parsePAXTime(value)
		case "atime":
			h.HasAtime = true
			h.Atime, err = parsePAXTime(value)
		case "ctime":
			_, err = parsePAXTime(value)
		}
		if err != nil {
			return errHeader
		}
	}
	return nil
}

// parsePAXTime reads seconds with an optional fraction; digits after the ninth are cut
// off.
func parsePAXTime(s string) (Timestamp, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return Timestamp{}, errHeader
	}
	var nsec int64
	for i := range 9 {
		digit := byte('0')
		if i < len(fraction) {
			digit = fraction[i]
		}
		nsec = nsec*10 + int64(digit-'0')
	}
	for _, c := range []byte(fraction) {
		if c < '0' || c > '9' {
			return Timestamp{}, errHeader
		}
	}
	// "-1.25" is a second and a quarter before 1970: two seconds before it, and three
	// quarters forward.
	if whole[0] == '-' && nsec > 0 {
		return Timestamp{Sec: sec - 1, Nsec: 1e9 - nsec}, nil
	}
	return Timestamp{Sec: sec, Nsec: nsec}, nil
}
