#!/bin/sh
# Installs what the commands of the Makefile need beyond make and rustup's Rust. It is silent when all of it is there.
#
#   testbed/setup.sh build    for `make`: a C compiler, with which Rust links
#   testbed/setup.sh test     for `make run` and `make test`: that, an emulator, and tools for images of disks and for NBD
#   testbed/setup.sh full     for `make test-full`: that, and what the long tests take
set -eu

purpose=${1:-}
case $purpose in
build | test | full) ;;
*)
    echo "usage: testbed/setup.sh build|test|full" >&2
    exit 2
    ;;
esac

say() {
    echo "setup: $*" >&2
}

# Packages that are missing: by their names in Debian and Ubuntu, Fedora, Arch, openSUSE, and in Nix.
debian='' fedora='' arch='' suse='' nix=''

needs() {
    debian="$debian $1" fedora="$fedora $2" arch="$arch $3" suse="$suse $4" nix="$nix $5"
}

has() {
    for program; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
}

# One that is not on the PATH of every user.
has_as_root() {
    has "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]
}

# Programs are linked statically: a C compiler prints no path for a libc.a that is not there.
has_compiler() {
    has cc gcc && [ "$(cc -print-file-name=libc.a)" != libc.a ]
}

missing() {
    debian='' fedora='' arch='' suse='' nix=''
    has_compiler || needs 'gcc libc6-dev' 'gcc glibc-static' gcc 'gcc glibc-devel-static' 'gcc glibc.static'
    has objcopy || needs binutils binutils binutils binutils binutils
    [ $purpose = build ] && return
    has qemu-system-x86_64 || needs qemu-system-x86 qemu-system-x86-core qemu-system-x86 qemu-x86 qemu
    has setpriv || needs util-linux util-linux util-linux util-linux util-linux
    has xz || needs xz-utils xz xz xz xz
    has qemu-img qemu-io qemu-nbd || needs qemu-utils qemu-img qemu-img qemu-tools qemu-utils
    has nbdinfo nbdcopy nbdfuse || needs libnbd-bin libnbd libnbd libnbd libnbd
    has nbdkit || needs nbdkit nbdkit nbdkit nbdkit nbdkit
    has fio || needs fio fio fio fio fio
    has_as_root mkfs.ext4 || needs e2fsprogs e2fsprogs e2fsprogs e2fsprogs e2fsprogs
    has fusermount3 || needs fuse3 fuse3 fuse3 fuse3 fuse3
    [ $purpose = test ] && return
    has c++ || needs g++ gcc-c++ gcc gcc-c++ gcc
    python3 -c 'import ensurepip, venv' 2>/dev/null || needs 'python3 python3-venv' python3 python python3 python3
    has debootstrap || needs debootstrap debootstrap debootstrap debootstrap debootstrap
}

# Says what to do where there is no apt.
elsewhere() {
    if has dnf; then
        say "install what is missing, then try again: sudo dnf install$fedora"
    elif has pacman; then
        say "install what is missing, then try again: sudo pacman -S$arch"
    elif has zypper; then
        say "install what is missing, then try again: sudo zypper install$suse"
    elif has nix-shell; then
        say "try again in a shell that has what is missing: nix-shell -p$nix"
    else
        say "there is no apt here: install what Debian calls$debian, then try again"
    fi
    exit 1
}

# Runs apt-get as root. It asks nothing; sudo may ask for a password, but only at a terminal.
apt() {
    umask 022
    set -- env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -q -o DPkg::Lock::Timeout=600 "$@"
    if [ "$(id -u)" = 0 ]; then
        "$@" </dev/null
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@" </dev/null
    fi >"$log" 2>&1 || { cat "$log" >&2 && return 1; }
}

has cargo || { say "cargo is missing: install Rust through rustup, then try again" && exit 1; }
missing
if [ -n "$debian" ]; then
    has apt-get || elsewhere
    if [ "$(id -u)" != 0 ] && ! has sudo; then
        say "as root, run: apt-get install --no-install-recommends$debian"
        exit 1
    fi
    say "installing with apt-get, for this and what comes after it:$debian"
    if [ -t 0 ]; then
        printf 'setup: go on? [Y/n] ' >&2
        read -r answer || answer=n
        case $answer in n* | N*) say "nothing was installed" && exit 1 ;; esac
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # Lists that are old name packages that are gone; a new machine has none.
    # shellcheck disable=SC2086 # they are words
    apt install -y --no-install-recommends $debian 2>/dev/null ||
        { apt update && apt install -y --no-install-recommends $debian; } ||
        { say "apt-get could not install:$debian" && exit 1; }
    installed=$debian
    missing
    [ -z "$debian" ] || { say "installed are$installed, but what$debian should bring is not found on PATH" && exit 1; }
fi
if [ $purpose != build ] && ! has apt-get apt-cache dpkg-deb; then
    say "the emulated Xen host is made of Debian's packages by apt and dpkg, so 'make run' and 'make test' need Debian" \
        "or Ubuntu, or a container of one. 'make' alone works here, and so do the tools on a Xen host."
    exit 1
fi
