"""Ceph on this machine: a monitor, three OSDs on files, and radosgw as the gateway.

No daemon of it is installed: Debian's packages are unpacked into a folder.
"""

import os
import signal
import uuid

from engines import Engine
from processes import Process, answers, free_ports, run, wait_for

KEYS = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *"],
    "client.gateway": ["mon", "allow rw", "osd", "allow rwx"],
}
OSDS = 3

CONFIGURATION = """\
[global]
fsid = {fsid}
mon initial members = one
mon host = [v2:127.0.0.1:{mon}/0]
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
pid file =
admin socket =
log file = {folder}/logs/$name.ceph.log
log to stderr = false
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd class dir = {lib}/rados-classes
osd pool default size = 3
osd pool default min size = 2
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon osd down out interval = 3600
[mon]
mon data avail warn = 1
mon data avail crit = 1
mon data = {folder}/mon
[osd]
osd data = {folder}/osd$id
bluestore block size = 12884901888
osd memory target = 939524096
[client.gateway]
rgw data = {folder}/gateway
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw bucket quota ttl = 1
rgw user quota bucket sync interval = 1
rgw bucket quota cache size = 0
rgw gc obj min wait = 5
rgw enable usage log = false
"""


class Ceph(Engine):
    name = "Ceph"
    nodes = OSDS
    has_quota = True
    checks_keys = True

    def __init__(self, folder, installed):
        super().__init__(folder)
        self.root = installed / "ceph/root"
        self.lib = next((self.root / "usr/lib").glob("*-linux-gnu"))
        libraries = [self.lib, self.root / "lib" / self.lib.name, self.lib / "ceph"]
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": str(self.root / "usr/lib/python3/dist-packages"),
            "CEPH_CONF": str(folder / "ceph.conf"),
        }
        self.mon = self.gateway = None
        self.osds = [None] * OSDS

    def tool(self, name, *words, **more):
        path = self.root / "usr/bin" / name
        python = ["/usr/bin/python3"] if path.read_bytes()[:2] == b"#!" else []
        return run([*python, path, *words], self.environment, **more)

    def daemon(self, log, name, *words):
        path = self.root / "usr/bin" / name
        return Process(self.logs / f"{log}.log", [path, "-f", *words], self.environment)

    def start(self):
        self.port, self.mon_port = free_ports(2)
        self.fsid = str(uuid.uuid4())
        settings = dict(folder=self.folder, lib=self.lib, port=self.port, mon=self.mon_port)
        text = CONFIGURATION.format(fsid=self.fsid, **settings)
        (self.folder / "ceph.conf").write_text(text)
        for name in ["mon", "gateway", *(f"osd{number}" for number in range(OSDS))]:
            (self.folder / name).mkdir()
        self.start_mon()
        for number in range(OSDS):
            self.make_node(number)
        self.start_gateway()
        keys = ["--access-key", "test", "--secret-key", "testsecret"]
        self.admin("user", "create", "--uid", "test", "--display-name", "test", *keys)

    def start_mon(self):
        keyring = self.folder / "keyring"
        self.tool("ceph-authtool", "--create-keyring", keyring)
        for name, caps in KEYS.items():
            pairs = [word for at in range(0, len(caps), 2) for word in ("--cap", *caps[at:at + 2])]
            self.tool("ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
        where = f"[v2:127.0.0.1:{self.mon_port}/0]"
        of = ["--fsid", self.fsid, self.folder / "monmap"]
        self.tool("monmaptool", "--create", "--addv", "one", where, *of)
        words = ["--monmap", self.folder / "monmap", "--keyring", keyring]
        self.tool("ceph-mon", "-i", "one", "--mkfs", *words)
        self.mon = self.daemon("mon", "ceph-mon", "-i", "one")
        wait_for("the monitor", 60, self.has_quorum, [self.mon])

    def has_quorum(self):
        try:
            return self.tool("ceph", "--connect-timeout", "3", "mon", "stat", seconds=30)
        except Exception:
            return None

    def make_node(self, number):
        """Makes an OSD, and starts it."""
        keyring = self.folder / f"osd{number}/keyring"
        name, of = f"osd.{number}", str(uuid.uuid4())
        caps = ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"]
        self.tool("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", name, *caps)
        made = self.tool("ceph", "osd", "new", of).strip()
        assert made == str(number), f"OSD {made} was made as number {number}"
        self.tool("ceph", "auth", "add", name, "-i", keyring)
        words = ["-i", number, "--keyring", keyring]
        self.tool("ceph-osd", *words, "--mkfs", "--osd-uuid", of)
        self.start_node(number)

    def start_node(self, number):
        keyring = self.folder / f"osd{number}/keyring"
        words = ["-i", number, "--keyring", keyring]
        self.osds[number] = self.daemon(f"osd{number}", "ceph-osd", *words)

    def kill_node(self, number):
        self.osds[number].kill()

    def wait_healthy(self):
        def clean():
            return f"{OSDS} up" in self.tool("ceph", "osd", "stat")

        wait_for("all OSDs are up", 60, clean, self.osds)

    def start_gateway(self):
        self.gateway = self.daemon("gateway", "radosgw", "-n", "client.gateway")
        wait_for("the gateway", 120, lambda: answers(self.port), [self.gateway])

    def kill_gateway(self):
        self.gateway.kill()

    def admin(self, *words):
        return self.tool("radosgw-admin", "-n", "client.admin", *words)

    def set_quota(self, bucket, mib):
        if mib is None:
            self.admin("quota", "disable", "--quota-scope=bucket", "--bucket", bucket)
            return
        size = f"--max-size={mib << 20}"
        self.admin("quota", "set", "--quota-scope=bucket", "--bucket", bucket, size)
        self.admin("quota", "enable", "--quota-scope=bucket", "--bucket", bucket)

    def rbd_bench(self, kind, size, threads, total, pattern="seq"):
        """Runs `rbd bench`, and returns what it prints."""
        image = "rbd/bench"
        if "rbd" not in self.tool("ceph", "osd", "pool", "ls").split():
            self.tool("ceph", "osd", "pool", "create", "rbd", "8")
            self.tool("ceph", "osd", "pool", "application", "enable", "rbd", "rbd")
            self.tool("rbd", "create", "--size", "1024", image)
        words = ["--io-type", kind, "--io-size", size, "--io-threads", threads]
        if size == "4K":
            # With its cache a write is done before any OSD has it.
            words.append("--rbd_cache=false")
        words += ["--io-total", total, "--io-pattern", pattern]
        return self.tool("rbd", "bench", *words, image, seconds=300)

    def stop(self):
        # Without OSDs the gateway does not end.
        for process in [self.gateway, *self.osds, self.mon]:
            if process:
                process.end(signal.SIGTERM, 5)
