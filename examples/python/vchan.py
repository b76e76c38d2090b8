#!/usr/bin/env python3
"""Sends a line to the echo server of a vchan and prints the answer: vchan.py DOMID PATH LINE"""
import ctypes, os, sys


class Channel(ctypes.Structure):  # struct libxenvchan, up to its flags
    _fields_ = [("pointers", ctypes.c_void_p * 3), ("event_port", ctypes.c_uint32),
                ("is_server", ctypes.c_uint32, 1), ("server_persist", ctypes.c_uint32, 1),
                ("blocking", ctypes.c_uint32, 1)]


lib = ctypes.CDLL("libxenvchan.so", use_errno=True)
lib.libxenvchan_client_init.restype = ctypes.POINTER(Channel)
domid, path, line = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode() + b"\n"
channel = lib.libxenvchan_client_init(None, domid, path)
if not channel:
    sys.exit(f"vchan.py: {path.decode()}: {os.strerror(ctypes.get_errno())}")
channel.contents.blocking = 1
answer = ctypes.create_string_buffer(len(line))
for move, data in ((lib.libxenvchan_send, line), (lib.libxenvchan_recv, answer)):
    if move(channel, data, ctypes.c_size_t(len(line))) < 0:
        sys.exit(f"vchan.py: {os.strerror(ctypes.get_errno())}")
print(answer.raw.decode(), end="")
lib.libxenvchan_close(channel)
