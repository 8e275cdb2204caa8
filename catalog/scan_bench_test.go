package catalog

import (
	"bytes"
	"encoding/json"
	"testing"
)

// The scanner against the checker of encoding/json, on the record of a pulled layer 5,000
// times.
func BenchmarkScan(b *testing.B) {
	const record = `{"id":"c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2",` +
		`"parent":"c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2",` +
		`"created":"2026-11-20T23:15:34.888577846Z",` +
		`"compressed-diff-digest":"sha256:c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2",` +
		`"compressed-size":29124181,` +
		`"diff-digest":"sha256:c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2",` +
		`"diff-size":77888512,"compression":2,"uidset":[0,1,100],"gidset":[0,4,42,43,50]}`
	data := []byte("[" + string(bytes.Repeat([]byte(record+","), 4999)) + record + "]")
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if e, fault := scan(data); fault != nil || len(e) != 5000 {
				b.Fatal(len(e), fault)
			}
		}
	})
	b.Run("json.Valid", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if !json.Valid(data) {
				b.Fatal()
			}
		}
	})
}
