# One target a purpose; `make help` lists them. Everything is pure Go: no C compiler needed.
export CGO_ENABLED = 0

TAGS     = goolm
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
# Official test vectors: $VECTORS, or the directory beside the checkout when it is there.
VECTORS ?= $(wildcard ../shared/vectors)
override VECTORS := $(if $(VECTORS),$(abspath $(VECTORS)))
ifneq ($(VECTORS),)
export VECTORS
endif
REPORT   = go run ./test/report
# Arguments for one run of go test in the main module.
MAIN     = -tags $(TAGS) -timeout $(TIMEOUT) $(TESTFLAGS)
TIMEOUT ?= 20m
FUZZTIME ?= 60s
# Modules of their own, whose tests belong to the whole.
INTEROP  = $(if $(wildcard test/interop/go.mod),-- -C test/interop -timeout $(TIMEOUT) ./...)

.PHONY: help build profile homeserver node test unit vectors interop bench bench-mls crash fuzz demo lint clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# A CPU profile of the bridge at work. It is not called default.pgo, since tests would then compile every package twice.
PGO      = cmd/bridge/release.pgo

build: ## build bin/bridge, a static binary, optimised by a profile
	go build -trimpath -tags $(TAGS) -pgo=$(PGO) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/bridge ./cmd/bridge

profile: ## take the profile that build optimises by; before a release
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && set -x && \
	go build -trimpath -tags $(TAGS) -o $$dir/bridge ./cmd/bridge && \
	BENCH_BRIDGE=$$dir/bridge BENCH_PROFILE=$$dir go test -tags $(TAGS) -count=1 -v -run 'TestProfile$$' ./test/load && \
	go tool pprof -proto -symbolize=none -output=$$dir/merged $$dir/*.pprof && mv $$dir/merged $(PGO)

homeserver: ## build the homeserver that the tests run, once, into the cache
	go run ./test/prepare

NO_NODE  = **** THERE IS NO node: Fedify, ts-mls and matrix-js-sdk are left out of the tests ****
node: ## fetch what the Node peers of the tests need, as their lock files say
	@command -v node >/dev/null || { echo "$(NO_NODE)"; exit 0; }; \
	for f in $$(git ls-files '*package-lock.json'); do d=$$(dirname $$f); \
	  [ -d $$d/node_modules ] || { echo "npm ci in $$d"; (cd $$d && npm ci --no-audit --no-fund --silent) || exit 1; }; \
	done

test: node ## everything: unit tests, both databases, real homeservers, dialogues, interop, vectors
	$(REPORT) $(REPORTFLAGS) $(if $(VECTORS),-vectors $(VECTORS)) -- $(MAIN) ./... $(INTEROP)

unit: ## only what needs no other program, on SQLite
	$(REPORT) $(REPORTFLAGS) -- $(MAIN) -short ./internal/... ./mapping/... ./matrixside/... ./mimiside/... ./puppets/... ./cmd/...

vectors: ## official MLS vectors and MIMI content examples, one line a file
	@test -n "$(VECTORS)" || { echo "there are no vectors: set VECTORS to their directory"; exit 1; }
	$(REPORT) -vectors $(VECTORS) -- $(MAIN) -run 'Vector' ./mimiside/mls/... ./mimiside/content/...

interop: node ## our MLS engine against other implementations
	$(REPORT) -v -- -C test/interop -count=1 -timeout 20m .
	@command -v node >/dev/null || echo "$(NO_NODE)"

bench: build ## the bridge's cost a message
	BENCH=all BENCH_BRIDGE=$(CURDIR)/bin/bridge go test -tags $(TAGS) -count=1 -v -timeout 60m ./test/load

bench-mls: ## the MLS engine beside another, one process with many clients
	go run -C test/interop ./bench $(BENCHFLAGS)

crash: ## kill the process at every kill point, restart, audit
	CRASH=all go test -tags $(TAGS) -count=1 -v -parallel 4 -timeout 60m ./test/crash

fuzz: ## every fuzz target for FUZZTIME (60s)
	@for p in $$(go list -tags $(TAGS) ./...); do \
	  for f in $$(go test -tags $(TAGS) -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "== $$p $$f"; go test -tags $(TAGS) -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; \
	done

demo: ## two homeservers, two bridges, people who talk; KEEP=1 leaves it running
	go run -tags $(TAGS) ./cmd/bridge demo $(if $(KEEP),--keep)

lint: ## format, vet, modules, layout
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }
	go vet -tags $(TAGS) ./...
	@for m in $$(git ls-files '*go.mod'); do d=$$(dirname $$m); echo "go mod tidy -diff in $$d"; (cd $$d && go mod tidy -diff) || exit 1; done
	go test -tags $(TAGS) ./test/arch
	go test -tags $(TAGS) -run Example ./internal/config

clean: ## remove what was built here
	rm -rf bin
