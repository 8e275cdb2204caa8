// Package config reads storage.conf(5) into one typed Config.
package config
