// Package ident draws and checks the IDs of layers, images and containers.
//
// IDs become names of files and directories, so what comes from outside is checked before
// it gets near a path.
package ident

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// New draws an ID: 64 hexadecimal digits, of which the first twelve, which programs show
// as its short form, are never all decimal, because some take that for a number.
func New() string {
	var raw [32]byte
	for {
		rand.Read(raw[:]) // never fails: crypto/rand ends the program first
		id := hex.EncodeToString(raw[:])
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// IsDrawn reports whether id is 64 hexadecimal digits, as New and other programs of the
// format draw them. What has another name in the store's directories isn't touched by
// garbage collection.
func IsDrawn(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// Validate returns errdefs.ErrInvalid for an ID that can't be one: it consists of up to
// 128 letters, digits, '_', '-' and '.', the first of which is a letter or digit. The
// format doesn't ask for hexadecimal digits. Names that the store's own files have are
// refused too.
func Validate(id string) error {
	ok := id != "" && len(id) <= 128
	for i, c := range []byte(id) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		ok = ok && (letter || i > 0 && (c == '_' || c == '-' || c == '.'))
	}
	if !ok {
		return fmt.Errorf(
			"ID %.200q: %w: an ID is up to 128 letters, digits, '_', '-' and '.', and begins with a letter or digit",
			id, errdefs.ErrInvalid)
	}
	taken := id == "tmp" || id == "l" || id == "tempdirs" || id == "staging"
	if taken || strings.HasSuffix(id, ".json") || strings.HasSuffix(id, ".lock") ||
		strings.HasSuffix(id, ".tar-split.gz") {
		return fmt.Errorf("ID %.200q: %w: the store's own files have such names", id, errdefs.ErrInvalid)
	}
	return nil
}
