# ruff: noqa: ASYNC240 -- the instance works on small files, as any other program does
"""Large results and files beside a response, in compatibility mode (invocation-plane page, sections 8.2 and 8.3)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_fakes import Seen, Server, answer, read_body
from gateway_world import KEY, PINNED, Answer, Client, F, V, World, a_world

from gpufn.gateway import archive
from gpufn.gateway.version import MAX_RESPONSE_SIZE

MIB = 1024 * 1024
STATUS = "/v2/nvcf/pexec/status/"
Work = Callable[[Path, Seen], Awaitable[bytes]]


def directory_of(world: World, server: Server, seen: Seen) -> Path:
    """The output directory that the instance was told of, as the gateway's machine sees it."""
    told = seen.one("NVCF-LARGE-OUTPUT-DIR")
    assert told == f"/var/inf/response/{seen.one('NVCF-REQID')}"
    return world.instances / f"i-{server.port}" / "inf" / Path(told).relative_to("/var/inf")


async def an_instance(world: World, work: Work) -> Server:
    """An instance with a directory, whose every request ``work`` answers."""

    async def handler(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        writer.write(await work(directory_of(world, server, seen), seen))

    server = await world.instance(handler)
    (world.instances / f"i-{server.port}" / "inf").mkdir(parents=True)
    return server


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def answers(data: bytes, **files: bytes) -> Work:
    """Leaves ``files`` and answers with ``data``."""

    async def work(directory: Path, seen: Seen) -> bytes:
        for name, content in files.items():
            (directory / name).write_bytes(content)
        return data

    return work


def says(request_id: str | None, percent: object, partial: object = None) -> bytes:
    return json.dumps({"id": request_id, "progress": percent, "partialResponse": partial}).encode()


async def unzipped(world: World, found: Answer) -> dict[str, bytes]:
    """What is in the zip that a 302 leads to. The gateway hands the URL out; the object store has the zip."""
    assert (found.status, found.body, found["nvcf-status"]) == (302, b"", "fulfilled")
    request_id = found["nvcf-reqid"]
    assert found["location"].startswith(f"http://127.0.0.1/v2/gpufn/objects/results/{request_id}?expires=")
    keys = [f.key async for f in world.objects.list(f"invocations/{request_id}") if f.key.endswith(".zip")]
    assert len(keys) == 1, keys
    pieces = await world.objects.get(keys[0])
    assert pieces is not None
    data = b"".join([piece async for piece in pieces])
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        assert made.testzip() is None
        names = made.namelist()
        assert len(set(names)) == len(names)
        return {name: made.read(name) for name in names}


# ---------------------------------------------------------------------- large responses


@pytest.mark.parametrize("form", ["known length", "chunked"])
async def test_large_response_is_a_zip_behind_a_302(form: str) -> None:
    """Row 60: six MiB are a 302 without a body, whose Location yields a zip with ``<reqid>.response``."""
    body = os.urandom(MIB) * 6
    data = (
        answer(200, body)
        if form == "known length"
        else chunked(*(body[n : n + 999_999] for n in range(0, len(body), 999_999)))
    )
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(data)))
        found = await world.call("POST", PINNED)
        assert await unzipped(world, found) == {f"{found['nvcf-reqid']}.response": body}
        assert (await world.call("GET", STATUS + found["nvcf-reqid"])).status == 404
        await world.until(lambda: world.is_quiet)


@pytest.mark.parametrize("size", [MAX_RESPONSE_SIZE, MAX_RESPONSE_SIZE + 1])
@pytest.mark.parametrize("form", [answer, chunked])
async def test_the_limit_is_exact(form: Callable[..., bytes], size: int) -> None:
    """5,242,880 bytes are answered as they are, one more is not, whether the length is told before or not."""
    body = b"x" * size
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(answer(200, body) if form is answer else chunked(body))))
        found = await world.call("POST", PINNED)
        assert found.status == (200 if size <= MAX_RESPONSE_SIZE else 302)
        if found.status == 200:
            assert found.body == body


