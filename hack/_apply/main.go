package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/shalestore/shale/archive"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	ts, _ := os.Create(os.Args[3])
	if p := os.Getenv("PROF"); p != "" {
		pf, _ := os.Create(p)
		pprof.StartCPUProfile(pf)
		defer pprof.StopCPUProfile()
	}
	t := time.Now()
	res, err := archive.Apply(context.Background(), os.Args[2], f, ts, archive.ApplyOptions{Whiteouts: archive.OverlayTrusted})
	d := time.Since(t)
	var ru syscall.Rusage
	syscall.Getrusage(0, &ru)
	fmt.Println(err, res.Entries, res.DiffID, "wall", d, "rss", ru.Maxrss/1024, "user", time.Duration(ru.Utime.Nano()), "sys", time.Duration(ru.Stime.Nano()))
	if err != nil {
		os.Exit(1)
	}
}
