"""Results that do not go into a response, and progress, through the whole program, as NVIDIA's clients fetch them."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PROGRAM = """
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.reply(b"{}")
    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        output = Path(self.headers["NVCF-LARGE-OUTPUT-DIR"])
        for percent in wanted.get("steps", []):
            told = {"id": self.headers["NVCF-REQID"], "progress": percent, "partialResponse": {"at": percent}}
            (output / ".new").write_text(json.dumps(told))
            (output / ".new").rename(output / "progress")
            time.sleep(0.8)
        for name, size in wanted.get("files", {}).items():
            (output / name).write_bytes(b"f" * size)
        self.reply(b"r" * wanted["size"])
    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
MIB = 1024 * 1024


def an_image(here: Installation) -> str:
    """An image whose instances answer with what they are asked for."""
    directory = here.data.parent / "results"
    directory.mkdir()
    (directory / "app.py").write_text(PROGRAM)
    (directory / "function.toml").write_text('name = "results"\ncommand = ["{python}", "app.py"]\n')
    added = here.gpufn("image", "add", str(directory))
    assert added.returncode == 0, added.stderr
    return "results"


def fetched(client: httpx.Client, function: str, wanted: dict[str, object], seen: list[str]) -> zipfile.ZipFile:
    """What a client of NVCF does: POST, poll while 202, follow the 302 without its key, open the zip."""
    path = f"/v2/nvcf/pexec/functions/{function}"
    answer = client.post(path, json=wanted, headers={"NVCF-POLL-SECONDS": "5"})
    while answer.status_code == 202:
        seen.append(answer.headers.get("NVCF-PERCENT-COMPLETE", ""))
        answer = client.get(f"/v2/nvcf/pexec/status/{answer.headers['NVCF-REQID']}")
    assert (answer.status_code, answer.headers["NVCF-STATUS"]) == (302, "fulfilled"), answer.text
    bare = httpx.get(answer.headers["Location"], timeout=60)
    assert (bare.status_code, bare.headers["content-type"]) == (200, "application/zip"), bare.text
    return zipfile.ZipFile(io.BytesIO(bare.content))


def test_progress_polls_and_a_zip(tmp_path: Path) -> None:
    """202 with percentages, then a 302 to a zip of the response and the files; nothing is left in the instance."""
    with installed(tmp_path / "data") as here:
        function, _ = here.deploy(containerImage=an_image(here), inferenceUrl="/results")
        seen: list[str] = []
        with here.client() as client:
            wanted = {"steps": [10, 60], "files": {"image.png": 3 * MIB}, "size": 10}
            made = fetched(client, function, wanted, seen)
            assert seen == ["10", "60"]
            response, image = made.namelist()
            assert (response.endswith(".response"), image) == (True, "image.png")
            assert (made.read(response), made.read(image)) == (b"r" * 10, b"f" * 3 * MIB)
            client.headers["Host"] = "invocation.localhost:" + here.url.rpartition(":")[2]
            answer = client.post(f"/v2/nvcf/pexec/functions/{function}", json={"size": 6 * MIB})
            location = answer.headers["Location"]
            assert (answer.status_code, location.startswith("http://invocation.localhost:")) == (302, True)
            port = here.url.rpartition(":")[2]
            by_address = location.replace("invocation.localhost", "127.0.0.1")
            host = {"Host": f"invocation.localhost:{port}"}
            assert httpx.get(by_address, headers=host).status_code == 200
            assert httpx.get(by_address.replace("signature=", "signature=0")[:-1], headers=host).status_code == 403
            assert httpx.put(by_address, headers=host).status_code in (403, 405)
        parents = list((here.data / "instances").glob("*/inf/response")) + list(
            (here.data / "instances").glob("*/results")
        )
        eventually(
            lambda: not any(f.is_file() for p in parents for f in p.rglob("*")), within=5, what="the files are gone"
        )


@pytest.mark.slow
def test_a_large_result_is_streamed_with_flat_memory(tmp_path: Path) -> None:
    """Half a GiB from the instance to the object store and on to the client, while the gateway stays small."""
    size = 512 * MIB
    with installed(tmp_path / "data") as here:
        function, _ = here.deploy(containerImage=an_image(here), inferenceUrl="/results")
        memory: Callable[[], int] = lambda: sum(  # noqa: E731
            here.child(role).memory_info().rss for role in ("control", "gateway")
        )
        assert isinstance(here.child("gateway"), psutil.Process)
        before = memory()
        began = time.monotonic()
        answer = here.invoke(function, {"size": size}, **{"NVCF-POLL-SECONDS": "120"})
        while answer.status_code == 202:
            with here.client() as client:
                answer = client.get(f"/v2/nvcf/pexec/status/{answer.headers['NVCF-REQID']}")
        assert answer.status_code == 302, (answer.text, time.monotonic() - began)
        digest, length = hashlib.sha256(), 0
        with httpx.stream("GET", answer.headers["Location"], timeout=120) as streamed:
            for piece in streamed.iter_bytes():
                digest.update(piece)
                length += len(piece)
        assert length > size
        assert memory() - before < 96 * MIB
