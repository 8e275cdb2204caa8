package storageconf

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// ParseSize reads a size in bytes as storage.conf has it: "10G", "1.5 GiB", "512kb",
// "4096". Units are powers of 1024, their case and a trailing "b" or "ib" don't matter.
// Fractions of a byte are cut off. What exceeds 2^63-1 is errdefs.ErrInvalid, as is
// anything negative.
func ParseSize(s string) (uint64, error) {
	bad := func() (uint64, error) {
		return 0, fmt.Errorf("%w: %q is not a size such as 10G or 512M", errdefs.ErrInvalid, s)
	}
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.') {
		end++
	}
	number, unit := s[:end], strings.ToLower(strings.TrimPrefix(s[end:], " "))
	shift := 0
	if unit != "" && unit != "b" {
		i := strings.IndexByte("kmgtp", unit[0])
		if i < 0 || (unit[1:] != "" && unit[1:] != "b" && unit[1:] != "ib") {
			return bad()
		}
		shift = 10 * (i + 1)
	}
	// Whole numbers are computed exactly; a float64 would round those beyond 2^53.
	if n, err := strconv.ParseUint(number, 10, 64); err == nil {
		if n > math.MaxInt64>>shift {
			return bad()
		}
		return n << shift, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if f *= float64(uint64(1) << shift); err != nil || f >= math.MaxInt64 {
		return bad()
	}
	return uint64(f), nil
}
