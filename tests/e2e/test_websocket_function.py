"""A WebSocket function through the whole program, with and without TLS."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from installation import installed
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

APP = """
import http, os
from websockets.sync.server import serve

def answer(connection, request):
    if request.path == "/health":
        return connection.respond(http.HTTPStatus.OK, "well")

def talk(connection):
    for message in connection:
        if message == "cut":
            connection.socket.shutdown(1)  # says no more, and listens on
            connection.socket.recv(1)
            return
        connection.send(message.upper())

with serve(talk, "127.0.0.1", int(os.environ["PORT"]), process_request=answer) as server:
    server.serve_forever()
"""


def test_a_websocket_function(tmp_path: Path) -> None:
    """Messages pass on both ports; an instance that half-closes ends the socket on both."""
    source = tmp_path / "talker"
    source.mkdir()
    (source / "app.py").write_text(APP)
    (source / "function.toml").write_text('name = "talker"\ncommand = ["{python}", "app.py"]\n')
    with installed(tmp_path / "data", "--tls") as here:
        assert here.gpufn("image", "add", str(source)).returncode == 0
        function, _ = here.deploy(containerImage="talker")
        found = json.loads(here.gpufn("env", "--json").stdout)
        trust = ssl.create_default_context(cafile=found["REQUESTS_CA_BUNDLE"])
        headers = {"Authorization": f"Bearer {here.key}", "function-id": function}
        for url, secured in ((here.url, None), (found["NGC_CLI_API_URL"], trust)):
            address = url.replace("http", "ws", 1) + "/chat"
            with connect(address, additional_headers=headers, ssl=secured, proxy=None) as socket:
                for message in ("hello", "x" * 300_000):
                    socket.send(message)
                    assert socket.recv(timeout=10) == message.upper()
                socket.send("cut")
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=10)
        assert "Traceback" not in here.log()
