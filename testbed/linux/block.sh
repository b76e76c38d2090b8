# What the Linux guest does with a disk; init reads this file in for role=blk-*.
# disk=xvda says which (default: xvda; blk-write and blk-verify also take xvda,xvdb,...), further words:
#
#   role=blk-write seed=N generation=N first=N sectors=N
#       writes stamped sectors (testbed/peers/blk-stamp.c); all defaults are 0, sectors=0 is all
#   role=blk-verify seed=N generation=N first=N sectors=N
#       checks stamped sectors
#   role=blk-fs fs=SIZE sums=xvdb
#       makes a filesystem (of that size, as mkfs.ext4 takes it; default: as large as the disk), writes files, and reads
#       them back after mounting it anew; says their checksums. With sums=, also says those of the whole disk and writes
#       those of its sectors to that other one (testbed/peers/blk-sum.c)
#   role=blk-bench backend=NAME amount=MIB
#       measures it (testbed/peers/blk-bench.c)
#   role=blk-hold
#       says what disks there are, and again whenever one comes, goes or changes its size, until it is destroyed;
#       reads a little of each in between, because Linux as backend tells of a new size only with a request
#   role=blk-session
#       reads it past the cache, mounts the filesystem on it, changes a file, and says when the disk is gone
#   role=blk-use
#       reads each disk that there is, again and again, also beside reads that never end
#   role=blk-mount
#       mounts the filesystem on it and keeps it mounted

modprobe xen-blkfront 2>/dev/null
disk=${disk:-xvda}

# Waits until the disk $1 is there: its driver connects while we go on.
there() {
    for _ in $(seq 300); do
        [ -b "/dev/$1" ] && return
        usleep 100000
    done
    fail "there is no /dev/$1"
}

stamped() {
    for name in $(echo "$disk" | tr , ' '); do
        there "$name"
        said=$(blk-stamp "$1" -d -s "${seed:-0}" -g "${generation:-0}" -f "${first:-0}" -n "${sectors:-0}" \
            "/dev/$name" 2>&1) || fail "$said"
        echo "$said"
    done
    finish "$disk is as it should be"
}

sums() {
    (cd /mnt && sha256sum -- * | sha256sum)
}

filesystem() {
    there "$disk"
    modprobe crc32c_generic 2>/dev/null
    modprobe ext4 2>/dev/null
    mkfs.ext4 -q -F "/dev/$disk" ${fs:+"$fs"} || fail "mkfs.ext4"
    mount -t ext4 "/dev/$disk" /mnt || fail "mount"
    for number in $(seq 40); do
        head -c $((number * 9973)) /dev/urandom >"/mnt/file-$number" || fail "file-$number"
        [ $((number % 10)) = 0 ] && rm "/mnt/file-$((number - 5))"
    done
    before=$(sums)
    umount /mnt || fail "umount"
    # What was kept in memory is forgotten.
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 -o ro "/dev/$disk" /mnt || fail "mount again"
    after=$(sums)
    umount /mnt || fail "umount again"
    [ "$before" = "$after" ] || fail "the files are not as they were written"
    if [ -n "$sums" ]; then
        there "$sums"
        blk-sum "/dev/$disk" -d -l "$disk" -t "/dev/$sums" || fail "blk-sum"
    fi
    finish "files $after"
}

bench() {
    there "$disk"
    blk-bench "/dev/$disk" "${backend:-unnamed}" "${amount:-100}" || fail "blk-bench ended with $?"
    finish "measured"
}

# One line: each disk with its size in sectors of 512 bytes.
disks() {
    for path in /sys/block/xvd*; do
        [ -e "$path/size" ] && printf ' %s=%s' "${path##*/}" "$(cat "$path/size")"
    done
}

hold() {
    seen=none
    while :; do
        now=$(disks)
        if [ "$now" != "$seen" ]; then
            echo "blk-hold: disks:${now:- none}."
            seen=$now
        fi
        for path in /sys/block/xvd*; do
            [ -e "$path" ] && blk-stamp verify -d -n 8 "/dev/${path##*/}" >/dev/null 2>&1
        done
        usleep 200000
    done
}

use_all() {
    echo "blk-use: begun."
    while :; do
        for path in /sys/block/xvd*; do
            [ -e "$path" ] && blk-stamp verify -d -n 64 "/dev/${path##*/}" >/dev/null 2>&1 &
        done
        usleep 100000
    done
}

mounted() {
    there "$disk"
    modprobe crc32c_generic 2>/dev/null
    modprobe ext4 2>/dev/null
    mount -t ext4 "/dev/$disk" /mnt || fail "mount"
}

session() {
    there "$disk"
    # Busybox has a dd of its own, which in Debian 11 does not know direct.
    said=$(/usr/bin/dd if="/dev/$disk" of=/dev/null bs=1M count=100 iflag=direct 2>&1) || fail "dd: $said"
    echo "$said"
    mounted
    grep -q golden /mnt/file || fail "the file is not the golden one"
    echo changed >/mnt/file && dd if=/dev/urandom of=/mnt/more bs=64k count=64 2>/dev/null || fail "cannot write"
    umount /mnt || fail "umount"
    echo 3 >/proc/sys/vm/drop_caches
    mounted
    grep -q changed /mnt/file || fail "the change is not there"
    umount /mnt || fail "umount again"
    echo "blk-session: changed."
    while [ -b "/dev/$disk" ]; do usleep 100000; done
    finish "the disk is gone"
}

case "$role" in
blk-write) stamped write ;;
blk-verify) stamped verify ;;
blk-fs) filesystem ;;
blk-bench) bench ;;
blk-hold) hold ;;
blk-use) use_all ;;
blk-session) session ;;
blk-mount) mounted && echo "blk-mount: mounted." && while :; do sleep 60; done ;;
*) fail "role=$role is none of blk-write, blk-verify, blk-fs, blk-bench, blk-hold, blk-use, blk-session, blk-mount" ;;
esac