async def test_large_results_of_polls_are_zips_too() -> None:
    """A call that was answered 202 ends the same way: 302, once."""
    body = b"y" * 7 * MIB
    go = asyncio.Event()

    async def slowly(directory: Path, seen: Seen) -> bytes:
        await go.wait()
        (directory / "image.png").write_bytes(b"png")
        return chunked(body)

    async with a_world() as world:
        await world.deploy(await an_instance(world, slowly))
        first = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": "1"})
        assert first.status == 202
        go.set()
        head = await world.call("HEAD", STATUS + first["nvcf-reqid"])
        assert head.status in (202, 302)
        found = await world.call("GET", STATUS + first["nvcf-reqid"])
        assert await unzipped(world, found) == {f"{found['nvcf-reqid']}.response": body, "image.png": b"png"}
        assert (await world.call("GET", STATUS + first["nvcf-reqid"])).status == 404


async def test_a_window_that_ends_while_a_large_result_is_kept_is_202() -> None:
    """The client waits no longer than it wished; the result is there for the next poll."""
    go = asyncio.Event()

    async def handler(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (6 * MIB) + b"z" * MIB)
        await go.wait()
        writer.write(b"z" * 5 * MIB)

    async with a_world() as world:
        await world.deploy(await world.instance(handler))
        first = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": "1"})
        assert (first.status, first.body) == (202, b"")
        go.set()
        found = await world.call("GET", STATUS + first["nvcf-reqid"])
        assert list((await unzipped(world, found)).values()) == [b"z" * 6 * MIB]


async def test_a_client_that_leaves_before_a_large_result_ends_the_call() -> None:
    """Nobody knows of the request, so nothing goes on and nothing is kept."""
    async with a_world() as world:
        stuck = asyncio.Event()

        async def handler(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_body(reader, seen)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (6 * MIB) + b"z" * MIB)
            stuck.set()
            await reader.read()

        await world.deploy(await world.instance(handler))
        client = await world.client()
        await client.send("POST", PINNED)
        await stuck.wait()
        await asyncio.sleep(0.1)
        client.close()
        await world.until(lambda: world.is_quiet and not world.gateway._plane.calls)


async def test_direct_and_event_streams_are_never_zipped() -> None:
    """Row 50: a direct response above the limit is streamed inline; so is pexec for a client that wants events."""
    body = b"d" * 6 * MIB
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(answer(200, body, "Content-Type: text/event-stream"))))
        assert (await world.call("POST", "/x", {"Host": f"{V}.{F}.invocation.localhost"})).body == body
        assert (await world.call("POST", PINNED, {"Accept": "text/event-stream"})).body == body
        assert (await world.call("POST", PINNED, {"nvcf-feature-disable-worker-compatibility": "true"})).body == body


async def test_exec_refers_to_a_large_result() -> None:
    """In an envelope a 302 is a 200 with ``responseReference`` (section 4.4)."""
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(answer(200, b"1" * 6 * MIB))))
        target = PINNED.replace("pexec", "exec")
        found = await world.call("POST", target, {"Content-Type": "application/json"}, b'{"requestBody":1}')
        document = json.loads(found.body)
        assert (found.status, document["status"], document["percentComplete"]) == (200, "fulfilled", 100)
        assert f"/v2/gpufn/objects/results/{document['reqId']}?expires=" in document["responseReference"]


async def test_a_large_result_survives_its_gateway() -> None:
    """Killed after the 202, the next gateway runs the request again and has its zip."""
    async with a_world(lease=0.5) as world:
        calls = []

        async def work(directory: Path, seen: Seen) -> bytes:
            calls.append(seen)
            if len(calls) == 1:
                (directory / "half").write_bytes(b"half")
                await asyncio.sleep(30)
            (directory / "whole").write_bytes(b"whole")
            return answer(200, b"small")

        await world.deploy(await an_instance(world, work))
        first = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": "1"})
        assert first.status == 202
        await world.kill()
        await world.move_to(world.another("gw-next"))
        found = await world.call("GET", STATUS + first["nvcf-reqid"], {"NVCF-POLL-SECONDS": "10"})
        files = await unzipped(world, found)
        assert files == {f"{first['nvcf-reqid']}.response": b"small", "whole": b"whole"}


# ---------------------------------------------------------------------- files beside the response


