"""/var/secrets: of processes, in and out of bubblewrap, and of containers."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract import a_request, lines, until

from gpufn.compute import secret_files
from gpufn.compute.backend import BackendError, Phase
from gpufn.compute.catalog import Catalog
from gpufn.compute.docker import spec
from gpufn.compute.process import ProcessBackend
from gpufn.compute.process_record import FILE
from gpufn.compute.process_spawn import bubblewrap_works
from gpufn.model.ids import InstanceId, new_id
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import DockerSettings, ProcessSettings

READER = """
import os, pathlib, time
path, last = pathlib.Path(os.environ["GPUFN_SECRETS_DIR"], "secrets.json"), ""
while True:
    text = path.read_text()
    if text != last:
        print(path.parent, text, flush=True)
        last = text
    time.sleep(0.02)
"""


@pytest.fixture(params=["none", "bubblewrap"])
async def backend(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ProcessBackend]:
    """A process backend with an image that prints its secrets whenever they change."""
    if request.param == "bubblewrap" and not bubblewrap_works():
        pytest.skip("bwrap is not installed, or may not make namespaces here")
    source = tmp_path / "reader"
    source.mkdir()
    (source / "app.py").write_text(READER)
    (source / "function.toml").write_text('name = "reader"\ncommand = ["{python}", "app.py"]\n')
    catalog = Catalog(tmp_path / "data" / "images")
    catalog.add(source)
    async with Supervisor() as supervisor:
        settings = ProcessSettings(isolation=request.param, warm=0)
        made = ProcessBackend(settings, data=tmp_path / "data", catalog=catalog, supervisor=supervisor)
        await made.open()
        yield made
        await made.close(terminate=True)


async def test_a_process_reads_its_secrets_and_their_changes(backend: ProcessBackend, tmp_path: Path) -> None:
    """There at its start, replaced while it runs, and gone from the disk when it has ended; never in the record."""
    request = a_request("reader", secrets={"secrets.json": '{"a": "canary-1"}'})
    directory = tmp_path / "data" / "instances" / request.instance_id
    await backend.launch(request)
    await until(backend, request.instance_id, Phase.RUNNING, patience=15)
    while not await lines(backend, request.instance_id):
        await until(backend, request.instance_id, Phase.RUNNING, patience=15)

    assert "canary" not in (directory / FILE).read_text()
    assert stat.S_IMODE((directory / "secrets" / "secrets.json").stat().st_mode) == 0o600
    await backend.refresh(request.instance_id, {"secrets.json": '{"a": "canary-2"}'})
    while len(await lines(backend, request.instance_id)) < 2:
        await until(backend, request.instance_id, Phase.RUNNING, patience=15)
    said = [line.split(" ", 1) for line in await lines(backend, request.instance_id)]
    assert [json.loads(text) for _, text in said] == [{"a": "canary-1"}, {"a": "canary-2"}]
    await backend.terminate(request.instance_id, grace=0)
    await until(backend, request.instance_id, Phase.ABSENT, patience=15)
    assert [p.name for p in (directory / "secrets").iterdir()] == []


async def test_refreshing_what_is_not_here_writes_nothing(backend: ProcessBackend, tmp_path: Path) -> None:
    """A late refresh leaves no secret behind."""
    instance_id = InstanceId(new_id())

    await backend.refresh(instance_id, {"secrets.json": "{}"})

    assert not (tmp_path / "data" / "instances" / instance_id).exists()


def test_a_file_that_is_right_is_left_alone(tmp_path: Path) -> None:
    """What has not changed is not written again; what has is replaced in one step."""
    secret_files.write(tmp_path, {"a": "1", "b": "1"}, mode=0o644)
    before = {name: (tmp_path / name).stat().st_ino for name in "ab"}

    secret_files.write(tmp_path, {"a": "1", "b": "2"}, mode=0o644)

    assert (tmp_path / "a").stat().st_ino == before["a"]
    assert (tmp_path / "b").stat().st_ino != before["b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """As the backend's own error, which controllers retry."""
    with pytest.raises(BackendError, match="secrets cannot be written"):
        secret_files.write(tmp_path / "absent", {"a": "1"}, mode=0o600)


def test_a_container_sees_them_read_only(tmp_path: Path) -> None:
    """Mounted at /var/secrets; no value is in the body that the engine keeps and shows."""
    request = a_request("x", secrets={"secrets.json": "canary"})
    body = spec.container(
        request,
        image="x",
        installation="i",
        limits=spec.limits(DockerSettings()),
        mounts=spec.mounts(request, tmp_path / "inf", tmp_path / "secrets"),
        devices=(),
    )

    mount = {"Type": "bind", "Source": str(tmp_path / "secrets"), "Target": "/var/secrets", "ReadOnly": True}
    assert mount in body["HostConfig"]["Mounts"]
    assert "GPUFN_SECRETS_DIR=/var/secrets" in body["Env"]
    assert "canary" not in json.dumps(body) + repr(request)
