"""The samples, run as a user would: through the process backend, asked over HTTP."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from contract import a_request, until

from gpufn.compute.backend import Phase
from gpufn.compute.catalog import Catalog
from gpufn.compute.probes import probe
from gpufn.compute.process import ProcessBackend
from gpufn.model.function import Health
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings


@asynccontextmanager
async def _running(data: Path, sample: str, *, patience: float) -> AsyncIterator[httpx.AsyncClient]:
    """The sample, healthy, and a client for it."""
    async with Supervisor() as supervisor:
        backend = ProcessBackend(
            ProcessSettings(isolation="none", warm=0),
            data=data,
            catalog=Catalog(data / "images"),
            supervisor=supervisor,
        )
        await backend.open()
        try:
            request = a_request(sample)
            await backend.launch(request)
            address = (await until(backend, request.instance_id, Phase.RUNNING, patience=patience)).address
            assert address is not None
            async with asyncio.timeout(patience):
                while await probe(Health(uri="/health"), address) is not None:  # noqa: ASYNC110  (another process)
                    await asyncio.sleep(0.01)
            base = f"http://{address.host}:{address.port}"
            async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as client:
                yield client
        finally:
            await backend.close(terminate=True)


async def test_echo_answers_in_each_of_its_ways(tmp_path: Path) -> None:
    """The message, repeats, events, errors, and a description of everything else, on one connection."""
    async with _running(tmp_path, "echo", patience=15) as client:
        plain = await client.post("/echo", json={"message": "hi"})
        repeated = await client.post("/echo", json={"message": "hi", "repeats": 3})
        events = await client.post("/echo", json={"message": "hi", "repeats": 2, "stream": True})
        accepted = await client.post("/echo", json={"message": "hi"}, headers={"Accept": "text/event-stream"})
        bad = await client.post("/echo", json={"message": "hi", "delay": -1})
        other = await client.patch("/some/path?q=1", content=b"body", headers={"X-One": "1"})

    assert plain.json() == {"message": "hi"}
    assert repeated.json() == {"message": "hi hi hi"}
    assert events.text == 'data: {"message": "hi"}\n\n' * 2
    assert events.headers["content-type"] == accepted.headers["content-type"] == "text/event-stream"
    assert (bad.status_code, "delay" in bad.json()["error"]) == (400, True)
    described = other.json()
    assert (described["method"], described["path"], described["body"]) == ("PATCH", "/some/path?q=1", "body")
    assert described["headers"]["X-One"] == "1"


async def test_echo_streams_as_it_goes(tmp_path: Path) -> None:
    """Each event is sent when it is due, not when all are."""
    async with _running(tmp_path, "echo", patience=15) as client:
        body = {"message": "hi", "delay": 0.3, "repeats": 3, "stream": True}
        arrivals = []
        async with client.stream("POST", "/echo", json=body) as answer:
            async for _ in answer.aiter_raw():
                arrivals.append(time.perf_counter())  # noqa: PERF401  (the moment is the point)

    assert arrivals[-1] - arrivals[0] > 0.4


async def test_echo_reads_a_chunked_body(tmp_path: Path) -> None:
    """A request without a length is understood."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"message": '
        yield b'"hi"}'

    async with _running(tmp_path, "echo", patience=15) as client:
        assert (await client.post("/echo", content=pieces())).json() == {"message": "hi"}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_embeddings_put_similar_sentences_close(tmp_path: Path) -> None:
    """The real model, installed from its packages: cats are nearer to kittens than to interest rates."""
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "The central bank raised interest rates."]
    async with _running(tmp_path, "embed", patience=500) as client:
        answer = (await client.post("/v1/embeddings", json={"input": texts})).json()
        alone = (await client.post("/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"})).json()
        bad = await client.post("/v1/embeddings", json={"input": []})
    cat, kitten, bank = (row["embedding"] for row in answer["data"])
    decoded = struct.unpack("<384f", base64.b64decode(alone["data"][0]["embedding"]))

    def similarity(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert len(cat) == 384
    assert similarity(cat, cat) == pytest.approx(1, abs=1e-4)
    assert similarity(cat, kitten) > 0.6
    assert similarity(cat, bank) < 0.2
    assert decoded == pytest.approx(cat, abs=1e-4)
    assert answer["usage"]["prompt_tokens"] > 15
    assert bad.status_code == 400
