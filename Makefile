# make          the unikernel, the tools and the examples, into out/
# make libxenvchan  the library for C programs alone: out/libxenvchan
# make echo     the unikernel without disks, which serves the echo alone: out/ringside-echo.elf
# make mix      the unikernel without the client, and with the exerciser's workload: out/ringside-mix.elf
# make block    the unikernel with the echo and disks, without what tries either: out/ringside-block.elf
# make run      boots an emulated Xen host, starts the guest in it and lets you type at it
# make test     tests on this machine, then scenarios on real Xen; make test-full also those that take long
# make cloud-tests  disks in object stores on Ceph, SeaweedFS and moto, which it starts on this machine: 17 minutes; ONLY='ceph quota'
# make fuzz     each parser of foreign data and each protocol for a minute: FUZZ_SECONDS
# make matrix   the short set of scenarios on every Debian release and xenstore daemon, and a table of what passed
# make bench    the speed of vchan and of disks beside that of a Linux guest, on an emulated host whose time is a count
#               of instructions
# make reports  the exerciser's run on Linux's backend, QEMU's and xen-disk, and docs/block-reports.md with a table of them
# make bench-native  this machine's own time, without Xen: vchan beside Xen's library, xen-disk's exports beside qemu-nbd
#               and nbdkit
# make install  into /usr/local, or PREFIX, below DESTDIR; make uninstall; make dist makes packages in out/dist
# make check    formatting, lints, packages, documentation
# make clean    removes what was built

TARGET ?= x86_64-unknown-linux-gnu
NATIVE := x86_64-unknown-linux-gnu
CARGO  ?= cargo
# The commit that `--version` names.
export RINGSIDE_COMMIT := $(shell git describe --always --dirty --exclude '*' 2>/dev/null)
# Storages of xen-disk that are no default.
DISK_FEATURES := xen-disk/formats,xen-disk/object
# Words for `xl create`, for instance: make run XL='memory=64'
XL     ?=
# Names of scenarios, or parts of them, for instance: make scenarios ONLY='echo memory'
ONLY   ?=
# With any word, each scenario that fails is tried once more.
RETRY  ?=
# The Debian release that the emulated host is made of: bullseye, bookworm, trixie or sid; without a word, Debian stable.
# Some shells keep the machine's name in an environment variable of this name.
HOSTS  := auto emulated bullseye bookworm trixie sid machine local
ifneq ($(origin HOST),command line)
HOST   := $(filter $(HOSTS),$(HOST))
endif
# The xenstore daemon of the emulated host: xenstored or oxenstored.
XENSTORED ?=
TESTBED = out/testbed $(addprefix --host ,$(HOST)) $(addprefix --xenstored ,$(XENSTORED))

.PHONY: all setup kernel echo block mix tools libxenvchan examples run test test-full host-tests fuzz cloud-tests scenarios \
    matrix bench reports bench-native shell check clean

all: kernel tools libxenvchan examples

# Installs what is missing on this machine, once for all that this call of make does.
run test scenarios matrix bench reports bench-native shell host-tests: NEEDED := test
test-full cloud-tests fuzz: NEEDED := full
setup:
	@testbed/setup.sh $(or $(NEEDED),build)

