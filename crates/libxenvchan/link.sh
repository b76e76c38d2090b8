#!/bin/sh
# Links the static library into the shared one:
#
#   crates/libxenvchan/link.sh ARCHIVE FOLDER
#
# FOLDER gets libxenvchan.so, and the names under which programs of each Xen version look for it.
# Programs of Debian 13 ask for symbols of the version libxenvchan_4.20.0, those of Debian 12 for
# VERS_4.17.0, and those of Debian 11 for none. This library has all versions of both kinds, without
# a symbol in any, and its functions without a version: so it has what each of them asks for. What it needs of the C library is as old
# as Debian 11.
set -eu
here=$(dirname "$0")
archive=$1 folder=$2
first=14 last=29
mkdir -p "$folder"
map=$folder/versions.map
compat=$folder/compat.o
trap 'rm -f "$map" "$compat"' EXIT
minor=$first
hidden=' local: rust_*; _*;'
while [ "$minor" -le "$last" ]; do
    echo "libxenvchan_4.$minor.0 {$hidden };"
    hidden=
    echo "VERS_4.$minor.0 { };"
    ln -sfn libxenvchan.so "$folder/libxenvchan.so.4.$minor"
    minor=$((minor + 1))
done >"$map"
${CC:-gcc} -O2 -fPIC -c -o "$compat" "$here/compat.c"
${CC:-gcc} -shared -o "$folder/libxenvchan.so" -Wl,-soname,libxenvchan.so \
    -Wl,--version-script="$map" -Wl,--whole-archive "$archive" -Wl,--no-whole-archive "$compat" \
    -Wl,--wrap=dlsym,--wrap=stat64,--wrap=fstat64 \
    -Wl,--no-as-needed -l:libdl.so.2 -Wl,--gc-sections,-z,defs,-z,relro,-z,now,--strip-all
