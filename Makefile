# The two commands of the README are `make demo` and `make test`; both need Go
# and make only.

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
TARGETS = linux/amd64 linux/arm64 linux/arm/6 linux/arm/7 linux/386 linux/mipsle linux/riscv64

.PHONY: build demo test crash bytes race vet fmt staticcheck cross bench bench-short clean

build: ## the three commands, static, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

PROFILE ?= iso87-ascii

demo: build ## four sales, three of them in trouble, and the oracle's verdict; PROFILE=unionpay and iso93 with MACs
	$(GO) run ./demo -bin bin -profile $(PROFILE)

test: ## every test
	$(GO) test ./...

N ?= 20000
EVERY ?= all

crash: ## N images of power cuts in the journal, and every failure of its disk (needs strace)
	UNCHARGE_IMAGES=$(N) $(GO) test ./journal -run 'PowerCut|TheDiskFails|FailedSync' -count=1 -v -timeout 0

bytes: ## every byte of a small journal changed, every length cut; EVERY=n tries one of n
	UNCHARGE_BYTES=$(EVERY) $(GO) test ./journal -run EachByteOfTheDirectory -count=1 -v -timeout 0

race: ## every test under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

fmt: ## fails when a file is not formatted
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files" >&2; exit 1; }

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

cross: ## everything builds for every machine it is meant for
	@for t in $(TARGETS); do \
	  set -- $$(echo $$t | tr / ' '); \
	  echo "build $$t"; \
	  CGO_ENABLED=0 GOOS=$$1 GOARCH=$$2 GOARM=$$3 $(GO) build -o /dev/null ./... || exit 1; \
	done

BENCH ?=

bench: ## the journal against its budgets, beside SQLite and bbolt, some 4 minutes; BENCH="-dir DIR" and other flags, bench/README.md
	cd bench && CGO_ENABLED=0 $(GO) build -trimpath -o ../bin/bench .
	bin/bench $(BENCH)

bench-short: ## a few seconds, to see that the benchmark builds and runs
	cd bench && $(GO) vet ./...
	$(MAKE) bench BENCH=-short

clean:
	rm -rf bin dist
