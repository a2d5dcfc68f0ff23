"""A file on its whole way: announced, uploaded, given to an instance, gone afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PROGRAM = """
import hashlib, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        found = {}
        for path in Path(self.headers["NVCF-ASSET-DIR"]).iterdir():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        self.reply({"files": found, "directory": self.headers["NVCF-ASSET-DIR"]})
    def reply(self, told):
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
SIZE = 256 * 1024 * 1024
SIGNED = {"Content-Type": "application/octet-stream", "x-amz-meta-nvcf-asset-description": "large"}


def an_image(here: Installation) -> str:
    """An image whose instances say what files they were given."""
    directory = here.data.parent / "files"
    directory.mkdir()
    (directory / "app.py").write_text(PROGRAM)
    (directory / "function.toml").write_text('name = "files"\ncommand = ["{python}", "app.py"]\n')
    added = here.gpufn("image", "add", str(directory))
    assert added.returncode == 0, added.stderr
    return "files"


def content() -> Iterator[bytes]:
    for n in range(SIZE // 1024 // 1024):
        yield bytes([n % 256]) * 1024 * 1024


def memory(here: Installation) -> int:
    """Bytes of memory that both processes have."""
    assert here.process is not None
    return sum(child.memory_info().rss for child in psutil.Process(here.process.pid).children())


def test_a_large_asset_reaches_the_instance(tmp_path: Path) -> None:
    """It is streamed all the way with flat memory, the instance reads it, and its directory is empty afterwards."""
    with installed(tmp_path / "data") as here:
        function, _ = here.deploy(containerImage=an_image(here), inferenceUrl="/files")
        made = here.call("POST", "/v2/nvcf/assets", json={
            "contentType": SIGNED["Content-Type"], "description": SIGNED["x-amz-meta-nvcf-asset-description"],
        })  # fmt: skip
        assert made["uploadUrl"].startswith(here.url)
        before = memory(here)
        headers = SIGNED | {"Content-Length": str(SIZE)}
        assert httpx.put(made["uploadUrl"], content=content(), headers=headers, timeout=120).status_code == 200
        asset_id = made["assetId"]
        assert here.call("GET", "/v2/nvcf/assets") == {"assets": [{"assetId": asset_id}]}
        answer = here.invoke(function, {}, **{"NVCF-INPUT-ASSET-REFERENCES": asset_id})
        assert memory(here) - before < 96 * 1024 * 1024
        digest = hashlib.sha256()
        for piece in content():
            digest.update(piece)
        assert answer.json()["files"] == {asset_id: digest.hexdigest()}
        parents = list((here.data / "instances").glob("*/inf/inputAssets"))
        assert parents
        eventually(lambda: not any(list(p.iterdir()) for p in parents), within=5, what="the files are gone")
        here.call("DELETE", f"/v2/nvcf/assets/{asset_id}")
        assert [p for p in (here.data / "objects").rglob("*") if p.is_file()] == []
