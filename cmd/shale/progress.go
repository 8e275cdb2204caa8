package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// redrawEvery bounds how often a bar is drawn: ten times a second reads as steady
	// motion.
	redrawEvery = 100 * time.Millisecond
	// What isn't drawn in place is said when work has taken a second, and every few
	// seconds from then on.
	firstLine  = time.Second
	otherLines = 3 * time.Second
)

// progressMode is the value of --progress. The zero value is auto: a bar at a terminal
// and lines elsewhere.
type progressMode string

const (
	progressAuto  progressMode = "auto"
	progressBar   progressMode = "bar"
	progressPlain progressMode = "plain"
	progressJSON  progressMode = "json"
	progressNone  progressMode = "none"
)

func (m *progressMode) Set(text string) error {
	switch mode := progressMode(text); mode {
	case progressAuto, progressBar, progressPlain, progressJSON, progressNone:
		*m = mode
		return nil
	}
	return usageError("there are auto, bar, plain, json and none")
}

func (m *progressMode) String() string { return string(cmp.Or(*m, progressAuto)) }
func (m *progressMode) Type() string   { return "HOW" }

// progress shows on stderr how far a piece of work is. A nil *progress shows nothing, so
// that callers need not ask whether anybody watches. Its methods may be called by several
// goroutines.
type progress struct {
	mode  progressMode // never auto
	out   io.Writer
	width int // of a bar
	verb  string
	now   func() time.Time

	mu           sync.Mutex
	done, total  int64 // bytes; total is 0 when unknown
	began, drawn time.Time
	shown        bool
	stop         chan struct{} // ends the lines
}

// newProgress begins to show a piece of work. The caller must call clear when it is over.
func (p *program) newProgress(verb string, total int64) *progress {
	mode, tty := cmp.Or(p.global.progress, progressAuto), terminal(p.stderr)
	if mode == progressAuto {
		switch {
		case tty != nil:
			mode = progressBar
		case p.peer:
			mode = progressNone // as containers-storage has it
		default:
			mode = progressPlain
		}
	}
	if mode == progressNone {
		return nil
	}
	line := &progress{mode: mode, out: p.stderr, width: 80, verb: verb, total: total, now: time.Now,
		began: time.Now(), stop: make(chan struct{})}
	if tty != nil {
		line.width = columns(tty)
	}
	if mode != progressBar {
		go line.lines(line.stop)
	}
	return line
}

// lines writes a line now and then until the work is over. They come from here, since the
// work may be at something long of which it reports nothing.
func (g *progress) lines(stop <-chan struct{}) {
	wait := time.NewTimer(firstLine)
	defer wait.Stop()
	for {
		select {
		case <-stop:
			return
		case <-wait.C:
			g.mu.Lock()
			if g.stop != nil {
				g.line()
			}
			g.mu.Unlock()
			wait.Reset(otherLines)
		}
	}
}

// line writes one line, in words or in JSON.
func (g *progress) line() {
	g.shown = true
	elapsed := g.now().Sub(g.began)
	if g.mode == progressPlain {
		fmt.Fprintln(g.out, progressLine(g.verb, g.done, g.total, elapsed))
		return
	}
	// who doesn't read progress any more has no use for an error about it either
	_ = json.NewEncoder(g.out).Encode(struct {
		Work    string  `json:"work"`
		Done    int64   `json:"done"`
		Total   int64   `json:"total,omitempty"`
		Seconds float64 `json:"seconds"`
	}{g.verb, g.done, g.total, elapsed.Round(time.Millisecond).Seconds()})
}

// report is the callback that store operations take: nil when nobody watches, which
// spares them the calls.
func (g *progress) report() func(int64) {
	if g == nil {
		return nil
	}
	return g.update
}

// reportOf is the same for work that learns on the way how much there is to do.
func (g *progress) reportOf() func(done, total int64) {
	if g == nil {
		return nil
	}
	return func(done, total int64) {
		g.mu.Lock()
		g.total = total
		g.mu.Unlock()
		g.update(done)
	}
}

// update says how many bytes have passed since the start.
func (g *progress) update(done int64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = done
	if g.mode != progressBar {
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

// clear ends it. A bar goes away, so that what is printed next starts on an empty line;
// where lines were written, a last one says how it ended.
func (g *progress) clear() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stop != nil {
		close(g.stop)
		g.stop = nil
	}
	if !g.shown {
		return
	}
	if g.mode == progressBar {
		fmt.Fprint(g.out, "\r\x1b[K")
	} else {
		g.line()
	}
	g.shown = false
}

// progressLine puts the figures into words: how much, of how much, how fast, how long
// still.
func progressLine(verb string, done, total int64, elapsed time.Duration) string {
	rate := float64(done) / max(elapsed.Seconds(), 0.001)
	if done == 0 && total <= 0 {
		return fmt.Sprintf("%s  %s", verb, elapsed.Round(time.Second))
	}
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
