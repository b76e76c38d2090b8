"""A proxy before an S3 server that makes the network slow or faulty.

proxy.py PORT SERVER_PORT [latency=MILLISECONDS] [busy=PART] [lost=PART] [hang=PART] [seed=N]

latency: time from a request to its answer, beside what the server takes; busy: this part of the
requests is refused with 503, 429 or 500; lost: this part is carried out, and the connection closed
without an answer; hang: this part is never answered.
"""

import asyncio
import random
import sys

port, server = int(sys.argv[1]), int(sys.argv[2])
options = dict(word.split("=") for word in sys.argv[3:])
latency, busy, lost, hang = (float(options.get(name, 0)) for name in ("latency", "busy", "lost", "hang"))
chance = random.Random(int(options.get("seed", 1)))


async def message(reader, head_only=False):
    """Reads one request or answer: its first line and all its bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = b""
    status = lines[0].split(" ")[1]
    if head_only or status in ("204", "304"):
        pass
    elif "chunked" in fields.get("transfer-encoding", ""):
        while True:
            size = await reader.readline()
            chunk = await reader.readexactly(int(size, 16) + 2)
            body += size + chunk
            if int(size, 16) == 0:
                break
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    return lines[0], head + body


async def serve(reader, writer):
    upstream = None
    try:
        while True:
            first, request = await message(reader)
            await asyncio.sleep(latency / 2000)
            dice = chance.random()
            if dice < busy:
                code = chance.choice(["503 Slow Down", "429 Too Many Requests", "500 Internal Server Error"])
                writer.write(f"HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n".encode())
                continue
            if dice > 1 - hang:
                await asyncio.sleep(3600)
            if upstream is None:
                upstream = await asyncio.open_connection("127.0.0.1", server, limit=1 << 26)
            upstream[1].write(request.replace(b"Expect: 100-continue\r\n", b""))
            _, answer = await message(upstream[0], first.startswith("HEAD "))
            if busy <= dice < busy + lost:
                break
            await asyncio.sleep(latency / 2000)
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        pass
    finally:
        writer.close()
        if upstream:
            upstream[1].close()


async def main():
    listener = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 26)
    async with listener:
        await listener.serve_forever()


asyncio.run(main())
