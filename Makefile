# make          the unikernel and the tools, into out/
# make echo     the unikernel without disks, which serves the echo alone: out/ringside-echo.elf
# make run      boots an emulated Xen host, starts the guest in it and lets you type at it
# make test     tests on this machine, then scenarios on real Xen; make test-full also those that take long
# make bench    the speed of vchan and of disks beside that of a Linux guest, on an emulated host whose time is a count
#               of instructions
# make check    formatting, lints, documentation
# make clean    removes what was built

TARGET ?= x86_64-unknown-linux-gnu
HOST   := x86_64-unknown-linux-gnu
BUILD  := $(or $(CARGO_TARGET_DIR),target)
CARGO  ?= cargo
# Words for `xl create`, for instance: make run XL='memory=64'
XL     ?=
# Names of scenarios, or parts of them, for instance: make scenarios ONLY='echo memory'
ONLY   ?=

.PHONY: all kernel echo tools run test test-full host-tests cloud-tests scenarios bench shell check clean

all: kernel tools

# The kernel is built alone: features that other members of the workspace ask of shared crates must not reach it. Its code
# runs where it is linked, and need not find out where it is. Two options of LLVM take 17 KB from it: runs of instructions
# that come again and again become functions, and small tables of jumps, of 8 bytes for each place, comparisons.
KERNEL_FLAGS := -C relocation-model=static -C llvm-args=-enable-machine-outliner=always \
    -C llvm-args=-min-jump-table-entries=16
kernel: IMAGE := ringside
kernel: FEATURES := block
echo: IMAGE := ringside-echo
echo: FEATURES :=
kernel echo:
	@$(CARGO) rustc --quiet --profile kernel --package kernel --bin ringside --no-default-features --features '$(FEATURES)' \
	    --target $(TARGET) -- $(KERNEL_FLAGS)
	@mkdir -p out
	@install $(BUILD)/$(TARGET)/kernel/ringside out/$(IMAGE).debug
	@objcopy --strip-all out/$(IMAGE).debug out/$(IMAGE).elf
	@printf '%-17s %s bytes\n' out/$(IMAGE).elf "$$(stat -c %s out/$(IMAGE).elf)"

tools:
	@$(CARGO) build --quiet --release --package vchan --package xen-disk --package testbed --features xen-disk/formats,xen-disk/object --target $(HOST)
	@mkdir -p out
	@install $(BUILD)/$(HOST)/release/vchan $(BUILD)/$(HOST)/release/xen-disk $(BUILD)/$(HOST)/release/testbed out/
	@mkdir -p out/share && out/vchan generate out/share && out/xen-disk generate out/share
	@printf 'out/vchan         %s bytes\n' "$$(stat -c %s out/vchan)"
	@printf 'out/xen-disk      %s bytes\n' "$$(stat -c %s out/xen-disk)"

run: all
	@out/testbed run $(XL)

test: host-tests scenarios

test-full: host-tests cloud-tests all echo
	@out/testbed test --full $(ONLY)

# Needs qemu-img, which Debian has in qemu-utils.
host-tests:
	$(CARGO) test --quiet --workspace
	$(CARGO) test --quiet --package xen-disk --features formats,object

# Needs python3 with venv, and PyPI the first time.
cloud-tests:
	@CARGO="$(CARGO)" tools/xen-disk/tests/s3.sh

scenarios: all echo
	@out/testbed test $(ONLY)

bench: all
	@out/testbed bench vchan
	@out/testbed bench block

shell: all
	@out/testbed shell

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --exclude kernel --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package xen-disk --features formats,object --all-targets -- -D warnings
	$(CARGO) clippy --quiet --package kernel -- -D warnings
	$(CARGO) clippy --quiet --package kernel --lib --tests -- -D warnings
	$(CARGO) clippy --quiet --package kernel --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --workspace --exclude kernel --no-deps --document-private-items
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --package kernel --lib --no-deps --document-private-items

clean:
	$(CARGO) clean
	rm -rf out
