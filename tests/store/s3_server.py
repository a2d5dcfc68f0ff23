"""A stand-in for S3 on loopback, in a process of its own: moto's server."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import httpx

WHY_NOT = "moto is not installed: pip install -e '.[dev]'"
SERVER = """
import threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
threading.Event().wait()
"""


def is_there() -> bool:
    """Whether it can be started."""
    return find_spec("moto") is not None and find_spec("flask") is not None


@contextmanager
def serving(bucket: str) -> Iterator[str]:
    """The URL of a server that has that bucket."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            host, port = process.stdout.readline().split()
            url = f"http://{host}:{port}"
            end = time.monotonic() + 20
            while True:
                try:
                    httpx.put(f"{url}/{bucket}", trust_env=False).raise_for_status()
                    break
                except httpx.TransportError:
                    assert time.monotonic() < end
                    time.sleep(0.05)  # a process of its own: there is nothing to wait on but its port
            yield url
        finally:
            process.kill()


def keys(url: str, bucket: str) -> list[str]:
    """The keys of everything in the bucket."""
    answer = httpx.get(f"{url}/{bucket}", params={"list-type": "2"}, trust_env=False)
    answer.raise_for_status()
    return re.findall(r"<Key>([^<]+)</Key>", answer.text)


def until_empty(url: str, bucket: str) -> None:
    """Wait until nothing is left in the bucket."""
    end = time.monotonic() + 20
    while left := keys(url, bucket):
        assert time.monotonic() < end, left
        time.sleep(0.1)  # another process deletes
