export CGO_ENABLED = 0

.PHONY: build test clean
build:
	go build -trimpath -o bin/ ./...
test:
	go vet ./...
	go test ./...
clean:
	rm -rf bin
