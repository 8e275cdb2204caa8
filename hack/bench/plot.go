package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// draw makes three pictures: speed against the kind of layer, cost against the store's
// size, mount time against depth.
func (r *results) draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range []struct {
		file, title, unit string
		pick              func(name string) (label string, ok bool)
		bars              bool
	}{
		{"apply.svg", "Applying a layer: seconds, less is better", "s", func(name string) (string, bool) {
			return strings.CutPrefix(name, "apply ")
		}, true},
		{"cycle.svg", "Create, mount, unmount, delete a layer: milliseconds against the number of layers in the store",
			"ms",
			func(name string) (string, bool) { return strings.CutPrefix(name, "cycle of a layer, store of ") }, false},
		{"depth.svg", "Mount: milliseconds against the number of lowers", "ms", func(name string) (string, bool) {
			label, ok := strings.CutPrefix(name, "mount on ")
			return strings.TrimSuffix(label, " lowers"), ok
		}, false},
	} {
		var points []point
		for _, row := range r.rows {
			if label, ok := p.pick(row.Name); ok {
				points = append(points, point{label, row})
			}
		}
		if len(points) == 0 {
			continue
		}
		c := chart{title: p.title, points: points, scale: 1}
		if p.unit == "ms" {
			c.scale = 1000
		}
		picture := c.lines()
		if p.bars {
			picture = c.bars()
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(picture), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// point is one place on the horizontal axis.
type point struct {
	label string
	row   *row
}

type chart struct {
	title  string
	points []point
	scale  float64 // from seconds to the unit drawn
}

const (
	width, height = 900, 420
	left, right   = 60, 130
	top, bottom   = 50, 70
)

// The colours keep apart for eyes that don't tell red from green.
var colours = map[string]string{"shale": "#0b5fa5", "storage": "#d95f02", "containerd": "#7570b3", "tar": "#999999",
	"kernel": "#333333"}

func contestants() []string { return append([]string{"shale"}, rivals...) }

// present are the contestants that have any value here.
func (c chart) present() []string {
	return slices.DeleteFunc(contestants(), func(name string) bool {
		return !slices.ContainsFunc(c.points, func(p point) bool { return len(p.row.Values[name]) > 0 })
	})
}

func (c chart) highest() float64 {
	highest := 0.0
	for _, p := range c.points {
		for _, name := range contestants() {
			if v := p.row.median(name); !math.IsNaN(v) {
				highest = max(highest, v*c.scale)
			}
		}
	}
	return highest
}

func (c chart) begin(b *strings.Builder) {
	fmt.Fprintf(b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="24" font-size="15">%s</text>`+"\n",
		width, height, left, c.title)
	for i, name := range c.present() {
		y := top + 10 + i*20
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			width-right+15, y, colours[name], width-right+33, y+10, name)
	}
}

func (c chart) gridline(b *strings.Builder, y float64, value float64) {
	fmt.Fprintf(b,
		`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.3g</text>`+
			"\n", left, width-right, y, y, left-6, y+4, value)
}

// bars stands the contestants side by side at each point, on a linear scale.
func (c chart) bars() string {
	var b strings.Builder
	c.begin(&b)
	highest := c.highest()
	at := func(v float64) float64 { return height - bottom - v/highest*(height-top-bottom) }
	for i := range 5 {
		v := highest * float64(i) / 4
		c.gridline(&b, at(v), v)
	}
	names := c.present()
	slot := float64(width-left-right) / float64(len(c.points))
	thick := slot * 0.8 / float64(len(names))
	for i, p := range c.points {
		x := left + slot*float64(i) + slot*0.1
		for j, name := range names {
			if v := p.row.median(name) * c.scale; !math.IsNaN(v) {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
					x+thick*float64(j), at(v), thick*0.95, height-bottom-at(v), colours[name])
			}
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="end" transform="rotate(-35 %.1f %d)">%s</text>`+"\n",
			x+slot*0.4, height-bottom+16, x+slot*0.4, height-bottom+16, p.label)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// lines joins each contestant's points, on a logarithmic scale.
func (c chart) lines() string {
	var b strings.Builder
	c.begin(&b)
	highest, lowest := c.highest(), math.Inf(1)
	for _, p := range c.points {
		for _, name := range contestants() {
			if v := p.row.median(name) * c.scale; !math.IsNaN(v) {
				lowest = min(lowest, v)
			}
		}
	}
	from, to := math.Floor(math.Log10(lowest)), math.Ceil(math.Log10(highest))
	at := func(v float64) float64 { return height - bottom - (math.Log10(v)-from)/(to-from)*(height-top-bottom) }
	for power := from; power <= to; power++ {
		c.gridline(&b, at(math.Pow(10, power)), math.Pow(10, power))
	}
	step := float64(width-left-right) / float64(len(c.points))
	for _, name := range c.present() {
		var path []string
		for i, p := range c.points {
			if v := p.row.median(name) * c.scale; !math.IsNaN(v) {
				path = append(path, fmt.Sprintf("%.1f,%.1f", left+step*(float64(i)+0.5), at(v)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>`+"\n",
			strings.Join(path, " "), colours[name])
	}
	for i, p := range c.points {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", left+step*(float64(i)+0.5),
			height-bottom+20, p.label)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
