"""Every other command against a fake installation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_api import FID, KEY, VID, FakeApi, a_problem, a_version, serving
from running import against, run

from gpufn.cli.status import reasons


def test_deploy_waits_and_reports() -> None:
    """A deployment names the GPU's default instance type and ends ACTIVE."""
    with serving(FakeApi([a_version(status="INACTIVE")])) as api:
        ran = against(api, "deploy", "echo", "--gpu", "h100", "--min", "2", "--concurrency", "4")

    assert (ran.code, ran.out) == (0, "echo  ACTIVE\n")
    assert api.sent("POST", "/deployments/").json["deploymentSpecifications"] == [
        {
            "gpu": "H100",
            "instanceType": "ON-PREM.GPU.H100_2x",
            "minInstances": 2,
            "maxInstances": 2,
            "maxRequestConcurrency": 4,
        }
    ]


def test_deploy_with_an_idle_time_of_its_own() -> None:
    """``--idle-to-zero`` becomes part of the specification's autoscaling; nonsense is a usage error."""
    with serving(FakeApi([a_version(status="INACTIVE")])) as api:
        ran = against(api, "deploy", "echo", "--gpu", "CPU", "--min", "0", "--idle-to-zero", "90")
        wrong = against(api, "deploy", "echo", "--gpu", "CPU", "--idle-to-zero", "soon")

    assert (ran.code, wrong.code) == (0, 2)
    (spec,) = api.sent("POST", "/deployments/").json["deploymentSpecifications"]
    assert spec["autoscalingConfiguration"] == {"scaleToZeroIdleTimeout": "PT90S"}


def test_deploy_that_ends_in_error_says_the_cause() -> None:
    """ERROR is exit 1 with the reason the platform gives."""
    with serving(FakeApi([a_version(status="INACTIVE")], becomes="ERROR", errors=["no image 'x'"])) as api:
        ran = against(api, "deploy", "echo", "--gpu", "CPU")

    assert ran.code == 1
    assert "error: echo ended in ERROR: no image 'x'" in ran.err


def test_deploy_that_takes_too_long_is_exit_8() -> None:
    """A wait ends, and says what the instances are doing."""
    api = FakeApi(
        [a_version(status="INACTIVE")], becomes="DEPLOYING", instances=[{"status": "starting", "detail": "pulling"}]
    )
    with serving(api):
        ran = against(api, "deploy", "echo", "--gpu", "CPU", "--timeout", "0.3")

    assert ran.code == 8
    assert "still DEPLOYING: starting: pulling" in ran.err
    assert "DEPLOYING · starting: pulling" in ran.err.splitlines()[0]


def test_no_wait_returns_at_once() -> None:
    """--no-wait reports the state as it is and asks no further."""
    with serving(FakeApi([a_version(status="INACTIVE")], becomes="DEPLOYING")) as api:
        ran = against(api, "deploy", "echo", "--gpu", "CPU", "--no-wait", "--json")

    assert ran.json["deployment"]["functionStatus"] == "DEPLOYING"


def test_deploy_refusals_name_the_remedy() -> None:
    """No GPU, an unknown GPU, and a version that is deployed already."""
    with serving(FakeApi([a_version("mine", status="INACTIVE"), a_version("up", id=VID, version=FID)])) as api:
        none = against(api, "deploy", "mine")
        unknown = against(api, "deploy", "mine", "--gpu", "Z9")
        twice = against(api, "deploy", "up", "--gpu", "CPU")

    assert (none.code, unknown.code, twice.code) == (2, 2, 1)
    assert "CPU, H100" in none.err
    assert "CPU, H100" in unknown.err
    assert "gpufn undeploy up" in twice.err


def test_undeploy() -> None:
    """It ends the deployment, gracefully if asked; what is not deployed is an error."""
    with serving(FakeApi([a_version()])) as api:
        first = against(api, "undeploy", "echo", "--graceful")
        second = against(api, "undeploy", "echo")

    assert (first.code, first.out, second.code) == (0, "echo  INACTIVE\n", 1)
    assert api.sent("DELETE", "/deployments/").path.endswith("?graceful=true")


