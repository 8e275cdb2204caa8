package main

import (
	"fmt"
	"io"
)

// treeNode is one layer in the drawing of `layers --tree`.
type treeNode struct {
	parent string
	id     string
	notes  []string
}

// drawTree prints the layers below each root as a tree in box-drawing characters, the
// children of a layer in the order of nodes. A root is a parent that is no layer itself:
// "(base)", or a parent that is gone.
func drawTree(out io.Writer, nodes []treeNode) {
	children := map[string][]treeNode{}
	isLayer := map[string]bool{}
	var parents []string
	for _, node := range nodes {
		if children[node.parent] == nil {
			parents = append(parents, node.parent)
		}
		children[node.parent] = append(children[node.parent], node)
		isLayer[node.id] = true
	}
	for _, parent := range parents {
		if !isLayer[parent] {
			fmt.Fprintln(out, parent)
			drawBranch(out, children, parent, "")
		}
	}
}

// drawBranch draws what is below parent, each line after indent. A chain may have 500
// layers, so the recursion is no danger.
func drawBranch(out io.Writer, children map[string][]treeNode, parent, indent string) {
	below := children[parent]
	for i, node := range below {
		fork, stem := "├─", "│ "
		if i == len(below)-1 {
			fork, stem = "└─", "  "
		}
		fmt.Fprintf(out, "%s%s%s\n", indent, fork, node.id)
		for _, note := range node.notes {
			fmt.Fprintf(out, "%s%s%s\n", indent, stem, note)
		}
		drawBranch(out, children, node.id, indent+stem)
	}
}
