#!/bin/sh
# Runs the tests of a disk in a bucket against an S3 server on this machine: moto, from PyPI, in a folder of its own.
#
#   crates/xen-storage/tests/s3.sh [NAMES OF TESTS]
#
# With XEN_DISK_TEST_URL, for instance s3://disks/folder, it is another server that runs already: AWS_ENDPOINT and the other
# environment variables of S3 say where.
set -eu

cd "$(dirname "$0")/../../.."
folder=${RINGSIDE_CACHE:-$HOME/.cache/ringside}/s3
tests() {
    ${CARGO:-cargo} test --quiet --package xen-storage --features cloud --test object_cloud --test killed -- "$@"
}
if [ -n "${XEN_DISK_TEST_URL:-}" ]; then
    tests "$@"
    exit
fi
log=$(mktemp)
server=

finish() {
    status=$?
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    [ $status = 0 ] || cat "$log" >&2
    rm -f "$log"
}
trap finish EXIT

# An installation that was cut off, or whose Python has been replaced since, is made anew.
if ! "$folder/bin/python" -c 'import boto3, moto.server' 2>/dev/null; then
    echo "s3.sh: installing an S3 server into $folder" >&2
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5' >"$log" 2>&1
fi

# The system chooses a port, and the server says which.
PYTHONUNBUFFERED=1 "$folder/bin/moto_server" --host 127.0.0.1 --port 0 >"$log" 2>&1 &
server=$!
address=
for _ in $(seq 600); do
    address=$(sed -n 's|.*Running on \(http://127.0.0.1:[0-9]*\).*|\1|p' "$log")
    [ -z "$address" ] || break
    kill -0 "$server"
    sleep 0.1
done
[ -n "$address" ]

export AWS_ENDPOINT=$address AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
"$folder/bin/python" - <<'END'
import os, boto3
boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"]).create_bucket(Bucket="disks")
END
export XEN_DISK_TEST_URL=s3://disks/folder
tests "$@"