def test_function_create_sends_what_was_said() -> None:
    """Every option ends up in the body under the wire's name."""
    with serving(FakeApi()) as api:
        ran = against(
            api, "function", "create", "f", "--image", "reg/x:1", "--inference-url", "/p", "--port", "9000",
            "--health", "/ok",
            "--env", "A=b=c", "--env", "E=", "--args=-v", "--description", "d", "--tag", "t", "--json",
        )  # fmt: skip

    assert ran.code == 0
    assert api.sent("POST", "/functions").json == {
        "name": "f",
        "containerImage": "reg/x:1",
        "inferenceUrl": "/p",
        "inferencePort": 9000,
        "containerArgs": "-v",
        "description": "d",
        "tags": ["t"],
        "containerEnvironment": [{"key": "A", "value": "b=c"}, {"key": "E", "value": ""}],
        "health": {"protocol": "HTTP", "uri": "/ok", "port": 9000, "timeout": "PT10S", "expectedStatusCode": 200},
    }


def test_function_create_from_a_file_and_as_a_version(tmp_path: Path) -> None:
    """--file is the body, options win over it, and --version-of adds to a function that exists."""
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"name": "echo", "containerImage": "a", "inferenceUrl": "/a", "secrets": []}))
    with serving(FakeApi([a_version()])) as api:
        twice = against(api, "function", "create", "--file", str(path))
        ran = against(api, "function", "create", "--file", str(path), "--image", "b", "--version-of", "echo")
    sent = api.sent("POST", "/functions")

    assert (twice.code, ran.code) == (1, 0)
    assert "--version-of echo" in twice.err
    assert f"/v2/nvcf/functions/{FID}/versions" == sent.path
    assert (sent.json["containerImage"], sent.json["secrets"]) == ("b", [])


@pytest.mark.parametrize(
    "junk", [("f",), (), ("f", "--image", "x", "--env", "novalue"), ("--file", "/nonexistent"), ("f", "--port", "x")]
)
def test_function_create_junk(junk: tuple[str, ...]) -> None:
    """What cannot be a function is refused with exit 2, cause and fix."""
    with serving(FakeApi()) as api:
        ran = against(api, "function", "create", *junk)

    assert ran.code == 2
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == ["error", "fix"]


def test_function_list_get_delete() -> None:
    """A table, one version in full, and deletion of the one version or of all."""
    with serving(FakeApi([a_version(), a_version(version=FID)])) as api:
        listed = against(api, "function", "list")
        as_json = against(api, "function", "list", "--json")
        shown = against(api, "function", "get", "echo")
        several = against(api, "function", "delete", "echo")
        one = against(api, "function", "delete", f"echo:{VID}")
        rest = against(api, "function", "delete", "echo", "--all", "--json")
        gone = against(api, "function", "get", "echo")

    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "echo", "echo"]
    assert len(as_json.json["functions"]) == 2
    assert "deployed on             CPU (T), 0 to 1 instances" in shown.out
    assert (several.code, one.code, rest.code, gone.code) == (2, 0, 0, 7)
    assert rest.json["deleted"] == [{"id": FID, "versionId": FID}]


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (("errored", "errored"), True),  # it scales to zero, and fails whenever it is called
        (("errored", "terminated"), False),
        (("terminated", "errored"), True),
        (("ready", "errored"), False),
    ],
)
def test_status_says_what_fails_in_an_active_function(statuses: tuple[str, str], shown: bool) -> None:
    """A failed instance of an ACTIVE function is a reason while nothing runs and nothing has ended well since."""
    ids = {"name": "f", "id": "1", "versionId": "2", "status": "ACTIVE"}
    failure = {"failure": {"message": "exited with code 3"}}
    found = [
        {"status": status, "createdAt": f"2026-0{n + 1}", "endedAt": f"2026-0{n + 1}"}
        | (failure if status == "errored" else {})
        for n, status in enumerate(statuses)
    ]
    assert list(reasons(ids, found)) == (["exited with code 3"] if shown else [])


