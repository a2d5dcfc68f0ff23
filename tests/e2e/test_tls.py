"""The TLS port and the CONNECT proxy of the real program."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from installation import ECHO, Installation, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def exported(here: Installation) -> dict[str, str]:
    """What `gpufn env` exports."""
    done = here.gpufn("env", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def headers(here: Installation) -> dict[str, str]:
    return {"Authorization": f"Bearer {here.key}"}


@pytest.mark.parametrize("mode", [(), ("--single-process",)])
def test_clients_that_insist_on_tls_are_served(tmp_path: Path, mode: tuple[str, ...]) -> None:
    """The authority that `gpufn env` names is enough; without it there is no connection; URLs made there are https."""
    with installed(tmp_path / "data", "--tls", "--proxy", *mode) as here:
        found = exported(here)
        trust = ssl.create_default_context(cafile=found["REQUESTS_CA_BUNDLE"])
        url = found["NGC_CLI_API_URL"]

        with httpx.Client(verify=trust, headers=headers(here)) as client:
            made = client.post(f"{url}/v2/nvcf/functions", json=ECHO)
            asset = client.post(f"{url}/v2/nvcf/assets", json={"contentType": "text/plain", "description": "d"})
            by_address = client.get(url.replace("localhost", "127.0.0.1") + "/health")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", verify=True)
        trusting = here.gpufn("status", "--url", url, "--key", here.key, environment=found)
        doubting = here.gpufn("status", "--url", url, "--key", here.key)

        assert url.startswith("https://localhost:")
        assert (made.status_code, by_address.status_code) == (200, 200)
        assert (trusting.returncode, doubting.returncode) == (0, 5), trusting.stderr
        assert "is not trusted" in doubting.stderr
        assert "gpufn env" in doubting.stderr
        assert asset.json()["uploadUrl"].startswith(url)


def test_grpc_over_tls_shares_the_port(tmp_path: Path) -> None:
    """A secure channel reaches functions: an unknown one is told so by the gateway itself."""
    with installed(tmp_path / "data", "--tls") as here:
        found = exported(here)
        roots = Path(found["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_bytes()
        target = found["NGC_CLI_API_URL"].removeprefix("https://")
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(roots)) as channel:
            call = channel.unary_unary("/Echo/EchoMessage")
            metadata = (
                ("authorization", f"Bearer {here.key}"),
                ("function-id", "6f1c0000-0000-4000-8000-000000000001"),
            )
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", metadata=metadata, timeout=20)

        assert refused.value.code() is not grpc.StatusCode.UNAVAILABLE, refused.value.details()


def test_fixed_host_names_are_led_here_by_the_proxy(tmp_path: Path) -> None:
    """A client that only knows api.nvcf.nvidia.com works unchanged; other hosts are refused."""
    with installed(tmp_path / "data", "--proxy") as here:
        found = exported(here)
        trust = ssl.create_default_context(cafile=found["SSL_CERT_FILE"])
        with httpx.Client(verify=trust, proxy=found["HTTPS_PROXY"], headers=headers(here)) as client:
            listed = client.get("https://api.nvcf.nvidia.com/v2/nvcf/functions")
            with pytest.raises(httpx.ProxyError, match="403"):
                client.get("https://example.com/")

        assert listed.json() == {"functions": []}
