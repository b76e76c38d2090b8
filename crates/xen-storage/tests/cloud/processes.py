"""Processes of the cloud tests: each is ended by its id, and none outlives the tests."""

import os
import signal
import socket
import subprocess
import time


class Failed(Exception):
    """The reason why a case has failed."""


class Process:
    """A process whose output is in a log."""

    def __init__(self, log, words, environment=None, **more):
        self.name = log.stem
        self.log = log
        # The kernel ends it if these tests are killed.
        words = ["setpriv", "--pdeathsig", "KILL", *map(str, words)]
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, **more
            )

    def runs(self):
        return self.process.poll() is None

    def end(self, how=signal.SIGTERM, seconds=15):
        """Ends it, and kills it if it does not end in time."""
        if not self.runs():
            return
        self.process.send_signal(how)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        self.end(signal.SIGKILL)


def free_ports(count):
    """Ports that the system does not use now, and not for connections of its own."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    ports, number = [], 0
    start = 10000 + os.getpid() * 37 % max(first - 14000, 1000)
    while len(ports) < count and number < 3000:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", start + number))
                ports.append(start + number)
            except OSError:
                pass
        number += 1
    if len(ports) < count:
        raise Failed("there are no free ports")
    return ports


def wait_for(what, seconds, ready, processes=()):
    """Waits until `ready` returns something true, while these processes run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        for process in processes:
            if not process.runs():
                text = process.log.read_text(errors="replace")[-2000:]
                raise Failed(f"{what}: {process.name} has ended: {text}")
        time.sleep(0.1)
    raise Failed(f"{what}: not after {seconds} s")


def answers(port):
    """Returns whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def run(words, environment=None, seconds=120, **more):
    """Runs a program to its end, and returns what it prints."""
    words = [str(word) for word in words]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, timeout=seconds, **more
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)}: not done after {seconds} s") from None
    if done.returncode != 0:
        text = (done.stderr + done.stdout).decode(errors="replace")[-1500:]
        raise Failed(f"{' '.join(words)}: {text.strip()}")
    return done.stdout.decode(errors="replace")