async def test_files_in_the_output_directory_go_with_the_response() -> None:
    """Row 61: a small answer with ``a.txt`` and ``sub/b.bin`` is a zip with three entries; ``progress`` is not one."""

    async def work(directory: Path, seen: Seen) -> bytes:
        (directory / "sub").mkdir()
        (directory / "a.txt").write_bytes(b"a")
        (directory / "sub" / "b.bin").write_bytes(b"b" * MIB)
        (directory / "progress").write_bytes(says(None, 5))
        return answer(200, b"{}")

    async with a_world() as world:
        server = await an_instance(world, work)
        await world.deploy(server)
        found = await world.call("POST", PINNED)
        expected = {f"{found['nvcf-reqid']}.response": b"{}", "a.txt": b"a", "sub/b.bin": b"b" * MIB}
        assert await unzipped(world, found) == expected
        own = world.instances / f"i-{server.port}"
        await world.until(lambda: not list((own / "results").iterdir()) and not list((own / "inf/response").iterdir()))


async def test_an_error_of_the_instance_is_no_result() -> None:
    """Files beside a response of 400 and above are dropped (section 8.3)."""
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(answer(500, b"no"), left=b"x")))
        assert (await world.call("POST", PINNED)).status == 500


async def test_every_request_has_an_empty_directory() -> None:
    """A thousand requests, some of which leave files: each finds its own directory, empty and open to everybody."""
    seen_dirs = set()

    async def work(directory: Path, seen: Seen) -> bytes:
        assert not list(directory.iterdir())
        assert directory.stat().st_mode & 0o777 == 0o777
        seen_dirs.add(directory.name)
        if len(seen_dirs) % 7 == 0:
            (directory / "file").write_bytes(b"x")
            return answer(200, b"with")
        if len(seen_dirs) % 11 == 0:
            (directory / "gone").write_bytes(b"x")
            (directory / "gone").unlink()
        return answer(200, b"without")

    async with a_world() as world:
        server = await an_instance(world, work)
        await world.deploy(server, slots=4)
        clients = [await world.client() for _ in range(4)]

        async def many(client: Client) -> None:
            for _ in range(75):
                found = await client.call("POST", PINNED)
                assert found.status in (200, 302)
                assert found.body == (b"without" if found.status == 200 else b"")

        await asyncio.gather(*(many(client) for client in clients))
        assert len(seen_dirs) == 300
        response = world.instances / f"i-{server.port}" / "inf" / "response"
        await world.until(lambda: len(list(response.iterdir())) <= 4)


async def test_what_comes_late_is_nobody_elses_result() -> None:
    """An instance that writes after its response writes into nothing that another request is given."""
    before: list[Path] = []

    async def work(directory: Path, seen: Seen) -> bytes:
        if before and before[-1].exists():
            (before[-1] / "late").write_bytes(b"of the one before")
        assert not list(directory.iterdir())
        before.append(directory)
        return answer(200, b"ok")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        for _ in range(4):
            assert (await world.call("POST", PINNED)).status == 200
            (before[-1] / "later").write_bytes(b"after the response")


# ---------------------------------------------------------------------- attack 15: what must not be packed


