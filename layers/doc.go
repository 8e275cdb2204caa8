// Package layers keeps the records of layers in step with their files.
package layers
