// Peer prints the path of the containers-storage program that tests compare with,
// installing it first if need be.
package main

import (
	"fmt"
	"os"

	"github.com/shalestore/shale/internal/testutil"
)

func main() {
	path, err := testutil.InstallPeer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
