"""Everything that can be wrong when gpufn starts ends it at once, with one clear sentence and a stable exit code."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from pathlib import Path

import httpx
import pytest
from installation import ENVIRONMENT, PROGRAM, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def up(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`gpufn up` that is expected to end by itself."""
    command = [*PROGRAM, "up", *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=60, check=False
    )


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    """Exit code 3, and the option that chooses another port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        assert_refused(up("--data", str(tmp_path / "d"), "--port", port), 3, port, "--port")


def test_an_unusable_data_directory(tmp_path: Path) -> None:
    """Exit code 4, and the path."""
    (tmp_path / "file").write_text("")

    assert_refused(up("--data", str(tmp_path / "file"), "--port", "0"), 4, str(tmp_path / "file"), "--data")


def test_a_second_start_on_the_same_data(tmp_path: Path) -> None:
    """Exit code 4; the first goes on undisturbed."""
    with installed(tmp_path / "data") as here:
        assert_refused(up("--data", str(here.data), "--port", "0"), 4, "another gpufn runs", "--data")

        assert here.gpufn("status").returncode == 0


def test_a_damaged_database(tmp_path: Path) -> None:
    """Exit code 4; the file is not touched."""
    with installed(tmp_path / "data") as here:
        here.stop()
    database = tmp_path / "data" / "gpufn.db"
    for leftover in database.parent.glob("gpufn.db-*"):
        leftover.unlink()
    content = bytearray(database.read_bytes())
    content[100:4000] = b"\xff" * 3900
    database.write_bytes(content)

    refused = up("--data", str(tmp_path / "data"), "--port", "0")
    assert_refused(refused, 4, "damaged")
    assert refused.stderr.count("damaged") == 1  # said once: what never served is not started again
    assert database.read_bytes() == bytes(content)


def test_a_database_of_a_newer_release(tmp_path: Path) -> None:
    """Exit code 4, and what to install."""
    with installed(tmp_path / "data") as here:
        here.stop()
    with sqlite3.connect(tmp_path / "data" / "gpufn.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()

    assert_refused(up("--data", str(tmp_path / "data"), "--port", "0"), 4, "newer gpufn")


def test_unknown_and_wrong_settings(tmp_path: Path) -> None:
    """Exit code 2, naming the setting and where it came from."""
    data = tmp_path / "d"

    assert_refused(up("--data", str(data), GPUFN_SERVER__PROT="1"), 2, "server.prot", "environment")
    assert_refused(up("--data", str(data), GPUFN_SERVER__PORT="many"), 2, "server.port", "many")
    assert_refused(up("--data", str(data), "--gateways", "3"), 2, "--gateways")
    assert_refused(up("--data", str(data), "--port", "99999"), 2, "99999")
    assert_refused(up("--data", str(data), "--config", "/nonexistent.toml"), 2, "/nonexistent.toml")
    data.mkdir()
    (data / "gpufn.toml").write_text("[server\n")
    assert_refused(up("--data", str(data)), 2, "gpufn.toml")


def test_an_unknown_image_ends_the_deployment_with_the_reason(tmp_path: Path) -> None:
    """`gpufn deploy` of an image nobody has fails within seconds, and says how to provide it."""
    with installed(tmp_path / "data") as here:
        here.gpufn("function", "create", "lost", "--image", "no/such-image:1", "--inference-url", "/")
        done = here.gpufn("deploy", "lost", "--gpu", "H100")

        assert_refused(done, 1, "no/such-image:1", "gpufn image add")


def test_a_broken_function_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    """`gpufn image add` names the file and the key; nothing is added."""
    image = tmp_path / "image"
    image.mkdir()
    (image / "function.toml").write_text('name = "x"\ncomand = ["true"]\n')
    with installed(tmp_path / "data") as here:
        done = here.gpufn("image", "add", str(image))

        assert done.returncode != 0
        assert "function.toml" in done.stderr
        assert "comand" in done.stderr
        assert "x" not in [line.split()[0] for line in here.gpufn("image", "list").stdout.splitlines() if line.strip()]


def test_a_crashing_function_says_what_it_printed(tmp_path: Path) -> None:
    """A function that ends at once puts its deployment in ERROR, with its last words in healthInfo."""
    image = tmp_path / "image"
    image.mkdir()
    (image / "function.toml").write_text(
        'name = "crash"\ncommand = ["{python}", "-c", "print(\'no model\'); exit(7)"]\n'
    )
    with installed(tmp_path / "data") as here:
        assert here.gpufn("image", "add", str(image)).returncode == 0
        here.gpufn("function", "create", "crash", "--image", "crash", "--inference-url", "/")
        done = here.gpufn("deploy", "crash", "--gpu", "H100", "--min", "1", "--max", "1")

        assert_refused(done, 1, "exited with code 7", "no model")


def test_a_full_disk_is_a_clear_503_and_heals(tmp_path: Path) -> None:
    """When the database cannot grow a create is refused with 503 and the remedy; reads go on; space heals it."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this test mounts a tmpfs, which needs root")
    try:
        with installed(small / "data") as here:
            filler = small / "filler"
            _fill(filler)
            with here.client() as client:
                body = {"name": "f", "containerImage": "echo", "inferenceUrl": "/", "description": "x" * 256}
                env = [{"key": f"K{n}", "value": "v" * 1000} for n in range(100)]
                refused = eventually(
                    lambda: _refusal(client.post("/v2/nvcf/functions", json=body | {"containerEnvironment": env})),
                    within=30,
                    what="the disk is full",
                )
                assert refused.status_code == 503
                assert "space" in refused.json()["detail"]
                assert client.get("/v2/nvcf/functions").status_code == 200
                assert client.get("/health").status_code == 503
                database = client.get("/v2/gpufn/status").json()["database"]
                assert not database["working"]
                assert "space" in database["detail"]
                filler.unlink()
                assert client.post("/v2/nvcf/functions", json=body).status_code == 200
                eventually(lambda: client.get("/health").status_code == 200, within=5, what="healthy again")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def _refusal(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_error else None
