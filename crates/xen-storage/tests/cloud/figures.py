"""Figures of a RADOS block device on the same Ceph cluster, to compare a disk's with."""

import re

# Bytes in all: what a machine with two cores does in some seconds.
RUNS = [
    ("rbd bench: write of 4 KiB, ms", "write", "4K", 1, "2M", "rand"),
    ("rbd bench: write, 1 threads, MiB/s", "write", "1M", 1, "256M", "seq"),
    ("rbd bench: write, 8 threads, MiB/s", "write", "1M", 8, "256M", "seq"),
    ("rbd bench: read, 1 threads, MiB/s", "read", "1M", 1, "256M", "seq"),
    ("rbd bench: read, 8 threads, MiB/s", "read", "1M", 8, "256M", "seq"),
]


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
        note.append(f"{kind} {size}, {threads}: {figure:.0f}")
    return ", ".join(note)
