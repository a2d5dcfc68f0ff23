"""`gpufn invoke` against a fake installation."""

from __future__ import annotations

import threading
from pathlib import Path

from fake_api import FID, VID, FakeApi, Reply, a_json, a_problem, a_version, serving
from running import against

IDS = {"nvcf-reqid": "33333333-3333-4333-8333-333333333333", "nvcf-status": "fulfilled"}


def test_the_answer_goes_to_standard_output_exactly() -> None:
    """Where standard output is no terminal, not one byte is added to what the function answered."""
    with serving(FakeApi([a_version()], answers=[Reply(200, b'{"a":1}', {"content-type": "application/json"})])) as api:
        ran = against(api, "invoke", "echo", '{"x": 1}', "--timeout", "7")
    sent = api.sent("POST", "/pexec/")

    assert (ran.code, ran.out, ran.err) == (0, '{"a":1}', "")
    assert f"/v2/nvcf/pexec/functions/{FID}" == sent.path
    assert sent.body == b'{"x": 1}'
    assert sent.headers["nvcf-poll-seconds"] == "7"
    assert len(sent.headers["gpufn-invocation-id"]) == 36


def test_a_terminal_gets_indented_json_without_control_characters() -> None:
    """On a terminal an answer is readable and cannot move the cursor."""
    with serving(FakeApi([a_version()], answers=[a_json({"a": "\x1b[2J\u009b"})])) as api:
        ran = against(api, "invoke", "echo", tty=True)

    assert ran.out == '{\n  "a": "\\u001b[2J\\x9b"\n}\n'


def test_a_version_can_be_pinned() -> None:
    """NAME:VERSION calls exactly that version, of which the beginning of the id is enough."""
    other = a_version(version="99999999-2222-4222-8222-222222222222")
    with serving(FakeApi([a_version(), other], answers=[a_json(1)])) as api:
        ran = against(api, "invoke", "echo:2222")

    assert ran.code == 0
    assert api.sent("POST", "/pexec/").path.endswith(f"/versions/{VID}")


def test_a_detached_call_is_polled_until_its_result_is_there() -> None:
    """A 202 is followed to the result at the status route, with the id the platform gave."""
    waiting = Reply(202, b"", IDS | {"nvcf-status": "in-progress"})
    with serving(FakeApi([a_version()], answers=[waiting, waiting, a_json({"done": True})])) as api:
        ran = against(api, "invoke", "echo", "--json")

    assert ran.json["response"] == {"done": True}
    assert api.sent("GET", "/pexec/status/").path.endswith(IDS["nvcf-reqid"])


def test_an_error_of_the_function_is_exit_1_with_its_detail() -> None:
    """What the function complains about is shown as it is, and where to look further."""
    problem = a_problem(404, "no such cat", "urn:inference-service:problem-details:not-found", **IDS)
    with serving(FakeApi([a_version()], answers=[problem])) as api:
        ran = against(api, "invoke", "echo")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: echo answered 404: no such cat\nfix: read `gpufn logs echo`\n"


def test_refusals_of_the_platform_have_exit_codes_of_their_own() -> None:
    """404, 403 and 504 of the platform end as 7, 6 and 8."""
    for status, code in ((404, 7), (403, 6), (504, 8), (429, 1)):
        with serving(FakeApi([a_version()], answers=[a_problem(status, "because")])) as api:
            ran = against(api, "invoke", "echo")

        assert (code, "error: because") == (ran.code, ran.err.splitlines()[0])


def test_direct_mode_prints_the_functions_own_error_body() -> None:
    """With --path the method, path, headers and even the error body are the user's and the function's."""
    with serving(FakeApi([a_version()], answers=[Reply(418, b"teapot", {"content-type": "text/plain", **IDS})])) as api:
        ran = against(api, "invoke", "echo", "--path", "/x?y=1", "--method", "get", "--header", "X-A: b")
    sent = api.seen[-1]

    assert (ran.code, ran.out) == (1, "teapot")
    assert (
        sent.method,
        sent.path,
        sent.headers["x-a"],
        sent.headers["function-id"],
        sent.body,
    ) == ("GET", "/x?y=1", "b", FID, b"")


