package idtools_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
)

func TestParseMaps(t *testing.T) {
	for _, tt := range []struct {
		in   []string
		want []idtools.Map // nil with ok false is an error
		ok   bool
	}{
		{in: nil, ok: true},
		{in: []string{""}, ok: true},
		{in: []string{"0:100000:65536"}, want: []idtools.Map{{0, 100000, 65536}}, ok: true},
		{in: []string{"0:1000:1:1:100000:65536"}, want: []idtools.Map{{0, 1000, 1}, {1, 100000, 65536}}, ok: true},
		{in: []string{"0:1000:1,1:100000:65536"}, want: []idtools.Map{{0, 1000, 1}, {1, 100000, 65536}}, ok: true},
		{in: []string{"0:1000:1 1:100000:65536"}, want: []idtools.Map{{0, 1000, 1}, {1, 100000, 65536}}, ok: true},
		{in: []string{"0:1000:1", "1:100000:65536"}, want: []idtools.Map{{0, 1000, 1}, {1, 100000, 65536}}, ok: true},
		{in: []string{"0:0:4294967295"}, want: []idtools.Map{{0, 0, math.MaxUint32}}, ok: true},
		{in: []string{"4294967294:0:1"}, want: []idtools.Map{{4294967294, 0, 1}}, ok: true},
		{in: []string{"2147483648:2147483648:1"}, want: []idtools.Map{{1 << 31, 1 << 31, 1}}, ok: true},
		{in: []string{"0:0:0"}},
		{in: []string{"0:0"}},
		{in: []string{"0:0:1:2"}},
		{in: []string{"a:0:1"}},
		{in: []string{"0::1"}},
		{in: []string{"0:-1:1"}},
		{in: []string{"-1:0:1"}},
		{in: []string{"0:0:-1"}},
		{in: []string{"+0:0:1"}},
		{in: []string{"0x0:0:1"}},
		{in: []string{"4294967295:0:1"}},
		{in: []string{"0:4294967295:1"}},
		{in: []string{"0:0:4294967296"}},
		{in: []string{"1:0:4294967295"}},
		{in: []string{"0:1:4294967295"}},
		{in: []string{"0:9223372036854775808:1"}},
		{in: []string{"0:18446744073709551616:1"}},
		{in: []string{"0:0:10,9:100:10"}},
		{in: []string{"0:100:10,20:109:10"}},
		{in: []string{"0:100:10,0:100:10"}},
	} {
		got, err := idtools.ParseMaps(tt.in...)
		if tt.ok != (err == nil) {
			t.Errorf("%q: error %v", tt.in, err)
			continue
		}
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%q: %v is not ErrInvalid", tt.in, err)
			}
			continue
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%q gives %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestParseProcMap(t *testing.T) {
	got, err := idtools.ParseProcMap("         0       1000          1\n         1     100000      65536\n")
	if want := []idtools.Map{{0, 1000, 1}, {1, 100000, 65536}}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"0 0\n", "0 0 0 0\n", "x 0 1\n", "\n", "0 0 1\n0 5 1\n"} {
		if got, err := idtools.ParseProcMap(bad); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q gives %v, %v", bad, got, err)
		}
	}
}

// The two ways to translate agree with each other and undo each other, at the ends of
// every range and beside them.
func TestTranslation(t *testing.T) {
	m := idtools.Mapping{
		UIDs: []idtools.Map{{1, 100000, 65536}, {0, 1000, 1}, {100000, 4294967290, 5}},
		GIDs: []idtools.Map{{0, 0, math.MaxUint32}},
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		inside, outside uint32
		ok              bool
	}{
		{0, 1000, true},
		{1, 100000, true},
		{65536, 165535, true},
		{65537, 0, false},
		{99999, 0, false},
		{100000, 4294967290, true},
		{100004, 4294967294, true},
		{100005, 0, false},
		{math.MaxUint32, 0, false},
	} {
		const gid = 4294967294
		uid, g, err := m.ToHost(tt.inside, gid)
		if (err == nil) != tt.ok || tt.ok && (uid != tt.outside || g != gid) {
			t.Errorf("ToHost(%d) gives %d:%d, %v", tt.inside, uid, g, err)
		}
		if err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("ToHost(%d): %v is not ErrInvalid", tt.inside, err)
		}
		if !tt.ok {
			continue
		}
		if uid, g, err := m.ToContainer(tt.outside, gid); err != nil || uid != tt.inside || g != gid {
			t.Errorf("ToContainer(%d) gives %d:%d, %v", tt.outside, uid, g, err)
		}
	}
	if _, _, err := m.ToContainer(165536, 0); err == nil {
		t.Error("an ID behind the range was translated")
	}
	if uid, gid, err := m.RootPair(); uid != 1000 || gid != 0 || err != nil {
		t.Errorf("root is %d:%d, %v", uid, gid, err)
	}
}