async def test_links_and_special_files_are_not_followed(tmp_path: Path) -> None:
    """A link to a file or a directory of the machine, a pipe and a device name put nothing into the result."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")

    async def work(directory: Path, seen: Seen) -> bytes:
        (directory / "link").symlink_to(secret / "key")
        (directory / "dir").symlink_to(secret)
        os.mkfifo(directory / "pipe")
        os.mkfifo(directory / "progress")
        (directory / "real").write_bytes(b"real")
        return answer(200, b"r")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        assert await unzipped(world, found) == {f"{found['nvcf-reqid']}.response": b"r", "real": b"real"}


async def test_a_directory_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    """An instance that puts a link in the place of its output directory gets nothing out of the machine."""
    (tmp_path / "key").write_bytes(b"secret")

    async def work(directory: Path, seen: Seen) -> bytes:
        (tmp_path / "progress").write_bytes(says(seen.one("NVCF-REQID"), 1, {"secret": 1}))
        directory.rmdir()
        directory.symlink_to(tmp_path)
        await asyncio.sleep(0.6)
        return answer(200, b"r")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        assert (found.status, found.body) == (200, b"r")
        assert (tmp_path / "key").exists()


async def too_many(directory: Path) -> None:
    for n in range(archive.ENTRIES_MAX + 1):
        (directory / f"{n}").touch()


async def too_large(directory: Path) -> None:
    with (directory / "zeros").open("wb") as file:
        file.truncate(10 * 1024 * MIB)


async def too_deep(directory: Path) -> None:
    at = directory
    for _ in range(archive.DEPTH_MAX + 2):
        at = at / "d"
        at.mkdir()
    (directory / "file").touch()


async def named_for_another_system(directory: Path) -> None:
    (directory / "..\\..\\evil.dll").touch()


async def named_in_no_encoding(directory: Path) -> None:
    (Path(os.fsdecode(os.fsencode(directory) + b"/\xff\xfe"))).touch()


async def named_with_control_characters(directory: Path) -> None:
    (directory / "a\r\nb\x1b[31m").touch()


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (too_many, "more than 10000 entries"),
        (too_large, "larger than 1073741824 bytes"),
        (too_deep, "more than 32 levels"),
        (named_for_another_system, "has a name that not every system can unpack"),
        (named_in_no_encoding, "has a name that not every system can unpack"),
        (named_with_control_characters, "has a name that not every system can unpack"),
    ],
)
async def test_what_must_not_be_packed_is_refused(attack: Callable[[Path], Awaitable[None]], reason: str) -> None:
    """Attack 15: by number, size, depth and name, with the reason; nothing is kept."""

    async def work(directory: Path, seen: Seen) -> bytes:
        await attack(directory)
        return answer(200, b"r")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        document = json.loads(found.body)
        assert (found.status, document["type"]) == (
            500,
            "urn:nvcf-worker-service:problem-details:internal-server-error",
        )
        assert reason in document["detail"]
        await world.until(lambda: world.is_quiet)


async def test_a_file_named_like_the_response_is_refused() -> None:
    """No name comes twice in a zip: which of the two is unpacked would be anybody's guess."""

    async def work(directory: Path, seen: Seen) -> bytes:
        (directory / f"{seen.one('NVCF-REQID')}.response").write_bytes(b"mine")
        return answer(200, b"r")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        assert found.status == 500
        assert "the name of the response" in json.loads(found.body)["detail"]


async def test_a_response_above_the_most_that_is_kept_is_an_error() -> None:
    """A result has a limit: the client learns it, and the instance is free again."""
    async with a_world(result_max_bytes=6 * MIB) as world:
        await world.deploy(await an_instance(world, answers(answer(200, b"x" * 7 * MIB))))
        found = await world.call("POST", PINNED)
        assert found.status == 500
        assert "larger than 6291456 bytes" in json.loads(found.body)["detail"]
        await world.until(lambda: world.is_quiet)


# ---------------------------------------------------------------------- progress


async def test_progress_ends_the_wait_at_once() -> None:
    """Row 62: a progress file is an immediate 202 with the percentage and the partial response; polls go on from it."""
    step = asyncio.Event()

    async def work(directory: Path, seen: Seen) -> bytes:
        request_id = seen.one("NVCF-REQID")
        for percent in (40, 80):
            (directory / "new").write_bytes(says(request_id, percent, {"k": percent}))
            (directory / "new").rename(directory / "progress")
            await step.wait()
            step.clear()
        return answer(200, b"done")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        async with asyncio.timeout(5):
            first = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": "60"})
        told = (first.status, first["nvcf-percent-complete"], first["content-type"], first.body)
        assert told == (202, "40", "application/json", b'{"k":40}')
        assert (first["nvcf-status"], first["content-length"]) == ("in-progress", "8")
        step.set()
        async with asyncio.timeout(5):
            second = await world.call("GET", STATUS + first["nvcf-reqid"], {"NVCF-POLL-SECONDS": "60"})
        assert (second.status, second["nvcf-percent-complete"], second.body) == (202, "80", b'{"k":80}')
        waiting = asyncio.ensure_future(world.call("GET", STATUS + first["nvcf-reqid"], {"NVCF-POLL-SECONDS": "60"}))
        await asyncio.sleep(0.6)
        assert not waiting.done()  # what was told once is not told again
        step.set()
        third = await waiting
        assert (third.status, third.body) == (200, b"done")


