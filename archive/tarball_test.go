package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// member is one member of a tar as the tests write it: with any name, any number and any
// nonsense, which archive/tar's writer refuses.
type member struct {
	name string
	typ  byte // 0 means a regular file, or a directory when the name ends in a slash
	link string
	body string
	mode int64 // 0 means 0644, or 0755 for a directory
	uid  int64
	gid  int64
	time int64    // 0 means 1700000000
	dev  [2]int64 // device numbers
	pax  [][2]string
	gnu  bool   // a GNU header, in place of a ustar one
	size string // when not empty: what the size field says, digits or "256:" and a number in base 256
	raw  []byte // when not nil: these bytes in place of everything
	edit func(block []byte)
}

// tarball puts members together and ends them as tar does.
func tarball(members ...member) []byte {
	return append(joined(members...), make([]byte, 1024)...)
}

// joined is tarball without the end marker.
func joined(members ...member) []byte {
	var b bytes.Buffer
	for _, m := range members {
		m.write(&b)
	}
	return b.Bytes()
}

func (m member) write(b *bytes.Buffer) {
	if m.raw != nil {
		b.Write(m.raw)
		return
	}
	if m.typ == 0 {
		m.typ = tar.TypeReg
		if strings.HasSuffix(m.name, "/") {
			m.typ = tar.TypeDir
		}
	}
	if len(m.name) > 100 && !m.gnu {
		m.pax = append(m.pax, [2]string{"path", m.name})
		m.name = m.name[:100]
	}
	if len(m.link) > 100 && !m.gnu {
		m.pax = append(m.pax, [2]string{"linkpath", m.link})
		m.link = m.link[:100]
	}
	if len(m.pax) > 0 {
		var records strings.Builder
		for _, r := range m.pax {
			records.WriteString(paxRecord(r[0], r[1]))
		}
		member{name: "PaxHeaders/x", typ: tar.TypeXHeader, body: records.String()}.write(b)
	}
	for _, long := range []struct {
		typ   byte
		value *string
	}{{tar.TypeGNULongName, &m.name}, {tar.TypeGNULongLink, &m.link}} {
		if m.gnu && len(*long.value) > 100 {
			member{name: "././@LongLink", typ: long.typ, body: *long.value + "\x00", gnu: true}.write(b)
			*long.value = (*long.value)[:100]
		}
	}
	block := make([]byte, 512)
	copy(block, m.name)
	mode := m.mode
	if mode == 0 {
		mode = 0o644
		if m.typ == tar.TypeDir {
			mode = 0o755
		}
	}
	number(block[100:108], mode)
	number(block[108:116], m.uid)
	number(block[116:124], m.gid)
	number(block[124:136], int64(len(m.body)))
	switch {
	case strings.HasPrefix(m.size, "256:"):
		base256(block[124:136], m.size[4:])
	case m.size != "":
		clear(block[124:136])
		copy(block[124:136], m.size)
	}
	if m.time == 0 {
		m.time = 1700000000
	}
	number(block[136:148], m.time)
	block[156] = m.typ
	copy(block[157:257], m.link)
	copy(block[257:], "ustar\x0000")
	if m.gnu {
		copy(block[257:], "ustar  \x00")
	}
	number(block[329:337], m.dev[0])
	number(block[337:345], m.dev[1])
	if m.edit != nil {
		m.edit(block)
	}
	checksum(block)
	b.Write(block)
	b.WriteString(m.body)
	b.Write(make([]byte, -len(m.body)&511))
}

func checksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// number writes a field in octal or, when that doesn't do, in base 256.
func number(field []byte, n int64) {
	if s := strconv.FormatInt(n, 8); n >= 0 && len(s) < len(field) {
		copy(field, strings.Repeat("0", len(field)-1-len(s))+s)
		field[len(field)-1] = 0
		return
	}
	base256(field, strconv.FormatInt(n, 10))
}

// base256 writes a field as GNU does: two's complement, the first bit set.
func base256(field []byte, decimal string) {
	n, _ := new(big.Int).SetString(decimal, 10)
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(field))))
	}
	n.FillBytes(field)
	field[0] |= 0x80
}

func paxRecord(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for len(strconv.Itoa(n))+len(rest) != n {
		n = len(strconv.Itoa(n)) + len(rest)
	}
	return strconv.Itoa(n) + rest
}
