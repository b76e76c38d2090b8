#!/bin/sh
# Builds what runs Xen's library between two processes of this machine:
#
#   tools/vchan-native/c/build.sh SYSROOT FOLDER
#
# SYSROOT has Debian's headers and its unmodified libxenvchan; FOLDER gets that, the stand-ins for the
# libraries that it needs, and the program.
set -eu
here=$(dirname "$0")
sysroot=$1 folder=$2
lib=$sysroot/usr/lib/x86_64-linux-gnu
mkdir -p "$folder/include"
# Xen's headers alone: the C library is this machine's.
cp -R "$sysroot/usr/include/xen" "$sysroot"/usr/include/xen*.h "$sysroot/usr/include/libxenvchan.h" \
    "$folder/include/"
for library in "$lib"/libxenvchan.so.4.*; do
    case $library in *.0) ;; *) cp -L "$library" "$folder/"; name=${library##*/} ;; esac
done
# Shared libraries of this name, whose functions have this version.
standin() {
    printf '%s { global: %s local: *; };\n' "$2" "$3" >"$folder/version"
    gcc -O2 -Wall -Wextra -shared -fPIC -o "$folder/$1" -Wl,-soname,"$1" \
        -Wl,--version-script="$folder/version" "$here/standins.c"
    rm "$folder/version"
}
standin libxengnttab.so.1 VERS_1.0 'xengnttab_*; xengntshr_*;'
standin libxenevtchn.so.1 VERS_1.0 'xenevtchn_*;'
standin libxenstore.so.4 VERS_4.0 'xs_*;'
gcc -O3 -Wall -Wextra -I"$folder/include" -o "$folder/native-c" "$here/native-c.c" "$folder/$name" \
    -Wl,-rpath-link,"$folder" -Wl,-rpath,'$ORIGIN'
