"""All that the cases of the cloud tests use: a store, programs that use it, proxies before it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import Failed, wait_for

HERE = Path(__file__).parent
BUCKET = "disks"


class Worker:
    """The program `object_load`, and what it has said so far."""

    def __init__(self, bench, words, environment):
        words = [bench.program, *map(str, words)]
        self.text = " ".join(map(str, words[1:]))
        self.lines = []
        self.said = {}
        self.times = []
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        words = ["setpriv", "--pdeathsig", "KILL", *words]
        self.process = subprocess.Popen(words, env=environment, text=True, **pipes)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            self.said[word] = rest
            if word == "flushed":
                self.times.append(time.monotonic())
            elif word != "begun":
                self.lines.append(line.strip())

    def number(self, word):
        return float(self.said.get(word, "0").split()[0])

    def gap(self):
        """The longest time without a flush, in seconds."""
        return max((b - a for a, b in zip(self.times, self.times[1:])), default=0.0)

    def wait_until(self, word, seconds=60):
        """Waits until it says a word."""
        end = time.monotonic() + seconds
        while word not in self.said:
            if self.process.poll() is not None and not self.thread.is_alive():
                raise Failed(f"{self.text}: ended without {word!r}: {self.lines[-3:]}")
            if time.monotonic() > end:
                raise Failed(f"{self.text}: no {word!r} in {seconds} s: {self.lines[-3:]}")
            time.sleep(0.02)
        return self.said[word]

    def tell(self):
        """Gives it a line."""
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def wait(self, seconds=120, fails=False):
        """Waits for its end, which has to be a good one, or a bad one."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.text}: no end in {seconds} s: {self.lines[-3:]}") from None
        self.thread.join(10)
        if (code != 0) != fails:
            raise Failed(f"{self.text}: exit code {code}: {self.lines[-3:]}")
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.thread.join(10)

    def program(self, seed):
        """What `check` has to know about it."""
        return f"{seed}:{int(self.number('flushed'))}:{int(self.number('begun'))}"


class Proxy:
    """A proxy before the store of a bench."""

    def __init__(self, bench, **options):
        words = [sys.executable, str(HERE / "proxy.py"), str(bench.engine.port)]
        words += [f"{name}={value}" for name, value in options.items()]
        words = ["setpriv", "--pdeathsig", "KILL", *words]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise Failed("the proxy did not start")
        self.port = int(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Ends it, and returns what it has counted."""
        if self.process.poll() is None:
            self.process.terminate()
        text, _ = self.process.communicate(timeout=20)
        return json.loads(text) if text.strip() else {}


class Bench:
    """A store, and programs that use it."""

    def __init__(self, engine, program, tests, output):
        self.engine = engine
        self.program = program
        self.tests = tests
        self.output = output
        self.figures = {}
        self.workers = []

    def stack(self, name, size="64M", **options):
        """A disk in a folder of its own."""
        options = "".join(f",{key}={value}" for key, value in options.items())
        return f"object:s3://{BUCKET}/{name},size={size}{options}"

    def start(self, *words, port=None, environment=None):
        """Starts the program."""
        environment = environment or self.engine.keys(port or self.engine.port)
        worker = Worker(self, words, environment)
        self.workers.append(worker)
        return worker

    def run(self, *words, port=None, environment=None, seconds=120, fails=False):
        """Runs the program to its end."""
        worker = self.start(*words, port=port, environment=environment)
        return worker.wait(seconds, fails)

    def check(self, stack, *programs):
        """Compares all bytes of a disk."""
        self.run("check", stack, *programs)

    def written(self, name, seed, seconds, during=None, port=None, limit=120):
        """Writes for a while, does something meanwhile, and compares all bytes then."""
        stack = self.stack(name)
        worker = self.start("write", stack, seed, seconds, port=port)
        worker.wait_until("flushed")
        if during:
            during(worker)
        worker.wait(seconds + limit)
        self.check(stack, worker.program(seed))
        return worker

    def rust_tests(self, test, *names, port=None, seconds=240, **more):
        """Runs tests of the crate on the store."""
        environment = self.engine.keys(port or self.engine.port)
        environment.update(XEN_DISK_TEST_URL=f"s3://{BUCKET}/{test}", **more)
        words = ["setpriv", "--pdeathsig", "KILL", self.tests[test], "--test-threads=4", *names]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, text=True, errors="replace",
        )
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failed(f"{test}: not done after {seconds} s") from None
        if process.returncode != 0:
            raise Failed(f"{test}: {text.strip()[-1500:]}")
        if " 0 passed" in text:
            raise Failed(f"{test}: no test of {names} was run")

    def boto(self, port, mib):
        """MiB/s at which boto3 puts and gets objects of 1 MiB with 8 threads."""
        client = self.engine.s3(port)
        body = os.urandom(2**20)
        rates = {}

        def put(number):
            head = number.to_bytes(8, "big")
            client.put_object(Bucket=BUCKET, Key=f"boto/{number}", Body=head + body[8:])

        def get(number):
            return client.get_object(Bucket=BUCKET, Key=f"boto/{number}")["Body"].read()

        with ThreadPoolExecutor(8) as threads:
            for name, work in (("put", put), ("get", get)):
                began = time.monotonic()
                list(threads.map(work, range(mib)))
                rates[name] = round(mib / (time.monotonic() - began), 1)
        return rates

    def boto_put(self, size, count):
        """Median of the ms that boto3 takes to put an object."""
        client = self.engine.s3()
        times = []
        for number in range(count):
            body = os.urandom(size)
            began = time.monotonic()
            client.put_object(Bucket=BUCKET, Key=f"small/{number}", Body=body)
            times.append(time.monotonic() - began)
        return round(sorted(times)[count // 2] * 1000, 1)

    def clean(self):
        """Ends what a case has left."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.workers.clear()

    def recovered(self, seconds=60):
        """Waits until the store is whole again."""
        self.engine.wait_healthy()

        def works():
            try:
                self.engine.s3().put_object(Bucket=BUCKET, Key="works", Body=b"1")
                return True
            except Exception:
                return False

        wait_for("the store works", seconds, works)
