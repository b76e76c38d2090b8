"""The stores of the cloud tests, each on 127.0.0.1 with processes and a folder of its own."""

import json
import os

from processes import Process, answers, free_ports, run, wait_for

REGION = "us-east-1"
# Order to SeaweedFS's shell: cron gives it elsewhere.
ENFORCE = "s3.bucket.quota.enforce -apply"
# Access keys, secret keys, and what they may do.
IDENTITIES = [
    ("admin", "adminsecret", "Admin", "Read", "Write", "List"),
    ("test", "testsecret", "Read", "Write", "List"),
]


class Engine:
    """A store. What it lacks is not tried on it."""

    name = ""
    nodes = 0
    has_quota = False
    # A put beyond the quota is refused as such.
    tells_quota = True
    checks_keys = False
    checks_clock = True
    admin_keys = ("test", "testsecret")

    def __init__(self, folder):
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.port = 0

    def keys(self, port, secret="testsecret"):
        """Environment of programs that use it through a port."""
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secret}
        where = {"AWS_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}
        return {**os.environ, **keys, **where, "AWS_REGION": REGION}

    def s3(self, port=None):
        """A client of boto's, for what is none of a disk's work."""
        import boto3
        from botocore.config import Config

        access, secret = self.admin_keys
        keys = dict(aws_access_key_id=access, aws_secret_access_key=secret)
        retries = {"max_attempts": 8}
        config = Config(retries=retries, max_pool_connections=16, s3={"addressing_style": "path"})
        address = f"http://127.0.0.1:{port or self.port}"
        where = dict(endpoint_url=address, region_name=REGION)
        return boto3.client("s3", config=config, **keys, **where)

    def make_bucket(self, name):
        self.s3().create_bucket(Bucket=name)

    def bytes_of(self, bucket):
        """Bytes of all objects in a bucket."""
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sum(one["Size"] for page in pages for one in page.get("Contents", []))

    def wait_healthy(self):
        """Waits until all nodes that were started again are part of it."""


class Moto(Engine):
    """A server for tests, of one process."""

    name = "moto"
    checks_clock = False

    def __init__(self, folder, installed):
        super().__init__(folder)
        self.program = installed / "venv/bin/moto_server"
        self.process = None

    def start(self):
        [self.port] = free_ports(1)
        log = self.logs / "moto.log"
        words = [self.program, "--host", "127.0.0.1", "--port", self.port]
        self.process = Process(log, words)
        wait_for("moto", 60, lambda: answers(self.port), [self.process])

    def stop(self):
        if self.process:
            self.process.kill()


class SeaweedFS(Engine):
    """A master, three volume servers that keep two copies of each object, a filer, a gateway."""

    name = "SeaweedFS"
    nodes = 3
    has_quota = True
    # It answers 500, as it does when it is out of order.
    tells_quota = False
    checks_keys = True
    # For administrators it makes each bucket that they name.
    admin_keys = ("admin", "adminsecret")

    def __init__(self, folder, installed):
        super().__init__(folder)
        self.program = installed / "venv/bin/weed"
        self.master = self.filer = self.gateway = None
        self.volumes = [None] * self.nodes

    def weed(self, log, *words):
        return Process(self.logs / f"{log}.log", [self.program, *words], cwd=self.folder)

    def start(self):
        ports = free_ports(10)
        self.master_port, self.filer_port, self.port, *ports = ports
        self.volume_ports, self.other_ports = ports[:3], ports[3:]
        for name in ["master", "filer", *(f"volume{number}" for number in range(self.nodes))]:
            (self.folder / name).mkdir()
        identities = []
        for access, secret, *may in IDENTITIES:
            key = {"accessKey": access, "secretKey": secret}
            identities.append({"name": access, "credentials": [key], "actions": may})
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        own = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        sizes = ["-defaultReplication=001", "-volumeSizeLimitMB=256"]
        where = [f"-port={self.master_port}", "-mdir=master"]
        self.master = self.weed("master", "master", *own, *where, *sizes)
        wait_for("the master", 30, lambda: answers(self.master_port), [self.master])
        for number in range(self.nodes):
            self.start_node(number)
        words = [f"-port={self.filer_port}", "-defaultStoreDir=filer"]
        master = f"-master=127.0.0.1:{self.master_port}"
        self.filer = self.weed("filer", "filer", *own, *words, master)
        wait_for("the filer", 60, lambda: answers(self.filer_port), [self.filer])
        self.start_gateway()

    def start_node(self, number):
        where = [f"-port={self.volume_ports[number]}", f"-dir=volume{number}", "-max=40"]
        # They find the rack's other server for the second copy.
        rack = ["-rack=one", "-dataCenter=one", f"-master=127.0.0.1:{self.master_port}"]
        own = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        name = f"volume{number}"
        self.volumes[number] = self.weed(name, "volume", *own, *where, *rack)
        port = self.volume_ports[number]
        wait_for(name, 30, lambda: answers(port), [self.volumes[number]])

    def kill_node(self, number):
        self.volumes[number].kill()

    def start_gateway(self):
        iceberg, lance = self.other_ports[:2]
        words = [f"-port={self.port}", "-ip.bind=127.0.0.1", "-config=s3.json"]
        words += [f"-filer=127.0.0.1:{self.filer_port}"]
        words += [f"-port.iceberg={iceberg}", f"-port.lance={lance}"]
        self.gateway = self.weed("gateway", "s3", *words)
        wait_for("the gateway", 60, lambda: answers(self.port), [self.gateway])

    def kill_gateway(self):
        self.gateway.kill()

    def shell(self, *lines):
        """Gives orders to its shell."""
        words = [self.program, "shell", f"-master=127.0.0.1:{self.master_port}"]
        text = "\n".join(lines)
        return run(["sh", "-c", 'printf "%s\\n" "$0" | "$@"', text, *words], seconds=60)

    def set_quota(self, bucket, mib):
        how = "-op=remove" if mib is None else f"-op=set -sizeMB={mib}"
        self.shell(f"s3.bucket.quota -name={bucket} {how}", ENFORCE)

    def wait_full(self, bucket):
        """Waits until a bucket is over its quota: it is looked at when it is told to."""
        changed = f"changing bucket {bucket} to read only"
        wait_for("the bucket is full", 90, lambda: changed in self.shell(ENFORCE))

    def stop(self):
        for process in [self.gateway, self.filer, *self.volumes, self.master]:
            if process:
                process.end(seconds=3)
