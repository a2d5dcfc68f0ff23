"""Secrets through the whole program: sealed on disk, found by a function, changed under it, rotated."""

from __future__ import annotations

from pathlib import Path

import pytest
from installation import eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

APP = """
import http.server, os, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"{}")
    def do_POST(self):
        self.answer(pathlib.Path(os.environ["GPUFN_SECRETS_DIR"], "secrets.json").read_bytes())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_function_reads_its_secrets_and_their_changes(tmp_path: Path) -> None:
    """The same instance answers with the new value; the database, the logs and the records never hold one."""
    source = tmp_path / "reader"
    source.mkdir()
    (source / "app.py").write_text(APP)
    (source / "function.toml").write_text('name = "reader"\ncommand = ["{python}", "app.py"]\n')
    with installed(tmp_path / "data") as here:
        assert here.gpufn("image", "add", str(source)).returncode == 0
        secrets = [{"name": "token", "value": "canary-1"}]
        function, version = here.deploy(containerImage="reader", secrets=secrets)
        instances = {p.pid for p in here.instances()}
        first = here.invoke(function, {}).json()
        set_again = here.gpufn("secrets", "set", function, "token", stdin="canary-2\n")
        rotated = here.gpufn("secrets", "rotate")
        eventually(lambda: here.invoke(function, {}).json() == {"token": "canary-2"}, within=10, what="the new value")

        assert first == {"token": "canary-1"}
        assert (set_again.returncode, rotated.returncode) == (0, 0), set_again.stderr + rotated.stderr
        assert {p.pid for p in here.instances()} == instances
        kept = [p for p in here.data.rglob("*") if p.is_file() and p.parent.name != "secrets"]
        assert [p for p in kept if b"canary" in p.read_bytes()] == []
        assert "canary" not in here.log()
        here.stop()
        assert [p for p in here.data.rglob("*") if p.is_file() and b"canary" in p.read_bytes()] == []
        here.start()
        here.call("DELETE", f"/v2/nvcf/deployments/functions/{function}/versions/{version}")