def test_status_shows_functions_and_reasons() -> None:
    """Backends, instances, queue, and why an instance failed."""
    api = FakeApi([a_version(status="DEGRADED")])
    api.instances = [{"status": "errored", "failure": {"message": "exited with code 3"}, "createdAt": "2026"}]
    with serving(api):
        ran = against(api, "status")
        as_json = against(api, "status", "--json")

    assert "docker    does not work: none" in ran.out
    assert "echo: exited with code 3" in ran.out
    assert ran.out.splitlines()[-2].split()[3:] == ["DEGRADED", "no", "instance", "3"]
    assert as_json.json["functions"][0]["queue"] == 3


def test_logs() -> None:
    """Lines as written; the instance in front where there are several; raw JSON on request."""
    api = FakeApi([a_version()], logs=[{"instanceId": "abcdefghij", "text": "hello \x1b[2J"}])
    with serving(api):
        one = against(api, "logs", "echo", "--tail", "5")
        seen = against(api, "logs", "echo", tty=True)
        api.instances = [{"status": "ready"}, {"status": "ready"}]
        two = against(api, "logs", "echo", "-f")
        raw = against(api, "logs", "echo", "--json")

    assert one.out == "hello \x1b[2J\n"
    assert seen.out == "hello \\x1b[2J\n"
    assert two.out.startswith("abcdefgh  hello")
    assert raw.json["instanceId"] == "abcdefghij"
    assert api.seen[3].path != api.seen[2].path
    assert any(s.path.endswith("?tail=5") for s in api.seen)
    assert any(s.path.endswith("?follow=true") for s in api.seen)


def test_secrets(tmp_path: Path) -> None:
    """A value comes from a file, never from the command line; names are listed; the master key is rotated."""
    (tmp_path / "value").write_text('{"user": "u"}\n')
    version = a_version() | {"secrets": ["token"]}
    with serving(FakeApi([version])) as api:
        done = against(api, "secrets", "set", "echo", "token", "--file", str(tmp_path / "value"))
        text = api.sent("PUT", "/secrets/").json
        against(api, "secrets", "set", "echo", "token", "--object", "--file", str(tmp_path / "value"))
        parsed = api.sent("PUT", "/secrets/").json
        listed = against(api, "secrets", "list", "echo")
        rotated = against(api, "secrets", "rotate")
        missing = against(api, "secrets", "set", "echo", "token", "--file", str(tmp_path / "absent"))

    assert (done.code, done.out) == (0, "echo  token is set\n")
    assert text == {"secrets": [{"name": "token", "value": '{"user": "u"}'}]}
    assert parsed == {"secrets": [{"name": "token", "value": {"user": "u"}}]}
    assert listed.out == "token\n"
    assert rotated.out == "2 secrets are under master key m1\n"
    assert (missing.code, "cannot be read" in missing.err) == (2, True)


def test_keys() -> None:
    """A new key's value alone is printed; the list never has it; revoking is by id."""
    with serving(FakeApi()) as api:
        made = against(api, "keys", "create", "--scope", "invoke_function", "--function", FID, "--expires-in", "30d")
        listed = against(api, "keys", "list")
        revoked = against(api, "keys", "revoke", "k1")
        unknown = against(api, "keys", "revoke", "../x")
        junk = against(api, "keys", "create", "--expires-in", "soon")
    sent = api.sent("POST", "/keys").json

    assert made.out == "nvapi-secret\n"
    assert [{"type": "function", "id": f"{FID}/*"}] == sent["resources"]
    assert sent["expiresAt"].endswith("Z")
    assert "nvapi-secret" not in listed.out
    assert "nvapi-k1" in listed.out
    assert (revoked.code, unknown.code, junk.code) == (0, 7, 2)


def test_images_work_without_a_server(tmp_path: Path) -> None:
    """Adding, listing and removing need nothing but the data directory."""
    source, data = tmp_path / "src", str(tmp_path / "data")
    source.mkdir()
    (source / "function.toml").write_text('name = "mine"\ncommand = ["{python}", "app.py"]\n')
    added = run("image", "add", str(source), "--data", data)
    listed = run("image", "list", "--data", data)
    as_json = run("image", "list", "--data", data, "--json")
    removed = run("image", "remove", "mine", "--data", data)
    again = run("image", "remove", "mine", "--data", data)
    broken = run("image", "add", str(tmp_path / "none"), "--data", data)

    assert added.out == "added mine\n"
    assert {"echo", "mine"} <= {line.split()[0] for line in listed.out.splitlines()}
    assert {"echo", "mine"} <= {image["name"] for image in as_json.json["images"]}
    assert (removed.code, again.code, broken.code) == (0, 7, 2)


