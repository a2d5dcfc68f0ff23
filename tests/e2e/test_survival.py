"""What a crash costs: nothing that was committed, and no process left behind."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_restart_gives_back_the_same_functions(tmp_path: Path) -> None:
    """After SIGTERM and a new start the functions are there and their deployments come back to ACTIVE by themselves."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        key = here.key
        assert here.stop() == 0
        assert here.instances() == []
        here.start()

        eventually(lambda: here.status(*ids) == "ACTIVE", within=20, what="ACTIVE again")
        assert here.key == key
        assert here.invoke(ids[0], {"message": "hi"}).json() == {"message": "hi"}


def test_control_may_die(tmp_path: Path) -> None:
    """kill -9 of control: invocations go on meanwhile, its successor takes the instances over without a restart."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        before = {p.pid for p in here.instances()}
        control = here.child("control")
        control.send_signal(signal.SIGKILL)

        assert here.invoke(ids[0], {"message": "meanwhile"}).json() == {"message": "meanwhile"}
        control.wait(10)
        eventually(lambda: _answers(here), within=20, what="control is back")
        eventually(lambda: here.status(*ids) == "ACTIVE", within=20, what="ACTIVE again")
        assert {p.pid for p in here.instances()} == before
        assert here.invoke(ids[0], {"message": "after"}).json() == {"message": "after"}


def test_control_may_die_while_a_request_runs(tmp_path: Path) -> None:
    """A request that an instance is working on when control dies gets its answer."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        answers = []
        caller = threading.Thread(target=lambda: answers.append(here.invoke(ids[0], {"message": "x", "delay": 3})))
        caller.start()
        eventually(lambda: _in_flight(here, *ids), within=5, what="the request runs")
        here.child("control").send_signal(signal.SIGKILL)
        caller.join(20)

        assert [a.status_code for a in answers] == [200]


def test_the_gateway_may_die(tmp_path: Path) -> None:
    """kill -9 of the gateway: another one serves on the same port, with the same instances."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        url, before = here.url, {p.pid for p in here.instances()}
        here.child("gateway").send_signal(signal.SIGKILL)

        # The listening socket is the parent's, so a request made now waits for the next gateway.
        eventually(lambda: here.invoke(ids[0], {"message": "hi"}).status_code == 200, within=20, what="it serves again")
        assert here.url == url
        assert {p.pid for p in here.instances()} == before


def test_everything_may_die(tmp_path: Path) -> None:
    """kill -9 of every process of ours at once: the next start has the same functions and no instance unowned."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy(minimum=2, maximum=2)
        assert here.process is not None
        for process in (here.child("control"), here.child("gateway")):
            process.send_signal(signal.SIGKILL)
        here.process.kill()
        here.process.wait()
        (here.data / "running.json").unlink()
        here.start()

        eventually(lambda: here.status(*ids) == "ACTIVE", within=30, what="ACTIVE again")
        answer = here.invoke(ids[0], {"message": "hi"})
        assert answer.status_code == 200, (answer.text, here.log())
        assert here.stop() == 0
        assert here.instances() == []


def test_the_parent_may_die(tmp_path: Path) -> None:
    """kill -9 of `gpufn up` alone: its children notice, end the instances and stop."""
    with installed(tmp_path / "data") as here:
        here.deploy()
        assert here.process is not None
        children = [here.child("control"), here.child("gateway")]
        here.process.kill()
        here.process.wait()

        eventually(lambda: not any(c.is_running() for c in children), within=30, what="the children have stopped")
        assert here.instances() == []


def test_a_stop_right_after_control_died_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM while control is dead, or starting again, still ends every instance."""
    with installed(tmp_path / "data") as here:
        here.deploy()
        here.child("control").kill()

        assert here.stop() == 0
        assert here.instances() == []


def test_an_instance_may_die(tmp_path: Path) -> None:
    """A killed instance is replaced, and the deployment is ACTIVE again."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        before = _ready(here, *ids)
        for process in here.instances():
            process.kill()

        eventually(lambda: _ready(here, *ids) - before, within=20, what="another one is ready")
        eventually(lambda: here.status(*ids) == "ACTIVE", within=20, what="ACTIVE again")
        answer = here.invoke(ids[0], {"message": "hi"})
        assert answer.status_code == 200, (answer.text, here.log())


def test_one_process_does_it_all(tmp_path: Path) -> None:
    """`--single-process` serves, stops cleanly on Ctrl-C and leaves nothing running."""
    with installed(tmp_path / "data", "--single-process") as here:
        ids = here.deploy()

        assert here.invoke(ids[0], {"message": "hi"}).json() == {"message": "hi"}
        assert here.stop(signal.SIGINT) == 0
        assert here.instances() == []
        assert not (here.data / "running.json").exists()


def _ready(here: Installation, function: str, version: str) -> set[str]:
    found = here.call("GET", f"/v2/gpufn/functions/{function}/versions/{version}/instances")
    return {i["instanceId"] for i in found["instances"] if i["status"] == "ready"}


def _answers(here: Installation) -> bool:
    with here.client() as client:
        return client.get("/health").status_code == 200


def _in_flight(here: Installation, function: str, version: str) -> bool:
    """Whether the process of the instance has a connection; seen from outside, since control may be down."""
    return any(p.net_connections(kind="tcp4") and len(p.net_connections(kind="tcp4")) > 1 for p in here.instances())


def test_accepted_requests_survive_everything(tmp_path: Path) -> None:
    """Requests that were answered 202 get their results although every process is killed while they run."""
    with installed(tmp_path / "data") as here:
        ids = here.deploy()
        accepted = [_accept(here, ids[0], f"m{n}", delay=3) for n in range(3)]
        here.child("gateway").send_signal(signal.SIGKILL)
        eventually(lambda: _answers(here), within=20, what="the gateway is back")
        accepted.append(_accept(here, ids[0], "m3", delay=3))
        assert here.process is not None
        for process in (here.child("control"), here.child("gateway"), *here.instances()):
            process.send_signal(signal.SIGKILL)
        here.process.kill()
        here.process.wait()
        (here.data / "running.json").unlink()
        here.start()

        found = [_result(here, request_id) for request_id in accepted]
        assert found == [{"message": f"m{n}"} for n in range(4)]
        with here.client() as client:
            again = [client.get(f"/v2/nvcf/pexec/status/{request_id}").status_code for request_id in accepted]
        assert again == [404] * 4


def _accept(here: Installation, function: str, message: str, *, delay: float) -> str:
    """The id of a request that was answered 202."""
    with here.client() as client:
        answer = client.post(
            f"/v2/nvcf/pexec/functions/{function}",
            json={"message": message, "delay": delay},
            headers={"NVCF-POLL-SECONDS": "1"},
        )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["nvcf-reqid"])


def _result(here: Installation, request_id: str) -> object:
    """What polls end with."""
    with here.client() as client:
        for _ in range(60):
            answer = client.get(f"/v2/nvcf/pexec/status/{request_id}", headers={"NVCF-POLL-SECONDS": "2"})
            if answer.status_code not in (202, 503):
                assert answer.status_code == 200, answer.text
                return answer.json()
    raise AssertionError(f"no result of {request_id}")
