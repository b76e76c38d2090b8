"""The cases of the cloud tests. Each returns what is worth telling of it, and raises if it fails."""

import time

from bench import Proxy
from processes import Failed

SEEDS = iter(range(100, 1000))


class Skip(Exception):
    """The reason why a case cannot be tried on a store."""


def round_trip(bench):
    """writes, flushes, discards; conditions; 8 threads put one object; a disk with any name"""
    bench.rust_tests("object_cloud")
    worker = bench.written("trip", next(SEEDS), 3)
    return f"{worker.said['flushes']} flushes"


def writer_killed(bench):
    """kill -9 of the writer, 6 times"""
    bench.rust_tests("killed", "--exact", "object_in_a_bucket")
    stack, seed = bench.stack("killed2"), next(SEEDS)
    worker = bench.start("write", stack, seed, 60)
    worker.wait_until("flushed")
    time.sleep(2)
    worker.kill()
    # The kernel tells that its process has ended: no lease has to run out.
    began = time.monotonic()
    bench.check(stack, worker.program(seed))
    return f"{len(worker.times)} flushes kept, opened again in {time.monotonic() - began:.1f} s"


def killed_nodes(bench, count, down, seconds):
    if not bench.engine.nodes:
        raise Skip("it has no nodes")
    engine = bench.engine

    def during(worker):
        time.sleep(3)
        for number in range(count):
            engine.kill_node(number)
        time.sleep(down)
        for number in range(count):
            engine.start_node(number)

    try:
        worker = bench.written(f"nodes{count}", next(SEEDS), seconds, during)
    finally:
        for number in range(count):
            engine.kill_node(number)
            engine.start_node(number)
    bench.recovered()
    bench.figures[f"longest gap with {count} nodes killed, s"] = round(worker.gap(), 1)
    return f"longest gap {worker.gap():.1f} s"


def node_killed(bench):
    """kill -9 of one storage node of three, for 10 s"""
    return killed_nodes(bench, 1, 10, 14)


def two_nodes_killed(bench):
    """kill -9 of two storage nodes of three, for 20 s"""
    return killed_nodes(bench, 2, 20, 26)


def gateway_restart(bench):
    """kill -9 of the gateway, which is away for 15 s"""
    engine = bench.engine
    if not engine.nodes:
        raise Skip("it keeps everything in its one process")

    def during(worker):
        time.sleep(2)
        engine.kill_gateway()
        time.sleep(15)
        engine.start_gateway()

    worker = bench.written("gateway", next(SEEDS), 20, during)
    return f"longest gap {worker.gap():.1f} s"


def faults(bench, name, seconds, **options):
    proxy = Proxy(bench, **options)
    try:
        stack, seed = bench.stack(name), next(SEEDS)
        worker = bench.start("write", stack, seed, seconds, port=proxy.port)
        worker.wait(seconds + 180)
        # Read through the faults, and without.
        bench.run("check", stack, worker.program(seed), port=proxy.port)
        bench.check(stack, worker.program(seed))
    finally:
        counts = proxy.end()
    return worker, counts


def storm(bench):
    """30 % of all requests are answered with 503, 429 or 500"""
    worker, counts = faults(bench, "storm", 10, busy=0.3)
    if not counts["refused"]:
        raise Failed("nothing was refused")
    return f"{counts['refused']} of {counts['requests']} refused, {worker.said['flushes']} flushes"


def lost_answers(bench):
    """20 % of all requests are carried out without an answer"""
    worker, counts = faults(bench, "lost", 10, lost=0.2)
    if not counts["lost"]:
        raise Failed("nothing was lost")
    return f"{counts['lost']} of {counts['requests']} lost, {worker.said['flushes']} flushes"


def hung_requests(bench):
    """2 % of all requests are never answered"""
    worker, counts = faults(bench, "hung", 10, hang=0.02)
    if not counts["hung"]:
        raise Failed("nothing hung")
    return f"{counts['hung']} of {counts['requests']} hung, longest gap {worker.gap():.1f} s"