def test_settings_name_their_source(tmp_path: Path) -> None:
    """Each value with where it came from; an unknown name is exit 2."""
    (tmp_path / "gpufn.toml").write_text("[server]\nport = 9999\n")
    shown = run("settings", "--data", str(tmp_path), "--json")
    table = [line.split()[:2] for line in run("settings", "--data", str(tmp_path)).out.splitlines()]
    (tmp_path / "gpufn.toml").write_text("[server]\nprot = 9999\n")
    wrong = run("settings", "--data", str(tmp_path))

    assert {"value": 9999, "source": str(tmp_path / "gpufn.toml")} == shown.json["server.port"]
    assert ["server.tls", "false"] in table
    assert wrong.code == 2
    assert "server.prot" in wrong.err


def test_refusals_end_every_command_the_same_way() -> None:
    """401 and 403 are exit 6, 404 is 7, 503 is 1, on whatever command, with one line each for cause and fix."""
    for status, code in ((401, 6), (403, 6), (404, 7), (503, 1)):
        with serving(FakeApi(refuse=a_problem(status, "so it is"))) as api:
            for command in (
                ("status",),
                ("function", "list"),
                ("keys", "list"),
                ("logs", "x"),
                ("deploy", "x"),
                ("invoke", "x"),
            ):
                ran = against(api, *command)

                assert (code, "", "error: so it is") == (ran.code, ran.out, ran.err.splitlines()[0])


def test_the_wrong_key_is_said_to_be_wrong() -> None:
    """An empty 401 still gets a cause and a fix."""
    with serving(FakeApi()) as api:
        ran = against(api, "status", key="nvapi-wrong")

    assert "error: answered 401 Unauthorized\nfix: check the key" in ran.err
    assert ran.code == 6


def test_env_prints_what_a_shell_can_eval(tmp_path: Path) -> None:
    """Only comments and exports, shell-quoted, each name once; the key is that of the data directory."""
    with serving(FakeApi()) as api:
        (tmp_path / "running.json").write_text(json.dumps({"url": api.url}))
        (tmp_path / "admin.key").write_text("nvapi-it's\n")
        ran = run("env", "--data", str(tmp_path))
        as_json = run("env", "--data", str(tmp_path), "--json")
    names = [line.split()[1].partition("=")[0] for line in ran.out.splitlines() if line.startswith("export ")]

    assert all(line.startswith(("# ", "export ")) for line in ran.out.splitlines())
    assert len(names) == len(set(names))
    assert """export GPUFN_API_KEY='nvapi-it'"'"'s'""" in ran.out
    assert api.url == as_json.json["NVCF_BASE_URL"]
    assert set(names) == set(as_json.json)


def test_env_without_a_server_is_exit_5(tmp_path: Path) -> None:
    """No running.json, or one that a dead server left behind: nothing on standard output."""
    never = run("env", "--data", str(tmp_path))
    (tmp_path / "running.json").write_text('{"url": "http://127.0.0.1:1"}')
    dead = run("env", "--data", str(tmp_path))

    assert (never.code, never.out, dead.code, dead.out) == (5, "", 5, "")
    assert f"fix: start it with `gpufn up --data {tmp_path}`" in dead.err


def test_the_admin_key_is_sent_to_its_own_installation_only(tmp_path: Path) -> None:
    """A URL from elsewhere never gets the key of the data directory."""
    with serving(FakeApi()) as api, serving(FakeApi()) as other:
        (tmp_path / "running.json").write_text(json.dumps({"url": api.url}))
        (tmp_path / "admin.key").write_text(KEY)
        own = run("keys", "list", "--data", str(tmp_path))
        foreign = run("keys", "list", "--data", str(tmp_path), "--url", other.url)

    assert (own.code, foreign.code) == (0, 6)
    assert "authorization" not in other.seen[0].headers
