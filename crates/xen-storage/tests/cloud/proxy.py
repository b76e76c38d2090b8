"""A proxy before an S3 server that makes the network slow or faulty, and counts.

proxy.py SERVER_PORT latency=MILLISECONDS
proxy.py SERVER_PORT [busy=PART] [lost=PART] [hang=PART] [date=SECONDS] [seed=N]

latency: time from a request to its answer, beside what the server takes: all bytes come later by
the half of it, in both directions, and nothing else is done. busy: this part of the requests is
refused with 503, 429 or 500; lost: this part is carried out, and the connection closed
without an answer; hang: this part is never answered; date: requests say a time that is later by
this. It prints its port, and when it is ended the numbers of requests and of bytes in their bodies.
"""

import asyncio
import collections
import datetime
import json
import os
import random
import re
import signal
import sys

server = int(sys.argv[1])
options = dict(word.split("=") for word in sys.argv[2:])
names = ("latency", "busy", "lost", "hang", "date")
latency, busy, lost, hang, date = (float(options.get(name, 0)) for name in names)
chance = random.Random(int(options.get("seed", 1)))
counts = {"requests": 0, "bytes": 0, "refused": 0, "lost": 0, "hung": 0}
METHODS = {}

LIMIT = 1 << 26
BUSY = ["503 Slow Down", "429 Too Many Requests", "500 Internal Server Error"]


async def message(reader, head_only=False):
    """Reads one request or answer: its first line, all its bytes, and the number of its body's."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = b""
    if head_only or lines[0].split(" ")[1] in ("204", "304"):
        pass
    elif "chunked" in fields.get("transfer-encoding", ""):
        while True:
            size = await reader.readline()
            body += size + await reader.readexactly(int(size, 16) + 2)
            if int(size, 16) == 0:
                break
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    return lines[0], head + body, len(body)


def shifted(found):
    form = "%Y%m%dT%H%M%SZ"
    time = datetime.datetime.strptime(found[2].decode(), form) + datetime.timedelta(seconds=date)
    return found[1] + time.strftime(form).encode()


async def serve(reader, writer):
    upstream = None
    try:
        while True:
            first, request, length = await message(reader)
            counts["requests"] += 1
            counts["bytes"] += length
            METHODS[first.split(" ")[0]] = METHODS.get(first.split(" ")[0], 0) + 1
            dice = chance.random()
            if dice < busy:
                counts["refused"] += 1
                answer = f"HTTP/1.1 {chance.choice(BUSY)}\r\nContent-Length: 0\r\n\r\n"
                writer.write(answer.encode())
                continue
            if dice > 1 - hang:
                counts["hung"] += 1
                await asyncio.sleep(3600)
            if date:
                request = re.sub(rb"(?i)(x-amz-date: )(\d{8}T\d{6}Z)", shifted, request, count=1)
            if upstream is None:
                upstream = await asyncio.open_connection("127.0.0.1", server, limit=LIMIT)
            upstream[1].write(request)
            _, answer, _ = await message(upstream[0], first.startswith("HEAD "))
            if busy <= dice < busy + lost:
                counts["lost"] += 1
                break
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        pass
    finally:
        writer.close()
        if upstream:
            upstream[1].close()


class Late(asyncio.Protocol):
    """One end of a connection whose bytes reach the other end later."""

    def __init__(self, other=None):
        self.other = other
        self.transport = None
        self.waiting = collections.deque()

    def connection_made(self, transport):
        self.transport = transport
        if self.other is None:
            asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(lambda: Late(self), "127.0.0.1", server)
        except OSError:
            self.transport.abort()
            return
        self.send()

    def data_received(self, data):
        due = asyncio.get_running_loop().time() + latency / 2000
        self.waiting.append((due, data))
        if len(self.waiting) == 1:
            self.send()

    def connection_lost(self, _):
        self.waiting.append((0, None))
        self.send()

    def send(self):
        """Passes on what is due, and comes again for the rest."""
        loop = asyncio.get_running_loop()
        if self.other is None:
            return
        while self.waiting:
            due, data = self.waiting[0]
            if due > loop.time():
                loop.call_at(due, self.send)
                return
            self.waiting.popleft()
            if data is None:
                self.other.transport.close()
            else:
                self.other.transport.write(data)


async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    if latency:
        listener = await asyncio.get_running_loop().create_server(Late, "127.0.0.1", 0)
    else:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LIMIT)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    listener.close()
    print(json.dumps({**counts, **METHODS}), flush=True)
    # Connections that are still open need no answer any more.
    os._exit(0)


asyncio.run(main())