def latency(bench):
    """20 ms to each answer: 1 MiB sequentially, with 1 and 8 threads"""
    note = []
    mib = 256
    with Proxy(bench, latency=20) as proxy:
        bench.written("late", next(SEEDS), 3, port=proxy.port)
        for threads in (1, 8):
            stack = bench.stack(f"late{threads}", size="1G")
            for what in ("write", "read"):
                worker = bench.run("speed", stack, what, threads, mib, port=proxy.port)
                rate = worker.number("rate")
                bench.figures[f"20 ms: {what}, {threads} threads, MiB/s"] = rate
                note.append(f"{what} {rate:.0f}")
        for what, rate in bench.boto(proxy.port, mib).items():
            bench.figures[f"20 ms: boto3, {what}, 8 threads, MiB/s"] = rate
            note.append(f"boto3 {what} {rate:.0f}")
    return ", ".join(note) + " MiB/s"


def sequential(bench):
    """1 MiB sequentially, with 1 and 8 threads"""
    note = []
    for threads in (1, 8):
        stack = bench.stack(f"speed{threads}", size="1G")
        for what in ("write", "read"):
            worker = bench.run("speed", stack, what, threads, 256)
            rate = worker.number("rate")
            bench.figures[f"{what}, {threads} threads, MiB/s"] = rate
            note.append(f"{what} {rate:.0f}")
    for what, rate in bench.boto(bench.engine.port, 256).items():
        bench.figures[f"boto3, {what}, 8 threads, MiB/s"] = rate
        note.append(f"boto3 {what} {rate:.0f}")
    return ", ".join(note) + " MiB/s"


def refused(bench, name, expected, stack=None, **more):
    began = time.monotonic()
    worker = bench.run("open", stack or bench.stack(name), fails=True, seconds=60, **more)
    took = time.monotonic() - began
    text = worker.said.get("failed", "")
    if expected not in text:
        raise Failed(f"it says {text!r}, and not {expected!r}")
    if took > 20:
        raise Failed(f"it takes {took:.1f} s to say so")
    return f"{took:.1f} s"


def wrong_keys(bench):
    """the secret key is wrong"""
    if not bench.engine.checks_keys:
        raise Skip("it takes any key")
    environment = bench.engine.keys(bench.engine.port, secret="no such secret")
    return refused(bench, "keys", "refuses the keys", environment=environment)


def wrong_clock(bench):
    """requests say a time that is an hour late"""
    if not bench.engine.checks_clock:
        raise Skip("it takes any time")
    with Proxy(bench, date=3600) as proxy:
        return refused(bench, "clock", "clock is wrong", port=proxy.port)


def missing_bucket(bench):
    """there is no such bucket"""
    stack = "object:s3://no-such-bucket/x,size=64M"
    return refused(bench, "", "there is no such bucket", stack=stack)


