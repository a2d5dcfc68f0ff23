"""Input assets: the instance finds the caller's files while it serves the call (sections 5.1, 8.1 and 24)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_fakes import Seen, Server, answer, read_body
from gateway_world import ACCOUNT, PEXEC, PINNED, F, World, a_world
from obstore.store import MemoryStore

from gpufn.gateway import assets as assets_module, handover
from gpufn.gateway.assets import Assets
from gpufn.model.asset import object_key
from gpufn.runtime.supervisor import Supervisor
from gpufn.store.objects import Objects

EXEC = PEXEC.replace("pexec", "exec")


def named(*ids: str) -> dict[str, str]:
    return {"NVCF-INPUT-ASSET-REFERENCES": ",".join(ids)}


async def an_asset(world: World, content: bytes = b"meow", account: str = ACCOUNT) -> str:
    asset_id = str(uuid.uuid4())
    await world.objects.put(object_key(account, asset_id), content)
    return asset_id


def shared(world: World, server: Server) -> Path:
    """What ``server`` sees as /var/inf."""
    return world.instances / f"i-{server.port}" / "inf"


async def a_reader(world: World) -> Server:
    """An instance that answers with the files it was given, by name."""

    async def read(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        directory = shared(world, server) / (seen.one("nvcf-asset-dir") or "").removeprefix("/var/inf/")
        found = {p.name: p.read_text() for p in directory.iterdir()} if directory.exists() else None
        told = {"files": found, "ids": seen.one("nvcf-function-asset-ids"), "body": seen.body.decode()}
        writer.write(answer(200, json.dumps(told).encode(), "Content-Type: application/json"))

    server = await world.instance(read)
    shared(world, server).mkdir(parents=True)
    await world.deploy(server)
    return server


async def left(world: World, server: Server) -> list[str]:
    """What is left of the calls' files, once there is nothing, or after a while."""
    parent = shared(world, server) / "inputAssets"
    for _ in range(200):
        if not parent.exists() or not list(parent.iterdir()):
            return []
        await asyncio.sleep(0.01)
    return [p.name for p in parent.iterdir()]


async def test_input_asset() -> None:
    """The files are there under their ids, the header names them, and afterwards they are gone (conformance 55)."""
    async with a_world() as world:
        server = await a_reader(world)
        one, two = await an_asset(world), await an_asset(world, b"woof")
        found = await world.call("POST", PINNED, named(one, two.upper(), one), b"hello")
        assert json.loads(found.body) == {"files": {one: "meow", two: "woof"}, "ids": f"{one},{two}", "body": "hello"}
        assert await left(world, server) == []
        wrapped = {"requestBody": 1, "requestHeader": {"inputAssetReferences": [one]}}
        inside = await world.call("POST", EXEC, None, json.dumps(wrapped).encode())
        assert json.loads(inside.body)["response"]["files"] == {one: "meow"}
        assert await left(world, server) == []
        assert world.is_quiet


async def test_missing_input_asset() -> None:
    """An unknown asset, or one of another account, is 404 with the reference's text and reaches no instance."""
    async with a_world() as world:
        server = await a_reader(world)
        for asset_id in (str(uuid.uuid4()), await an_asset(world, account="another")):
            found = await world.call("POST", PINNED, named(asset_id) | {"Origin": "http://o"})
            assert (found.status, found["content-type"]) == (404, "application/problem+json")
            assert json.loads(found.body)["detail"] == f"NotFound error: failed to find asset {asset_id}"
            assert found["access-control-allow-origin"] == "http://o"
            assert "nvcf-reqid" not in found
        assert (server.seen, world.is_quiet) == ([], True)


async def test_empty_input_asset() -> None:
    """An empty value names none; in direct mode the header means nothing (conformance 57)."""
    async with a_world() as world:
        await a_reader(world)
        for headers in (named(" "), named("abc") | {"Host": f"{F}.localhost"}):
            found = await world.call("POST", PINNED, headers)
            assert (found.status, json.loads(found.body)["files"]) == (200, None)
            assert json.loads(found.body)["ids"] is None


