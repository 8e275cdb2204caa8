package storageconf

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Every key is explained in docs/storage-conf.md, and every setting shown is a key.
func TestEveryKeyIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/storage-conf.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range keys() {
		names = append(names, k.name)
		i := strings.LastIndexByte(k.name, '.')
		for _, want := range []string{"[" + k.name[:i] + "]", "`" + k.name[i+1:] + "`"} {
			if !strings.Contains(string(data), want) {
				t.Errorf("docs/storage-conf.md doesn't mention %s of %s", want, k.name)
			}
		}
	}
	for _, s := range (Settings{}).List() {
		if !slices.Contains(names, s.Key) {
			t.Errorf("%s is shown as a setting and isn't a key", s.Key)
		}
	}
}
