"""Figures of a RADOS block device on the same Ceph cluster, to compare a disk's with."""

import re

# Bytes in all: what a machine with two cores does in some seconds.
RUNS = [
    ("rbd bench: write of 4 KiB, ms", "write", "4K", 1, "4M", "rand"),
    ("rbd bench: write, 1 threads, MiB/s", "write", "1M", 1, "256M", "seq"),
    ("rbd bench: write, 8 threads, MiB/s", "write", "1M", 8, "256M", "seq"),
    ("rbd bench: read, 1 threads, MiB/s", "read", "1M", 1, "256M", "seq"),
    ("rbd bench: read, 8 threads, MiB/s", "read", "1M", 8, "256M", "seq"),
]


def gateway(bench):
    """A flush of 4 KiB, and what any put of that takes through the gateway."""
    flush = bench.run("flush", bench.stack("flush", size="64G"), 200).number("median")
    put = bench.boto_put(4096, 200)
    bench.figures["beside rbd bench: flush of 4 KiB, ms"] = flush
    bench.figures["beside rbd bench: boto3, put of 4 KiB, ms"] = put
    return [f"flush {flush:.1f}", f"boto3 put 4K {put:.1f}"]


def rbd(bench):
    """`rbd bench` on the same cluster"""
    note = []
    for name, kind, size, threads, total, pattern in RUNS:
        text = bench.engine.rbd_bench(kind, size, threads, total, pattern)
        rates = re.findall(r"ops/sec: ([\d.]+)", text)
        if not rates:
            raise AssertionError(f"rbd bench prints {text[-300:]!r}")
        rate = float(rates[-1])
        figure = 1000 / rate if size == "4K" else rate
        bench.figures[name] = round(figure, 1)
        note.append(f"{kind} {size}, {threads}: {figure:.1f}")
        if size == "4K":
            note += gateway(bench)
    return ", ".join(note)