def quota(bench):
    """a bucket over its quota is read and collected; with more room the writer goes on"""
    engine = bench.engine
    if not engine.has_quota:
        raise Skip("it has no quotas")
    engine.make_bucket("limited")
    old, seed, new = "object:s3://limited/x,name=old,size=64M", next(SEEDS), next(SEEDS)
    first = bench.run("write", old, seed, 1)
    engine.set_quota("limited", engine.bytes_of("limited") // 2**20 + 24)
    if engine.tells_quota:
        worker = bench.start("full", "object:s3://limited/x,size=512M")
        said = worker.wait_until("full", 120)
        if "QuotaExceeded" not in said:
            raise Failed(f"a full bucket is told as {said!r}")
        worker.wait_until("read", 60)
    else:
        worker = bench.start("write", "object:s3://limited/x,size=64M", new, 30)
        engine.wait_full("limited")
        flushed = worker.wait_until("flushed")
        time.sleep(5)
        if worker.said["flushed"] != flushed:
            raise Failed("a full bucket takes what is flushed")
    # What is there can be read by others, and garbage is collected.
    bench.check(old + ",ro", first.program(seed))
    collected = bench.run("gc", "s3://limited/x")
    engine.set_quota("limited", None)
    if engine.tells_quota:
        worker.tell()
    worker.wait(120)
    if not engine.tells_quota:
        bench.check("object:s3://limited/x,size=64M", worker.program(new))
    bench.check(old, first.program(seed))
    told = "told" if engine.tells_quota else "taken for an outage"
    return f"{told}; gc beside it removed {collected.said['removed']} objects"


def gc_beside_writer(bench):
    """gc is killed, and run again, while a writer goes on"""
    name, seed = "gc", next(SEEDS)
    stack = bench.stack(name, size="16M")
    worker = bench.start("write", stack, seed, 75)
    worker.wait_until("flushed")
    time.sleep(3)
    store = f"s3://disks/{name}"
    killed = bench.start("gc", store)
    time.sleep(8)
    killed.kill()
    began = time.monotonic()
    collected = bench.run("gc", store)
    took = time.monotonic() - began
    if worker.process.poll() is not None:
        raise Failed("the writer has ended before gc")
    worker.wait(120)
    bench.check(stack, worker.program(seed))
    if collected.number("removed") == 0:
        raise Failed("there was no garbage")
    return f"{collected.said['removed']} objects removed in {took:.0f} s"


def take_over(bench):
    """a second opener is refused, takes over, and the older holder is fenced"""
    stack, old, new = bench.stack("fence"), next(SEEDS), next(SEEDS)
    first = bench.start("write", stack, old, 60)
    first.wait_until("flushed")
    refusal = refused(bench, "", "is in use by process", stack=stack)
    second = bench.start("write", stack + ",takeover", new, 4)
    second.wait_until("opened")
    first.wait(30, fails=True)
    if "was taken over by process" not in first.said.get("failed", ""):
        raise Failed(f"the older holder says {first.lines[-3:]}")
    second.wait(60)
    bench.check(stack, first.program(old), second.program(new))
    return f"refused in {refusal}"


def flush_cost(bench):
    """a flush of 4 KiB costs the same at 1 GiB and at 4 TiB"""
    times = {}
    for size in ("1G", "4T"):
        worker = bench.run("flush", bench.stack(f"flush{size}", size=size), 100)
        times[size] = worker.number("median")
        bench.figures[f"flush of 4 KiB at {size}iB, ms"] = times[size]
    if times["4T"] > 2 * times["1G"] + 5:
        raise Failed(f"{times['1G']} ms at 1 GiB, {times['4T']} at 4 TiB")
    return f"{times['1G']:.1f} and {times['4T']:.1f} ms"


def amplification(bench):
    """random writes of 4 KiB, flushed after every 16: bytes that are uploaded"""
    proxy = Proxy(bench)
    try:
        stack = bench.stack("random", size="64G")
        worker = bench.run("random", stack, 16000, 16, port=proxy.port, seconds=240)
    finally:
        counts = proxy.end()
    times = counts["bytes"] / worker.number("bytes")
    bench.figures["write amplification"] = round(times, 1)
    if times > 16:
        raise Failed(f"{times:.1f} times the bytes are uploaded")
    return f"{times:.1f} times, {counts.get('HEAD', 0)} HEADs"


def discard(bench):
    """discard of 256 GiB"""
    worker = bench.run("discard", bench.stack("discard", size="256G", memory="8M"))
    bench.figures["discard of 256 GiB, ms"] = worker.number("took")
    bench.figures["memory of that, MiB"] = worker.number("peak")
    if worker.number("peak") >= 64:
        raise Failed(f"it takes {worker.said['peak']} MiB of memory")
    return f"{worker.said['took']} ms, {worker.said['peak']} MiB"


CASES = [
    round_trip,
    writer_killed,
    take_over,
    missing_bucket,
    wrong_keys,
    wrong_clock,
    storm,
    lost_answers,
    hung_requests,
    flush_cost,
    amplification,
    discard,
    sequential,
    latency,
    gc_beside_writer,
    quota,
    gateway_restart,
    node_killed,
    two_nodes_killed,
]