@pytest.mark.parametrize("value", ["abc", "../../etc/passwd", f"{uuid.UUID(int=1)},x", "..%2f", "%00"])
async def test_bad_references_are_refused_first(value: str) -> None:
    """What is no UUID is 400 in plain text, before the function is looked at (conformance 58)."""
    async with a_world() as world:
        found = await world.call("POST", PINNED, named(value))
        assert (found.status, found["content-type"]) == (400, "text/plain; charset=utf-8")


async def test_an_instance_without_a_directory_cannot_be_given_files() -> None:
    """What cannot be handed over is a 500 in the worker's name, and the slot is free again (conformance 59)."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        found = await world.call("POST", PINNED, named(await an_asset(world)))
        told = json.loads(found.body)
        assert (found.status, told["detail"]) == (500, "Internal error while downloading assets")
        assert told["type"] == "urn:nvcf-worker-service:problem-details:internal-server-error"
        assert world.is_quiet


async def test_a_link_laid_by_the_instance_leads_nowhere() -> None:
    """An instance that puts a link where its files would be written gets none, and nothing outside is touched."""
    async with a_world() as world:
        server = await a_reader(world)
        outside = world.instances / "outside"
        outside.mkdir()
        (outside / "kept").write_text("precious")
        (shared(world, server) / "inputAssets").symlink_to(outside, target_is_directory=True)
        found = await world.call("POST", PINNED, named(await an_asset(world)))
        assert found.status == 500
        assert [p.name for p in outside.iterdir()] == ["kept"]


def test_what_an_instance_left_in_the_way_is_replaced(tmp_path: Path) -> None:
    """A link or a file under the request's own name is removed, never written through."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "shared" / "inputAssets").mkdir(parents=True)
    (tmp_path / "shared" / "inputAssets" / "r1").mkdir()
    (tmp_path / "shared" / "inputAssets" / "r1" / "link").symlink_to(tmp_path / "precious")
    directory = handover.begin(tmp_path / "shared", "r1")
    os.close(handover.create(directory, "a"))
    with pytest.raises(FileExistsError):
        handover.create(directory, "a")
    os.close(directory)
    assert (tmp_path / "shared/inputAssets/r1").stat().st_mode & 0o777 == 0o777
    handover.remove(tmp_path / "shared", "r1")
    handover.remove(tmp_path / "none", "r1")
    assert list((tmp_path / "shared" / "inputAssets").iterdir()) == []
    assert (tmp_path / "precious" / "file").read_text() == "x"


