# Go 1.26 is all that building, running and testing need. Tests that want more of the machine skip and say what;
# hack/setup installs it on Debian.

export CGO_ENABLED = 0
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

# The modules of go.work. hack/bench, tests/graphdriver and tests/layerstore are modules of their own, outside of it.
WORKSPACE = ./... ./cmd/... ./compat/...

# What the peer's library must leave out to build without cgo.
PEERTAGS = exclude_graphdriver_btrfs containers_image_openpgp
# What it leaves out so that Shale's overlay driver can take its driver's name.
OURTAGS = exclude_graphdriver_overlay exclude_graphdriver_btrfs exclude_graphdriver_zfs

# What runs in the virtual machine: tests that say in their names what they need of it, in these packages.
VMTESTS = Quota|Verity|SELinux|InVM
VMPACKAGES = ./tests/vm/kernel ./tests/selinux ./mount ./quota ./drivers/overlay ./store ./store/usage

GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

FUZZTIME = 30s

.PHONY: build run test test-workspace test-apart test-vm test-long fuzz test-arm64 lint bench peer-suite vulncheck sbom reproducible docs clean

build: # one static binary, bin/shale
	go build -trimpath -ldflags "-s -w -X main.workingCopy=$$(git describe --tags --always --dirty 2>/dev/null || true)" -o bin/ ./cmd/...

run: build # the main job on real input, from a tar to a mounted layer and back
	go run ./hack/demo -shale bin/shale

test: # everything, in a few minutes; as root more of it than otherwise
	@$(MAKE) --no-print-directory -j2 test-workspace test-apart

test-workspace: # most tests wait for the disk or another process, so four packages at once
	hack/scratch go run ./hack/test -p 4 -timeout 15m -tags '$(OURTAGS)' $(TESTFLAGS) $(WORKSPACE)

test-apart: # the modules outside of go.work
	cd tests/graphdriver && GOWORK=off ../../hack/scratch go test -tags '$(OURTAGS)' $(TESTFLAGS) ./...
	cd tests/layerstore && GOWORK=off ../../hack/scratch go test $(TESTFLAGS) ./...
	cd hack/bench && GOWORK=off go test -tags '$(PEERTAGS)' $(TESTFLAGS) .

test-vm: build # tests of quotas, fs-verity and SELinux in a virtual machine whose kernel has them; see tests/vm/doc.go
	go build -o bin/ ./tests/vm
	SHALE_BINARY=$(CURDIR)/bin/shale hack/scratch go run ./hack/test -p 2 -exec $(CURDIR)/bin/vm -count=1 -timeout 5m -run '$(VMTESTS)' $(TESTFLAGS) $(VMPACKAGES)
	-cd tests/graphdriver && GOWORK=off CGO_ENABLED=1 go build -tags '$(PEERTAGS)' -o ../../bin/peer-quota ./peerquota # the library has quotas only with cgo
	cd tests/graphdriver && GOWORK=off SHALE_PEER_QUOTA=$(CURDIR)/bin/peer-quota ../../hack/scratch go test -tags '$(OURTAGS)' -exec $(CURDIR)/bin/vm -count=1 -timeout 5m -run '$(VMTESTS)' $(TESTFLAGS) .

test-long: # the same with all cases, as many crashes and as long a storm as a release wants, and everything again with the race detector
	SHALE_LONG=1 hack/scratch go run ./hack/test -count=1 -timeout 180m -tags '$(OURTAGS)' $(TESTFLAGS) $(WORKSPACE)
	cd tests/graphdriver && GOWORK=off ../../hack/scratch go test -count=1 -tags '$(OURTAGS)' -bench . -benchtime 1x $(TESTFLAGS) ./...
	CGO_ENABLED=1 hack/scratch go run ./hack/test -race -count=1 -timeout 60m -tags '$(OURTAGS)' $(TESTFLAGS) $(WORKSPACE)
	$(MAKE) test-arm64

fuzz: # every fuzz target, each for FUZZTIME
	FUZZTIME=$(FUZZTIME) hack/scratch hack/fuzz

# An emulator that knows openat2(2), QEMU 9.1 or later: hack/setup installs it. The kernel doesn't start what is built
# for arm64, so these aren't run: tests that start themselves again or under strace (lockfile, tempdir, idtools/userns,
# and what is above drivers), those of mounts and of ioctls (fsat, dedupe, quota, overlay), and those that would take
# many minutes (archive, catalog).
QEMU_ARM64 = qemu-aarch64-static
ARM64PACKAGES = ./archive/... ./config/... ./containers ./drivers ./drivers/vfs ./errdefs ./idtools ./images ./internal/...
ARM64LEFT = /(archive|dedupe|fsat|lockfile|tempdir|testutil)$$
ARM64SKIP = TestOrderOfSystemCalls|TestOpenUserNamespace

test-arm64: # unit tests that need neither, built for arm64, in QEMU's user mode
	@command -v $(QEMU_ARM64) >/dev/null || echo "$(QEMU_ARM64) is missing: hack/setup"
	! command -v $(QEMU_ARM64) >/dev/null || GOARCH=arm64 hack/scratch go test -short -skip '$(ARM64SKIP)' \
		-exec $(QEMU_ARM64) $$(go list $(ARM64PACKAGES) | grep -vE '$(ARM64LEFT)')

style: # gofmt, widths and vet, over the library and what stands beside it
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	go run ./hack/lint
	GOWORK=off go vet ./...
	GOWORK=off GOARCH=arm64 go build ./...

lint: style # and golangci-lint (.golangci.yml) over all modules
	set -e; linter=$$(hack/tool $(GOLANGCI)); \
	for module in . cmd compat; do (cd $$module && "$$linter" run ./...); done; \
	for module in hack/bench tests/graphdriver tests/layerstore; do (cd $$module && GOWORK=off "$$linter" run ./...); done

bench: # ratios to containers/storage, containerd, tar and the kernel, into docs/performance.md; root, a quiet machine, 45 minutes. BENCH=apply,cycle narrows it
	cd hack/bench && GOWORK=off go build -tags '$(PEERTAGS)' -o ../../bin/ .
	unshare --mount --propagation private bin/bench -bench '$(BENCH)' $(if $(BENCH)$(BENCHFLAGS),,-report docs) $(BENCHFLAGS)

vulncheck: # known vulnerabilities that our code reaches, by the newest reports in the module proxy
	go run ./hack/vulncheck . cmd compat

SBOM = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

sbom: build # what each binary is made of, as dist/NAME.cdx.json
	mkdir -p dist
	for name in $(notdir $(wildcard cmd/shale*)); do GOWORK=off go run $(SBOM) bin -json -licenses -output dist/$$name.cdx.json bin/$$name; done

reproducible: # two builds of the last commit have one digest
	hack/reproducible

peer-suite: build # containers/storage's own tests against bin/shale; MODES (overlay vfs transient rootless) or DRIVER, TRANSIENT, and FILES narrow it
	hack/scratch hack/peer-suite

docs: build # the manual, from the same source as --help
	bin/shale docs --man man --markdown docs/cli.md

clean:
	rm -rf bin man