// With many ranges each ID is found in its own, and none between them.
func TestManyRanges(t *testing.T) {
	var m idtools.Mapping
	host := map[uint32]uint32{}
	for i, r := range rand.New(rand.NewPCG(1, 2)).Perm(340) {
		m.UIDs = append(m.UIDs, idtools.Map{ContainerID: i * 20, HostID: 1000 + r*20, Size: 15})
		for n := range 15 {
			host[uint32(i*20+n)] = uint32(1000 + r*20 + n)
		}
	}
	for id := range uint32(340*20 + 2000) {
		want, mapped := host[id]
		got, _, err := m.ToHost(id, 0)
		if (err == nil) != mapped || got != want {
			t.Fatalf("ToHost(%d): %d, %v, want %d", id, got, err, want)
		}
		if !mapped {
			continue
		}
		if back, _, err := m.ToContainer(want, 0); back != id || err != nil {
			t.Fatalf("ToContainer(%d): %d, %v, want %d", want, back, err, id)
		}
	}
}

func TestIdentity(t *testing.T) {
	var m idtools.Mapping
	if uid, gid, err := m.ToHost(math.MaxUint32, 7); uid != math.MaxUint32 || gid != 7 || err != nil {
		t.Errorf("%d:%d, %v", uid, gid, err)
	}
	if uid, gid, err := m.RootPair(); uid != 0 || gid != 0 || err != nil {
		t.Errorf("%d:%d, %v", uid, gid, err)
	}
	if _, _, err := (idtools.Mapping{UIDs: []idtools.Map{{5, 1000, 2}}}).RootPair(); !errors.Is(err,
		errdefs.ErrInvalid) {
		t.Errorf("a mapping without root: %v", err)
	}
	if uid, _, _ := (idtools.Mapping{UIDs: []idtools.Map{{5, 1000, 1}}}).RootPair(); uid != 1000 {
		t.Errorf("the only ID is %d", uid)
	}
}

// Records of other tools may hold anything that JSON can hold; it must not wrap around to
// an ID.
func TestUnsoundMapsTranslateNothing(t *testing.T) {
	for _, m := range []idtools.Map{
		{-1, 0, 10}, {0, -1, 10}, {0, 0, -1}, {0, math.MaxInt, 10}, {math.MaxInt, 0, math.MaxInt},
		{0, math.MinInt, math.MaxInt}, {0, 1 << 32, 1 << 40},
	} {
		mapping := idtools.Mapping{UIDs: []idtools.Map{m}}
		if uid, _, err := mapping.ToHost(5, 0); err == nil {
			t.Errorf("%v: ToHost gives %d", m, uid)
		}
		if err := mapping.Validate(); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%v is valid: %v", m, err)
		}
		mapping.Equal(idtools.Mapping{})
	}
}

func TestEqual(t *testing.T) {
	whole := []idtools.Map{{0, 1000, 20}}
	for _, tt := range []struct {
		a, b []idtools.Map
		want bool
	}{
		{nil, nil, true},
		{nil, []idtools.Map{}, true},
		{whole, whole, true},
		{whole, []idtools.Map{{10, 1010, 10}, {0, 1000, 10}}, true},
		{whole, []idtools.Map{{10, 1011, 10}, {0, 1000, 10}}, false},
		{whole, nil, false},
		{[]idtools.Map{{0, 0, 10}}, nil, false},
	} {
		for _, m := range []idtools.Mapping{{UIDs: tt.a}, {GIDs: tt.a}} {
			o := idtools.Mapping{UIDs: tt.b}
			if m.GIDs != nil {
				o = idtools.Mapping{GIDs: tt.b}
			}
			if m.Equal(o) != tt.want || o.Equal(m) != tt.want {
				t.Errorf("%v equals %v: want %v", m, o, tt.want)
			}
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	for _, s := range []string{"", "0:100000:65536", "0:0:1:1:5:9", "0:1:2,3 4:5:6", "4294967295:0:1", "0:-1:1",
		"0:0:4294967296", "::::::", "0:0:9223372036854775808"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		maps, err := idtools.ParseMaps(s)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		m := idtools.Mapping{UIDs: maps}
		if err := m.Validate(); err != nil {
			t.Fatalf("%q passed, yet %v", s, err)
		}
		for _, r := range maps {
			for _, id := range []uint32{uint32(r.ContainerID), uint32(r.ContainerID + r.Size - 1)} {
				host, _, err := m.ToHost(id, 0)
				if err != nil {
					t.Fatalf("%q: ToHost(%d): %v", s, id, err)
				}
				if back, _, err := m.ToContainer(host, 0); back != id || err != nil {
					t.Fatalf("%q: %d goes to %d and comes back as %d, %v", s, id, host, back, err)
				}
			}
		}
	})
}
