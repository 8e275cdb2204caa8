// Package catalog keeps JSON record files that other programs read and write too.
package catalog
