"""The calls that terraform-provider-ngc was recorded making, in its order, over HTTP (clients page, section 7).

Not the provider itself: that is a Go program, and needs Terraform.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.clients, pytest.mark.e2e, pytest.mark.timeout(90)]
ORG = "/v2/orgs/nvcf-default/nvcf"
FUNCTION = {"name": "tf", "containerImage": "echo", "inferenceUrl": "/echo", "inferencePort": 8000}
SPEC = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x", "minInstances": 1, "maxInstances": 1}
NOT_CONFIGURED = {"containerEnvironment", "containerArgs", "models", "resources", "telemetries", "tags", "helmChart"}
FILLED_IN = {"id", "versionId", "ncaId", "status", "functionType", "createdAt", "description", "healthUri", "health"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    """A running installation that must end cleanly."""
    with installed(tmp_path / "data") as running:
        yield running
        assert running.stop() == 0


class Provider:
    """The provider's requests, for one version of one function."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        made = self.call("POST", "/functions", json=FUNCTION).json()["function"]
        self.created: dict[str, Any] = made
        self.id, self.path = made["id"], f"functions/{made['id']}/versions/{made['versionId']}"

    def call(self, method: str, path: str, code: int = 200, **options: Any) -> httpx.Response:
        """One request, which must be answered with ``code``."""
        answer = self._client.request(method, ORG + path, **options)
        assert answer.status_code == code, answer.text
        return answer

    def deployment(self) -> dict[str, Any]:
        """What the provider polls until the status is ACTIVE."""
        found: dict[str, Any] = self.call("GET", f"/deployments/{self.path}").json()["deployment"]
        assert found["functionStatus"] in ("DEPLOYING", "ACTIVE")
        return found

    def deploy(self) -> None:
        """Deploy and wait."""
        self.call("POST", f"/deployments/{self.path}", json={"deploymentSpecifications": [SPEC]})
        eventually(lambda: self.deployment()["functionStatus"] == "ACTIVE", within=20, what="ACTIVE")


def test_a_plan_finds_what_was_applied(here: Installation) -> None:
    """Create, deploy and read: all that the server fills in stays equal, and what was not configured stays absent."""
    with here.client() as client:
        provider = Provider(client)
        parties = provider.call("GET", f"/authorizations/{provider.path}").json()["function"]["authorizedParties"]
        absent = provider.call("GET", f"/deployments/{provider.path}", 404).json()
        provider.deploy()
        (read,) = provider.call("GET", f"/functions/{provider.id}/versions").json()["functions"]
        (spec,) = provider.deployment()["deploymentSpecifications"]

    assert parties == []
    assert "detail" in absent
    assert provider.created.keys() >= FILLED_IN
    assert {k: read[k] for k in FILLED_IN - {"status"}} == {k: provider.created[k] for k in FILLED_IN - {"status"}}
    assert len(read["health"]) == 5
    assert not NOT_CONFIGURED & read.keys()
    assert {k: spec[k] for k in SPEC} == SPEC
    assert not {"clusters", "regions", "configuration", "backend"} & spec.keys()


def test_an_applied_change_is_read_back(here: Installation) -> None:
    """Update: tags through ``metadata``, then a PATCH of each GPU specification."""
    with here.client() as client:
        provider = Provider(client)
        provider.deploy()
        provider.call("PUT", f"/metadata/{provider.path}", json={"tags": ["team:ops"]})
        before = provider.deployment()
        spec = before["deploymentSpecifications"][0]["gpuSpecificationId"]
        change = {"minInstances": 1, "maxInstances": 2}
        provider.call("PATCH", f"/deployments/{before['deploymentId']}/gpu-specifications/{spec}", json=change)
        (read,) = provider.call("GET", f"/functions/{provider.id}/versions").json()["functions"]
        (after,) = provider.deployment()["deploymentSpecifications"]

    assert read["tags"] == ["team:ops"]
    assert (after["gpuSpecificationId"], after["maxInstances"]) == (spec, 2)


def test_destroy_takes_the_deployment_along(here: Installation) -> None:
    """DELETE of a deployed version is 204 without a body and ends its instances; the read after it says "Not found"."""
    with here.client() as client:
        provider = Provider(client)
        provider.deploy()
        assert here.instances()
        gone = provider.call("DELETE", f"/{provider.path}", 204)
        missing = provider.call("GET", f"/{provider.path}", 404).json()
        eventually(lambda: not here.instances(), within=20, what="no instance is left")

    assert gone.content == b""
    assert "Not found" in missing["detail"]


def test_a_graceful_destroy(here: Installation) -> None:
    """With ``graceful_deletion`` the deployment goes first (200), then the version (204)."""
    with here.client() as client:
        provider = Provider(client)
        provider.deploy()
        undeployed = provider.call("DELETE", f"/deployments/{provider.path}", params={"graceful": "true"}).json()
        provider.call("DELETE", f"/{provider.path}", 204)

    assert undeployed["function"]["id"] == provider.id


def test_errors_are_worded_as_the_provider_expects(here: Installation) -> None:
    """min above max starts with "Validation failed"; without a key it is 401, with a JSON body."""
    with here.client() as client:
        provider = Provider(client)
        wrong = SPEC | {"minInstances": 2}
        specs = {"deploymentSpecifications": [wrong]}
        refused = provider.call("POST", f"/deployments/{provider.path}", 400, json=specs).json()
        anonymous = {"Authorization": ""}  # a key that is not known would be 403 (control-plane page, section 3)
        stranger = provider.call("GET", f"/functions/{provider.id}/versions", 401, headers=anonymous).json()

    assert refused["detail"].startswith("Validation failed")
    assert stranger["status"] == 401


def test_what_cannot_be_is_refused(here: Installation) -> None:
    """A party that is no account and a telemetry endpoint without a place are 400: an apply fails instead of lying."""
    with here.client() as client:
        provider = Provider(client)
        parties = {"authorizedParties": [{"ncaId": "another"}]}
        sharing = provider.call("POST", f"/authorizations/{provider.path}", 400, json=parties).json()
        telemetry = provider.call("POST", "/telemetries", 400, json={"name": "t"}).json()

    assert sharing["detail"]
    assert "endpoint" in telemetry["detail"]


def test_a_host_name_of_nvidias_is_served_by_path(here: Installation) -> None:
    """Clients that are led here by a proxy or a hosts file keep NVIDIA's name in the Host header."""
    with here.client() as client:
        provider = Provider(client)
        for host in ("api.nvcf.nvidia.com", "api.ngc.nvidia.com"):
            provider.call("GET", f"/{provider.path}", headers={"Host": host})
