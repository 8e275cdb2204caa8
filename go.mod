module github.com/shalestore/shale

go 1.26

require (
	github.com/opencontainers/go-digest v1.0.0
	golang.org/x/sys v0.47.0
)

require github.com/moby/sys/mountinfo v0.7.2

require (
	github.com/klauspost/compress v1.20.3
	github.com/pelletier/go-toml/v2 v2.4.3
	github.com/ulikunitz/xz v0.5.17
	github.com/vbatts/tar-split v0.12.3
)

require (
	github.com/cyphar/filepath-securejoin v0.5.1 // indirect
	github.com/opencontainers/selinux v1.15.1
)
