"""A page in a real browser talks to a function: the browser's own rules about sub-protocols and origins apply."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from typing import Any

import pytest
from gateway_fakes import Seen, Server, answer, read_body
from gateway_world import KEY, F
from test_websocket import a_socket_world

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGE = """<!doctype html><title>test</title><script>
const report = (found) => fetch("/result", {method: "POST", body: JSON.stringify(found)});
const socket = new WebSocket("ws://127.0.0.1:%d/chat", ["authorization.%s", "function-id.%s"]);
const messages = [];
socket.onopen = () => { socket.send("from a page"); socket.send(new Uint8Array([1, 2, 3])); };
socket.onmessage = async (event) => {
  messages.push(typeof event.data === "string" ? event.data : (await event.data.arrayBuffer()).byteLength);
  if (messages.length === 2) socket.close(4000, "seen enough");
};
socket.onclose = (event) => report({
  messages, code: event.code, reason: event.reason, clean: event.wasClean, protocol: socket.protocol});
</script>"""


@pytest.mark.browser
@pytest.mark.timeout(90)
async def test_a_page_in_a_browser() -> None:
    """It connects with the key among the sub-protocols, exchanges text and binary, and closes with its own code."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium on the path: apt-get install chromium")
    result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def site(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_body(reader, seen)
        if seen.target == "/result":
            result.set_result(json.loads(body))
        page = (PAGE % (world.port, KEY, F)).encode() if seen.target == "/" else b""
        writer.write(answer(200 if page else 404, page, "Content-Type: text/html"))

    async with a_socket_world() as (world, instance):
        server = Server(site)
        await server.start()
        found = await _browse(program, f"http://127.0.0.1:{server.port}/", result)
        await server.stop()
        assert found == {
            "messages": ["from a page", 3], "code": 4000, "reason": "seen enough", "clean": True,
            "protocol": f"function-id.{F}",
        }  # fmt: skip
        assert instance.requests[0].headers["origin"] == f"http://127.0.0.1:{server.port}"
        await world.until(lambda: world.is_quiet)


async def _browse(program: str, url: str, result: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    """Open ``url`` until the page has reported."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-port=0",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            program, *options, url, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            return await asyncio.wait_for(result, 60)
        finally:
            process.terminate()
            await process.wait()