def test_events_are_printed_as_they_are() -> None:
    """--stream asks for events; what comes is passed on untouched."""
    events = Reply(200, b"data: 1\n\ndata: 2\n\n", {"content-type": "text/event-stream"})
    with serving(FakeApi([a_version()], answers=[events])) as api:
        ran = against(api, "invoke", "echo", "--stream")

    assert ran.out == "data: 1\n\ndata: 2\n\n"
    assert api.sent("POST", "/pexec/").headers["accept"] == "text/event-stream"


def test_an_image_without_a_function_is_registered_and_deployed_first(tmp_path: Path) -> None:
    """`gpufn invoke echo` works on a fresh installation, and says what it did."""
    with serving(FakeApi(answers=[a_problem(404, "not yet"), a_json({"m": 1})])) as api:
        ran = against(api, "invoke", "echo", data=tmp_path)
    spec = api.sent("POST", "/deployments/").json["deploymentSpecifications"][0]

    assert (ran.code, ran.out) == (0, '{"m": 1}')
    assert "registering and deploying the image" in ran.err
    assert next(s for s in api.seen if s.path == "/v2/nvcf/functions" and s.body).json["containerImage"] == "echo"
    assert (spec["gpu"], spec["minInstances"], spec["maxInstances"]) == ("CPU", 0, 1)


def test_waiting_says_where_the_call_is() -> None:
    """While a call waits, its place in the queue and what the instances do are told on standard error."""
    gate = threading.Event()
    threading.Timer(1.3, gate.set).start()
    api = FakeApi([a_version()], answers=[Reply(200, b"1", {"content-type": "application/json"}, gate)])
    api.position = {"positionInQueue": 2, "phase": "queued"}
    api.instances = [{"status": "starting", "detail": "installing requirements"}]
    with serving(api):
        ran = against(api, "invoke", "echo")

    assert (ran.code, ran.out) == (0, "1")
    assert ran.err.startswith("queued, position 2 · starting: installing requirements · ")
    assert len(ran.err.splitlines()) == 1


def test_junk_is_refused_before_anything_is_sent() -> None:
    """A body, header, path, or time that makes no sense costs no call and ends with exit 2."""
    with serving(FakeApi([a_version()], answers=[a_json(1)])) as api:
        for junk in (
            ("{",),
            ("@/nonexistent",),
            ("{}", "--header", "nocolon"),
            ("{}", "--header", "a: b\r\nc: d"),
            ("{}", "--path", "x"),
            ("{}", "--timeout", "0"),
            ("{}", "--timeout", "nan"),
        ):
            ran = against(api, "invoke", "echo", *junk)

            assert ran.code == 2, junk
            assert ran.err.startswith("error: ")
            assert "fix: " in ran.err
    assert not [s for s in api.seen if "/pexec/" in s.path]


def test_what_cannot_be_called_is_said_with_the_remedy(tmp_path: Path) -> None:
    """Unknown, undeployed and ambiguous names each end with what to do."""
    api = FakeApi([a_version("idle", status="INACTIVE"), a_version("twin"), a_version("twin", id=VID, version=FID)])
    with serving(api):
        unknown = against(api, "invoke", "nothing", data=tmp_path)
        idle = against(api, "invoke", "idle", data=tmp_path)
        twin = against(api, "invoke", "twin", data=tmp_path)

    assert (unknown.code, idle.code, twin.code) == (7, 1, 2)
    assert "fix: gpufn deploy idle" in idle.err
    assert FID in twin.err
    assert VID in twin.err


def test_a_key_that_may_only_invoke_needs_ids() -> None:
    """Where the key cannot list functions, an id still works and a name is refused as forbidden."""
    with serving(FakeApi(answers=[a_json(1)], unlisted=True)) as api:
        by_id = against(api, "invoke", FID)
        pinned = against(api, "invoke", f"{FID}:{VID}")
        by_name = against(api, "invoke", "echo")

    assert (by_id.code, pinned.code, by_name.code) == (0, 0, 6)
    assert api.sent("POST", "/pexec/").path.endswith(f"{FID}/versions/{VID}")
