package main

import (
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// redrawEvery bounds how often a progress line is drawn: ten times a second reads as
// steady motion.
const redrawEvery = 100 * time.Millisecond

// progress draws one line about a stream of bytes and redraws it in place. A nil
// *progress draws nothing, so that callers need not ask whether there is a terminal. It
// is for one goroutine at a time.
type progress struct {
	out   io.Writer
	width int
	verb  string
	total int64 // bytes expected; 0 when unknown
	now   func() time.Time

	began, drawn time.Time
	shown        bool
}

// newProgress returns a line on stderr, or nil when stderr is no terminal.
func (p *program) newProgress(verb string, total int64) *progress {
	tty := terminal(p.stderr)
	if tty == nil {
		return nil
	}
	return &progress{out: tty, width: columns(tty), verb: verb, total: total, now: time.Now, began: time.Now()}
}

// report is the callback that store operations take: nil when nobody watches, which
// spares them the calls.
func (g *progress) report() func(int64) {
	if g == nil {
		return nil
	}
	return g.update
}

// update says how many bytes have passed since the start.
func (g *progress) update(done int64) {
	if g == nil {
		return
	}
	now := g.now()
	if now.Sub(g.drawn) < redrawEvery {
		return
	}
	g.drawn, g.shown = now, true
	line := progressLine(g.verb, done, g.total, now.Sub(g.began))
	if utf8.RuneCountInString(line) >= g.width { // a line that wraps could not be redrawn in place
		line = line[:max(g.width-1, 0)]
	}
	fmt.Fprintf(g.out, "\r%s\x1b[K", line)
}

// clear takes the line away, so that what is printed next starts on an empty one.
func (g *progress) clear() {
	if g == nil || !g.shown {
		return
	}
	g.shown = false
	fmt.Fprint(g.out, "\r\x1b[K")
}

// progressLine puts the figures into words: how much, of how much, how fast, how long
// still.
func progressLine(verb string, done, total int64, elapsed time.Duration) string {
	rate := float64(done) / max(elapsed.Seconds(), 0.001)
	if total <= 0 || done > total {
		return fmt.Sprintf("%s  %s  %s/s  %s", verb, bytesText(done), bytesText(int64(rate)),
			elapsed.Round(time.Second))
	}
	line := fmt.Sprintf("%s  %s of %s  %d%%  %s/s", verb, bytesText(done), bytesText(total), done*100/total,
		bytesText(int64(rate)))
	if rate > 0 && elapsed > time.Second && done < total {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += fmt.Sprintf("  %s left", left.Round(time.Second))
	}
	return line
}

// bytesText says a size as people do, in powers of 1000: "87.4 MB".
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		value /= 1000
		if value < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