# Where cargo builds, which its configuration and its environment variables decide.
BUILD = $$($(CARGO) metadata --quiet --no-deps --offline --format-version 1 \
    | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

# The kernel is built alone: features that other members of the workspace ask of shared crates must not reach it, so its
# binary has a feature that only this rule asks for. Its code runs where it is linked, and need not find out where it is.
# Three options of LLVM take 19 KB from it: runs of instructions that come again and again become functions, small
# tables of jumps, of 8 bytes for each place, comparisons, and no load is copied into branches to spare it in others.
KERNEL_FLAGS := -C relocation-model=static -C llvm-args=-enable-machine-outliner=always \
    -C llvm-args=-min-jump-table-entries=16 -C llvm-args=-enable-load-pre=false
kernel: IMAGE := ringside
kernel: FEATURES := client exercise
echo: IMAGE := ringside-echo
echo: FEATURES := client
mix: IMAGE := ringside-mix
mix: FEATURES := mix
block: IMAGE := ringside-block
block: FEATURES := block
kernel echo block mix: setup
	@$(CARGO) rustc --quiet --profile kernel --package kernel --bin ringside --no-default-features --features 'image $(FEATURES)' \
	    --target $(TARGET) -- $(KERNEL_FLAGS)
	@mkdir -p out
	@install "$(BUILD)/$(TARGET)/kernel/ringside" out/$(IMAGE).debug
	@objcopy --strip-all out/$(IMAGE).debug out/$(IMAGE).elf
	@printf '%-17s %s bytes\n' out/$(IMAGE).elf "$$(stat -c %s out/$(IMAGE).elf)"

tools: setup
	@$(CARGO) build --quiet --release --package vchan --package xen-disk --package testbed --features $(DISK_FEATURES) --target $(NATIVE)
	@mkdir -p out
	@build="$(BUILD)/$(NATIVE)/release" && install "$$build/vchan" "$$build/xen-disk" "$$build/testbed" out/
	@rm -rf out/share && mkdir -p out/share && out/vchan generate out/share && out/xen-disk generate out/share
	@printf 'out/vchan         %s bytes\n' "$$(stat -c %s out/vchan)"
	@printf 'out/xen-disk      %s bytes\n' "$$(stat -c %s out/xen-disk)"

# libxenvchan for C: a static library of ours, linked into a shared one.
libxenvchan: setup
	@$(CARGO) rustc --quiet --profile shared --package libxenvchan --lib --crate-type staticlib --target $(NATIVE)
	@crates/libxenvchan/link.sh "$(BUILD)/$(NATIVE)/shared/libxenvchan.a" out/libxenvchan
	@printf 'out/libxenvchan   %s bytes\n' "$$(stat -c %s out/libxenvchan/libxenvchan.so)"

# A workspace of its own, as one outside this repository would be; the versions are those of ours.
EXAMPLES := hello ramdisk upper
# Programs of Linux on vchan's streams.
STREAMS := vchan-std vchan-tokio
examples: setup
	@cp Cargo.lock examples/Cargo.lock
	@$(CARGO) build --quiet --release --manifest-path examples/Cargo.toml --target $(TARGET) --target-dir "$(BUILD)/examples"
	@mkdir -p out
	@build="$(BUILD)/examples/$(TARGET)/release" && for name in $(EXAMPLES); do \
	    objcopy --strip-all "$$build/$$name" out/$$name.elf || exit; done
	@$(CARGO) build --quiet --release --package xen-linux --features tokio $(addprefix --example ,$(STREAMS)) --target $(NATIVE)
	@build="$(BUILD)/$(NATIVE)/release/examples" && for name in $(STREAMS); do install "$$build/$$name" out/ || exit; done

run: all
	@$(TESTBED) run $(XL)

test: host-tests scenarios

test-full: host-tests fuzz cloud-tests all echo block mix dist
	@$(TESTBED) test --full $(ONLY)
	@out/testbed bare

# Each target for a while, from the seeds that are kept; the first failure ends it, and fuzz/artifacts has its input.
FUZZ_SECONDS ?= 60
fuzz: setup
	@for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
	    echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	    CARGO_TARGET_DIR="$(BUILD)/fuzz" fuzz/run $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 2>"$(BUILD)/fuzz.log" || \
	        { tail -n 40 "$(BUILD)/fuzz.log" >&2; exit 1; }; \
	    grep -E 'average_exec_per_sec|number_of_executed_units' "$(BUILD)/fuzz.log"; done

# The short set of scenarios on every Xen and xenstore daemon: the table in README.
matrix: all
	@out/testbed matrix $(if $(RETRY),--retry) $(ONLY)

host-tests: setup
	$(CARGO) test --quiet --workspace
	$(CARGO) test --quiet --package xen-storage --package xen-disk --features $(DISK_FEATURES)
	$(CARGO) test --quiet --package xen-linux --features tokio
	$(CARGO) test --quiet --package kernel --no-default-features --features block

# Needs PyPI and Debian's packages the first time.
cloud-tests: setup
	@CARGO="$(CARGO)" crates/xen-storage/tests/cloud/run.sh $(ONLY)

scenarios: all echo block mix
	@$(TESTBED) test $(if $(RETRY),--retry) $(ONLY)

bench: all
	@$(TESTBED) bench vchan --plot docs/speed-vchan.svg
	@$(TESTBED) bench block --plot docs/speed-block.svg

# The logs, from which the table and the page are made, are in target/testbed/latest.
reports: all
	@$(TESTBED) test block-reports
	@$(CARGO) run --quiet --release --package xen-exercise-tool --target $(NATIVE) -- table \
	    --into docs/block-reports.md --html docs/block-reports.html target/testbed/latest/block-reports/*.log

# Folders for its files: one on a disk, one in memory.
NATIVE_DIRS ?= /var/tmp /dev/shm
# On this machine itself, in its own time: a benchmark a paragraph.
bench-native: tools
	@$(CARGO) build --quiet --release --package vchan-native --target $(NATIVE)
	@tools/vchan-native/c/build.sh "$$($(TESTBED) sysroot)" "$(BUILD)/bench-native"
	@"$(BUILD)/$(NATIVE)/release/vchan-native" bench "$(BUILD)/bench-native"
	@XEN_DISK="$(CURDIR)/out/xen-disk" $(CARGO) bench --quiet --package xen-nbd --bench native -- $(NATIVE_DIRS)

shell: all
	@$(TESTBED) shell

# Packages that are not for crates.io. Cargo packages all others and builds them from their packages.
UNPUBLISHED = $(filter-out ringside-fuzz,$(shell \
    for manifest in $$(grep -ls '^publish = false' */Cargo.toml */*/Cargo.toml); do sed -n '0,/^name = "\(.*\)"/s//\1/p' $$manifest; done))
check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package xen-storage --package xen-disk --features $(DISK_FEATURES) --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package xen-linux --features tokio --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package kernel --features image -- -D warnings
	$(CARGO) clippy --quiet --package kernel --no-default-features --features image -- -D warnings
	$(CARGO) clippy --quiet --package kernel --no-default-features --features 'image block' -- -D warnings
	$(CARGO) clippy --quiet --package kernel --no-default-features --features 'image mix' -- -D warnings
	$(CARGO) fmt --all --check --manifest-path examples/Cargo.toml
	@cp Cargo.lock examples/Cargo.lock
	$(CARGO) clippy --quiet --manifest-path examples/Cargo.toml --target-dir "$(BUILD)/examples" -- -D warnings
	@# Only checked, so that libFuzzer itself need not be compiled.
	CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a $(CARGO) clippy --quiet --manifest-path fuzz/Cargo.toml --target-dir "$(BUILD)/fuzz" -- -D warnings
	@# Cargo builds packages from a registry of its own. It keeps what it once unpacked and compiled of a version, however old.
	@rm -rf "$(BUILD)/packages" "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/xen-*
	$(CARGO) package --quiet --allow-dirty --target-dir "$(BUILD)/packages" --workspace $(addprefix --exclude ,$(UNPUBLISHED))
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --workspace --lib --bins --no-deps --document-private-items

include packaging/packaging.mk

clean:
	$(CARGO) clean
	rm -rf out