async def test_a_client_that_leaves_takes_its_files_with_it() -> None:
    """Whenever the client goes, the files go and the slot is free."""
    never = asyncio.Event()

    async def hang(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await never.wait()

    async with a_world() as world:
        server = await a_reader(world)
        server.handler = hang
        asset_id = await an_asset(world, b"x" * 3_000_000)
        for patience in (0.0, 0.005, 0.3):
            client = await world.client()
            await client.send("POST", PINNED, named(asset_id), b"body")
            await asyncio.sleep(patience)
            client.close()
            await world.until(lambda: world.is_quiet)
            assert await left(world, server) == []
        never.set()


@pytest.mark.parametrize("step", ["handover.create", "_write"])
async def test_a_file_is_open_as_long_as_a_thread_uses_it_and_no_longer(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a closed file is soon another client's socket: cancelling waits for the thread, then closes."""
    entered, go = threading.Event(), threading.Event()
    files: list[int] = []
    path = f"gpufn.gateway.assets.{step}"
    real = handover.create if step == "handover.create" else assets_module._write

    def slow(file: int, other: Any) -> Any:
        entered.set()
        go.wait(5)
        found = real(file, other)  # OSError when it was closed meanwhile
        files.append(file if found is None else found)
        return found

    monkeypatch.setattr(path, slow)
    async with Supervisor() as tasks:
        objects = Objects(MemoryStore())
        asset_id = str(uuid.uuid4())
        await objects.put(object_key(ACCOUNT, asset_id), b"secret")
        directory = os.open(tmp_path, handover.DIRECTORY)
        copying = tasks.start(Assets(objects, tasks, tmp_path).copy(directory, ACCOUNT, asset_id), name="copy")
        await asyncio.to_thread(entered.wait, 5)
        copying.cancel()
        await asyncio.wait([copying], timeout=0.05)
        go.set()
        await asyncio.wait([copying])
        await asyncio.to_thread(lambda: None)
        os.close(directory)

    assert copying.cancelled()
    assert len(files) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(files[0])


async def test_a_body_that_comes_slowly_comes_whole() -> None:
    """While the assets are looked up and copied, the request's body waits, and arrives in full."""
    async with a_world() as world:
        await a_reader(world)
        asset_id = await an_asset(world)
        client = await world.client()
        await client.send("POST", PINNED, named(asset_id) | {"Content-Length": "", "Transfer-Encoding": "chunked"})
        for _ in range(20):
            client.writer.write(b"5\r\nhello\r\n")
            await asyncio.sleep(0.005)
        client.writer.write(b"0\r\n\r\n")
        told = json.loads((await client.answer()).body)
        assert (told["body"], told["files"]) == ("hello" * 20, {asset_id: "meow"})


async def test_a_large_asset_is_copied_in_pieces() -> None:
    """An asset is never in memory as a whole: what is read at once is bounded."""
    async with a_world() as world:
        server = await a_reader(world)
        sizes: list[int] = []

        async def count(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_body(reader, seen)
            directory = shared(world, server) / "inputAssets" / (seen.one("nvcf-reqid") or "")
            sizes.extend(p.stat().st_size for p in directory.iterdir())
            writer.write(answer(200, b"{}"))

        async def stream() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b"x" * 1024 * 1024

        server.handler = count
        asset_id = str(uuid.uuid4())
        await world.objects.put(object_key(ACCOUNT, asset_id), stream())
        assert (await world.call("POST", PINNED, named(asset_id))).status == 200
        assert sizes == [64 * 1024 * 1024]


async def test_assets_stay_for_a_call_that_is_accepted() -> None:
    """After a 202 the files are there until the instance has answered, and then they are gone."""
    opened = asyncio.Event()

    async with a_world() as world:
        server = await a_reader(world)
        read = server.handler

        async def late(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await opened.wait()
            await read(seen, reader, writer)

        server.handler = late
        asset_id = await an_asset(world)
        begun = await world.call("POST", PINNED, named(asset_id) | {"NVCF-POLL-SECONDS": "1"}, b"hello")
        assert begun.status == 202
        poller = await world.client()
        await poller.send("GET", f"/v2/nvcf/pexec/status/{begun['nvcf-reqid']}")
        opened.set()
        told = json.loads((await poller.answer("GET")).body)
        assert (told["files"], told["body"]) == ({asset_id: "meow"}, "hello")
        assert await left(world, server) == []


async def test_assets_go_with_the_request_to_another_instance() -> None:
    """When the first instance dies its copy is removed, and the second one has its own."""

    async def dies(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        writer.close()

    async with a_world() as world:
        living = await a_reader(world)
        dying = await world.instance(dies)
        shared(world, dying).mkdir(parents=True)
        await world.undeploy()
        await world.deploy(dying, living)
        asset_id = await an_asset(world)
        found = await world.call("POST", PINNED, named(asset_id), b"hello")
        assert json.loads(found.body)["files"] == {asset_id: "meow"}
        assert len(dying.seen) == 1
        assert await left(world, dying) == []
        assert await left(world, living) == []
