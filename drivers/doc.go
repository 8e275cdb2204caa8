// Package drivers defines what a graph driver is, and picks one.
package drivers