async def test_progress_while_nobody_waits_is_there_for_the_next_poll() -> None:
    """It is told at once, however small the window; only the latest counts."""
    go = asyncio.Event()

    async def work(directory: Path, seen: Seen) -> bytes:
        await go.wait()
        for percent in range(10):
            (directory / "progress").write_bytes(says(seen.one("NVCF-REQID"), percent))
            await asyncio.sleep(0.01)
        await asyncio.sleep(30)
        return b""

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        first = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": "1"})
        assert first.status == 202
        assert "nvcf-percent-complete" not in first
        go.set()
        await asyncio.sleep(0.3)
        second = await world.call("GET", STATUS + first["nvcf-reqid"])
        assert (second.status, second["nvcf-percent-complete"], second.body) == (202, "9", b"null")


async def test_progress_of_one_request_does_not_wait_for_another() -> None:
    """Eight requests of one instance, none of whose polls holds up the others' news."""

    async def work(directory: Path, seen: Seen) -> bytes:
        number = int(seen.body)
        (directory / "progress").write_bytes(says(seen.one("NVCF-REQID"), number, {"n": number}))
        await asyncio.sleep(30)
        return b""

    async with a_world() as world:
        await world.deploy(await an_instance(world, work), slots=8)
        async with asyncio.timeout(5):
            found = await asyncio.gather(*(world.call("POST", PINNED, {}, b"%d" % n) for n in range(8)))
        assert [(f.status, f["nvcf-percent-complete"]) for f in found] == [(202, str(n)) for n in range(8)]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'"text"', says("11111111-1111-4111-8111-111111111111", 5), b'{"progress":5}',
        says("ID", -1), says("ID", 1.5), says("ID", "5"), says("ID", True), says("ID", 2**64), says("ID", 5, [1]),
        says("ID", 5, "text"), b'{"id":"ID","progress":5,"partialResponse":{"a":"' + b"x" * 1024 * 1024 + b'"}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
async def test_progress_that_is_none_is_ignored(content: bytes) -> None:
    """Row 63: a foreign id, something else than JSON, or values that are none change nothing."""

    async def work(directory: Path, seen: Seen) -> bytes:
        own = (seen.one("NVCF-REQID") or "").encode()
        (directory / "progress").write_bytes(content.replace(b"ID", own))
        await asyncio.sleep(0.6)
        return answer(200, b"done")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        assert (found.status, found.body) == (200, b"done")


async def test_direct_calls_have_no_progress() -> None:
    """It is a matter of compatibility mode (section 8.2); the response is the instance's own."""

    async def work(directory: Path, seen: Seen) -> bytes:
        with_directory = directory if directory.exists() else directory.parent.parent
        (with_directory / "progress").write_bytes(says(seen.one("NVCF-REQID"), 5))
        await asyncio.sleep(0.6)
        return answer(200, b"done")

    async with a_world() as world:
        await world.deploy(await an_instance(world, work))
        for headers in ({"Host": f"{V}.{F}.localhost"}, {"Accept": "text/event-stream"}):
            assert (await world.call("POST", PINNED, headers)).body == b"done"


async def test_the_key_of_the_caller_is_not_in_the_url() -> None:
    """Attack 7: the URL carries a signature, and nothing of the credential."""
    async with a_world() as world:
        await world.deploy(await an_instance(world, answers(answer(200, b"1" * 6 * MIB))))
        found = await world.call("POST", PINNED)
        assert KEY not in found["location"]


async def test_no_output_directory_where_they_are_off() -> None:
    """``gateway.output_directories`` off: the header is there, the directory is not, and the answer comes as it was."""
    seen_directories: list[bool] = []

    async def work(directory: Path, seen: Seen) -> bytes:
        seen_directories.append(directory.exists())
        return answer(200, b"as it was")

    async with a_world(output_directories=False) as world:
        await world.deploy(await an_instance(world, work))
        found = await world.call("POST", PINNED)
        assert (found.status, found.body) == (200, b"as it was")
        assert seen_directories == [False]
        await world.until(lambda: world.is_quiet)
