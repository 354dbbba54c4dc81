# backpropd. `make help` lists the targets. Everything that is built lies in build/ (build-address/
# and so on with SANITIZER=).
#
# Each source of the engine is compiled twice: in float into libbackprop.a, and in double into
# libbackprop_double.a with a generated header that renames every global symbol, so that both live
# in one process (engine/backprop.h). The daemon computes in float, and in double for gradcheck.

CC ?= gcc
SANITIZER ?=
ARCH := $(shell uname -m)
comma := ,
BUILD := build$(if $(SANITIZER),-$(subst $(comma),-,$(SANITIZER)))
PACKAGES := libmicrohttpd jansson openblas sqlite3 gnutls libxxhash libjpeg libpng zlib
TEST_PACKAGES := $(PACKAGES) libcurl cmocka

# As many jobs as there are cores, unless -j is given.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
  MAKEFLAGS += -j$(shell nproc)
endif

# V=1 shows the commands.
Q := $(if $(V),,@)

OPT ?= -O3
WARN := -Wall -Wextra -Wshadow=local -Wstrict-prototypes -Wmissing-prototypes \
  $(if $(findstring clang,$(CC)),-Wno-unknown-warning-option)
# Stacks of sanitizers need lines, not variables.
CFLAGS ?= $(if $(SANITIZER),-g1,-g)
# What an attacker meets: tests/hardening.sh looks for each of these in the binary.
HARDEN_x86_64 := -fstack-clash-protection -fcf-protection
HARDEN_aarch64 := -mbranch-protection=standard
# Objects lie in the daemon, which is PIE, and in the library of the tests: with -fPIC they fit both.
HARDEN = -fstack-protector-strong -fPIC -fno-semantic-interposition $(HARDEN_$(ARCH))
# -ffp-contract=off: the plain C of a formula gives the same bits whatever the instruction set;
# only the kernels are compiled with fused multiply-adds.
ALL_CFLAGS = -std=gnu11 $(OPT) $(WARN) -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread \
  $(HARDEN) -Iengine -I$(BUILD)/gen $(SAN_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pthread -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code $(SAN_FLAGS) $(LDFLAGS)
ifneq ($(SANITIZER),)
  SAN_FLAGS := -fsanitize=$(SANITIZER) -fno-omit-frame-pointer
  ifneq ($(findstring undefined,$(SANITIZER)),)
    SAN_FLAGS += -fno-sanitize-recover=all
  endif
  OPT := -O1
else
  ALL_CFLAGS += -D_FORTIFY_SOURCE=2
endif

# Package flags are looked up when they are first used, so that `make deps` runs without them.
# The tests' own packages only count for tests/: a build does not need them.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES)))$(PKG_CFLAGS)
TEST_CFLAGS = $(eval TEST_CFLAGS := $(shell pkg-config --cflags $(TEST_PACKAGES)))$(TEST_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(shell pkg-config --libs $(PACKAGES)))$(PKG_LIBS)
TEST_LIBS = $(eval TEST_LIBS := $(shell pkg-config --libs $(TEST_PACKAGES)))$(TEST_LIBS)

# Kernels are compiled once for each instruction set that pays on this architecture.
ifeq ($(ARCH),x86_64)
  SIMD := avx2 avx512
  SIMD_avx2 := -mavx2 -mfma -mf16c
  SIMD_avx512 := -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mprefer-vector-width=512
endif
SIMD_SRC := engine/kernels_simd.c

ENGINE_SRC := $(filter-out $(SIMD_SRC),$(wildcard engine/*.c))
# Those of the server named *_double.c are built with the engine in double only.
SERVER_DOUBLE_SRC := $(wildcard server/*_double.c)
SERVER_SRC := $(filter-out $(SERVER_DOUBLE_SRC),$(wildcard server/*.c))
# Of the server, what turns a description into a network, and steps it, is built in both, for them
# and the tests.
BOTH_SRC := $(ENGINE_SRC) $(wildcard server/describe*.c) server/trainer.c server/random_batch.c

ENGINE_OBJ := $(ENGINE_SRC:%.c=$(BUILD)/%.o) $(SIMD:%=$(BUILD)/engine/kernels_simd.%.o) $(BUILD)/engine/kernels_simd.plain.o
ENGINE_DOUBLE_OBJ := $(ENGINE_OBJ:.o=.double.o)
SERVER_DOUBLE_OBJ := $(filter $(BUILD)/server/%,$(patsubst %.c,$(BUILD)/%.double.o,$(BOTH_SRC) $(SERVER_DOUBLE_SRC)))
SERVER_OBJ := $(SERVER_SRC:%.c=$(BUILD)/%.o)
SERVER_LIB_OBJ := $(filter-out $(BUILD)/server/main.o,$(SERVER_OBJ))
LIBS := $(BUILD)/libbackprop.a
DOUBLE_LIBS := $(BUILD)/libbackprop_double.a

.PHONY: all
all: $(BUILD)/backpropd ## build build/backpropd

$(BUILD)/backpropd: $(SERVER_OBJ) $(LIBS) $(DOUBLE_LIBS)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

$(BUILD)/libbackprop.a: $(ENGINE_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/libbackprop_double.a: $(ENGINE_DOUBLE_OBJ) $(SERVER_DOUBLE_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

# Every global symbol of the float build, renamed for the double one. The header changes only when
# the names do, so that most edits compile one file twice and not all of them.
$(BUILD)/gen/double_names.stamp: $(ENGINE_OBJ) $(filter $(BUILD)/server/%,$(patsubst %.c,$(BUILD)/%.o,$(BOTH_SRC)))
	@mkdir -p $(@D)
	@nm -g --defined-only $^ | awk 'NF == 3 && $$2 ~ /[TDRBVWC]/ && $$3 !~ /^_/ { print "#define " $$3 " " $$3 "_double" }' | sort -u > $@.h
	@cmp -s $@.h $(@D)/double_names.h || cp $@.h $(@D)/double_names.h
	@touch $@
$(BUILD)/gen/double_names.h: $(BUILD)/gen/double_names.stamp ;

DOUBLE_FLAGS = -DBACKPROP_DOUBLE -include $(BUILD)/gen/double_names.h

# Fuzzing watches what reads bytes of clients. With its counters clang takes minutes for kernels. Those
# in double are the same source once more, and the address sanitizer makes gcc take a while, too.
SIMD_WATCH := $(if $(findstring fuzzer,$(SANITIZER)),-fno-sanitize=all)
SIMD_WATCH_DOUBLE := $(if $(SANITIZER),-fno-sanitize=all)
$(BUILD)/engine/kernels_simd.plain.o: $(SIMD_SRC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -ffp-contract=fast $(SIMD_WATCH) -DKERNELS_ISA=plain -MMD -c -o $@ $<
$(BUILD)/engine/kernels_simd.plain.double.o: $(SIMD_SRC) $(BUILD)/gen/double_names.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(DOUBLE_FLAGS) -ffp-contract=fast $(SIMD_WATCH_DOUBLE) -DKERNELS_ISA=plain -MMD -c -o $@ $<
define simd_rules
$(BUILD)/engine/kernels_simd.$(1).o: $(SIMD_SRC)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(SIMD_$(1)) -ffp-contract=fast $(SIMD_WATCH) -DKERNELS_ISA=$(1) -MMD -c -o $$@ $$<
$(BUILD)/engine/kernels_simd.$(1).double.o: $(SIMD_SRC) $(BUILD)/gen/double_names.h
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(DOUBLE_FLAGS) $$(SIMD_$(1)) -ffp-contract=fast $(SIMD_WATCH_DOUBLE) -DKERNELS_ISA=$(1) -MMD -c -o $$@ $$<
endef
$(foreach isa,$(SIMD),$(eval $(call simd_rules,$(isa))))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter tests/%,$<),$(TEST_CFLAGS),$(PKG_CFLAGS)) -MMD -c -o $@ $<
$(BUILD)/%.double.o: %.c $(BUILD)/gen/double_names.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter tests/%,$<),$(TEST_CFLAGS),$(PKG_CFLAGS)) $(DOUBLE_FLAGS) -MMD -c -o $@ $<

# The SQL of schema/ lies in the binary, one file after the other in the order of their numbers.
$(BUILD)/server/store_schema.o: $(wildcard schema/*.sql)
$(BUILD)/server/api_openapi.o: schema/openapi.yaml

# So does the dashboard, with the library that draws its charts as its package brought it.
CHART_JS ?= /usr/share/javascript/chart.js/chart.min.js
$(BUILD)/server/api_dashboard.o: $(wildcard server/dashboard/*) $(wildcard $(CHART_JS))
$(BUILD)/server/api_dashboard.o: ALL_CFLAGS += -DCHART_JS='"$(CHART_JS)"'

# ---- tests: a test program is tests/unit/NAME.c or tests/http/NAME.c. Those named *_double.c are
# compiled with the engine in double; *_both.c twice.
TEST_SRC := $(wildcard tests/unit/*.c) $(wildcard tests/http/*.c)
TEST_HELPERS := $(filter-out tests/support/faults_preload.c,$(wildcard tests/support/*.c))
# Loaded into daemons by tests that make their calls to files and memory fail.
FAULTS_PRELOAD := $(BUILD)/tests/support/faults_preload.so
HELPER_OBJ := $(TEST_HELPERS:%.c=$(BUILD)/%.o)
HELPER_DOUBLE_OBJ := $(TEST_HELPERS:%.c=$(BUILD)/%.double.o)
TEST_FLOAT := $(filter-out %_double.c,$(TEST_SRC))
TEST_DOUBLE := $(filter %_double.c %_both.c,$(TEST_SRC))
TEST_BIN := $(TEST_FLOAT:%.c=$(BUILD)/%.float.test) $(TEST_DOUBLE:%.c=$(BUILD)/%.double.test)

# What is tested is linked once, into a library: linking it into each of the programs took longer than
# compiling all of it.
TESTED := $(BUILD)/libtested.so
$(TESTED): $(SERVER_LIB_OBJ) $(LIBS) $(DOUBLE_LIBS)
	$(Q)$(CC) $(filter-out -pie,$(ALL_LDFLAGS)) -shared -Wl,-Bsymbolic -Wl,-soname,$(@F) -o $@ \
	  $(SERVER_LIB_OBJ) -Wl,--whole-archive $(LIBS) $(DOUBLE_LIBS) -Wl,--no-whole-archive $(PKG_LIBS) -lm
TEST_LDFLAGS = $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..'

$(BUILD)/%.float.test: $(BUILD)/%.o $(HELPER_OBJ) $(TESTED)
	$(Q)$(CC) $(TEST_LDFLAGS) -o $@ $^ $(TEST_LIBS) -lm
$(BUILD)/%.double.test: $(BUILD)/%.double.o $(HELPER_DOUBLE_OBJ) $(TESTED)
	$(Q)$(CC) $(TEST_LDFLAGS) -o $@ $^ $(TEST_LIBS) -lm

$(BUILD)/tests/bench/bench_augment: %: %.o $(filter $(BUILD)/server/describe% \
  $(BUILD)/server/trainer.o $(BUILD)/server/random_batch.o,$(SERVER_LIB_OBJ)) $(LIBS)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

$(BUILD)/tests/bench/scenes: $(BUILD)/tests/bench/scenes.o \
  $(filter $(BUILD)/server/image% $(BUILD)/server/budget.o,$(SERVER_LIB_OBJ)) $(LIBS)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm
$(BUILD)/tests/bench/scenes.o: ALL_CFLAGS += -Iserver

$(FAULTS_PRELOAD): tests/support/faults_preload.c tests/support/faults.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O2 -g $(WARN) -pthread -fPIC -shared -o $@ $<

# A fuzz target is tests/fuzz/fuzz_NAME.c. `make test` gives it its corpus once (NAME.test); NAME.fuzz
# is libFuzzer's, which only clang can link: tests/fuzz/run.sh builds it in build-fuzz.
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_TEST := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=$(BUILD)/tests/fuzz/%.test)
FUZZ_BIN := $(FUZZ_TEST:.test=.fuzz)

$(BUILD)/tests/fuzz/%.test: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/corpus.o $(TESTED)
	$(Q)$(CC) $(TEST_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm
# An archive, of which the linker takes what the target calls. None calls the engine in double, which
# takes clang as long to compile as all else.
$(BUILD)/libserver.a: $(SERVER_LIB_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(BUILD)/tests/fuzz/%.fuzz: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libserver.a $(LIBS)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS) -lm

# What TEST_ONLY and TEST_EXCEPT leave (tests/run.sh): others are not built either.
test_patterns = $(subst *,%,$(addprefix $(BUILD)/tests/,$(1)))
TEST_ALL := $(TEST_BIN) $(FUZZ_TEST)
TEST_WANTED = $(filter-out $(call test_patterns,$(TEST_EXCEPT)),$(if $(TEST_ONLY),$(filter $(call test_patterns,$(TEST_ONLY)),$(TEST_ALL)),$(TEST_ALL)))

.PHONY: tests fuzz-targets
tests: $(TEST_WANTED) $(FAULTS_PRELOAD)
fuzz-targets: $(FUZZ_BIN)
.SECONDARY:

# ---- the commands of people
.PHONY: deps test-deps test test-browser test-crash test-faults test-prometheus test-image test-valgrind analyze fuzz soak install image demo demo-detect run bench bench-peers bench-http format clean help
deps:
	@sh tests/support/install.sh build
test-deps:
	@sh tests/support/install.sh test
test: test-deps ## build and run every test; the last line counts them
	@$(MAKE) --no-print-directory all tests
	@$(if $(TEST_WANTED),,echo "no test is called $(TEST_ONLY)" >&2; exit 1)
	@BUILD=$(BUILD) bash tests/run.sh $(TEST_WANTED)
test-crash: test-deps $(BUILD)/backpropd $(FAULTS_PRELOAD) $(BUILD)/tests/http/test_crash.float.test ## kill the daemon 1,000 times (CRASH_KILLS) and check what it kept
	CRASH_KILLS=$${CRASH_KILLS:-1000} BUILD=$(BUILD) $(BUILD)/tests/http/test_crash.float.test
FAULT_TESTS := $(BUILD)/tests/http/test_faults.float.test $(BUILD)/tests/http/test_power.float.test
test-faults: test-deps $(BUILD)/backpropd $(FAULTS_PRELOAD) $(FAULT_TESTS) ## disk full, EIO, no memory at every call of every route; 400 losses of power
	for t in $(FAULT_TESTS); do FAULTS_LONG=1 BUILD=$(BUILD) $$t || exit 1; done
test-prometheus: $(BUILD)/backpropd ## the real Prometheus (Debian: prometheus) scrapes the daemon
	@BUILD=$(BUILD) bash tests/prometheus.sh
test-image: ## as root, with buildah and debootstrap: build the image, train in it, stop it, find the step
	@BUILD=$(BUILD) IMAGE_TEST=1 bash tests/image.sh
VALGRIND_TESTS ?=
test-valgrind: $(BUILD)/backpropd $(TEST_BIN) ## tests over HTTP (VALGRIND_TESTS) with the daemon under valgrind: no error, no leak
	@BUILD=$(BUILD) bash tests/valgrind.sh $(VALGRIND_TESTS)
analyze: ## clang's static analyser and cppcheck: clean, or explained in tests/support/analyze.supp
	@BUILD=$(BUILD) bash tests/analyze.sh
fuzz: ## libFuzzer on each target of tests/fuzz (FUZZ_TARGETS) for FUZZ_SECONDS (20); clang's sanitizers watch
	@bash tests/fuzz/run.sh $(FUZZ_TARGETS)
soak: $(BUILD)/backpropd ## mixed load for SOAK_MINUTES (30): memory, files, threads, database, logs and p99 must stay flat
	@nice python3 tests/bench/soak.py --build $(BUILD)
PREFIX ?= /usr/local
install: $(BUILD)/backpropd ## to PREFIX (/usr/local) under DESTDIR: binary, man page, completion, systemd unit
	install -D -m 755 $(BUILD)/backpropd $(DESTDIR)$(PREFIX)/bin/backpropd
	install -D -m 644 server/backpropd.1 $(DESTDIR)$(PREFIX)/share/man/man1/backpropd.1
	install -D -m 644 docker/backpropd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/backpropd.service
	sed -i 's|/usr/local/bin|$(PREFIX)/bin|' $(DESTDIR)$(PREFIX)/lib/systemd/system/backpropd.service
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BUILD)/backpropd --completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/backpropd
test-browser: test-deps ## install Chromium and drive the dashboard with it; pictures in build/browser/shots
	@sh tests/support/install.sh browser
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) BROWSER_INSTALL=1 bash tests/browser.sh
image: ## build the container image with docker, podman or buildah
	@sh docker/build.sh $(or $(IMAGE),backpropd)
demo: deps ## build, start a daemon, train a CNN on handwritten digits over HTTP with curl
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) bash tests/demo.sh
demo-detect: deps ## train a detector on scenes of digits over HTTP, score it, draw what it finds
	@$(MAKE) --no-print-directory all $(BUILD)/tests/bench/scenes
	@BUILD=$(BUILD) bash tests/demo_detect.sh
run: all ## run the daemon on 127.0.0.1:8080 with its data in ./build/data
	$(BUILD)/backpropd --listen 127.0.0.1:8080 --data $(BUILD)/data
BENCH_NETS = $(if $(NETS),--nets $(shell echo $(NETS) | tr ' ' ,))
bench: $(BUILD)/backpropd $(BUILD)/tests/bench/bench_augment ## steps and predictions beside PyTorch and onnxruntime: NETS="mlp lenet" QUICK=1 FLAGS=--fresh
	@BUILD=$(BUILD) python3 tests/bench/steps.py $(BENCH_NETS) $(if $(QUICK),--quick) $(FLAGS)
	@$(if $(QUICK)$(NETS),,$(BUILD)/tests/bench/bench_augment)
bench-peers: ## fetch onnxruntime-node with npm, for make bench
	@mkdir -p $(BUILD)/bench && cp tests/bench/package.json $(BUILD)/bench/
	@npm install --ignore-scripts --prefix $(BUILD)/bench --silent --no-audit --no-fund
$(BUILD)/tests/bench/hello: tests/bench/hello.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(shell pkg-config --libs libmicrohttpd)
bench-http: $(BUILD)/backpropd $(BUILD)/tests/bench/hello ## speed of the wire (needs wrk), beside a FastAPI + PyTorch server where it is there
	@BUILD=$(BUILD) python3 tests/bench/wire.py
format: ## clang-format the tree
	clang-format -i $$(git ls-files '*.c' '*.h')
clean: ## remove what was built
	rm -rf build build-*
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "SANITIZER=address|undefined|thread builds into build-SANITIZER and works with all of them."

# A header that was moved or deleted makes its users be compiled anew.
%.h: ;
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
