"""The life of tasks, from the user's point of view, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from control_world import a_database, a_spec, a_version, virtual_now
from task_world import task_control

from gpufn.compute.fake import FailsToLaunch, FakeBackend, FakeTaskFiles, SlowToStop, UnknownImage
from gpufn.controllers.stopping import record_stopped
from gpufn.model.ids import DEFAULT_ACCOUNT, InstanceId, TelemetryId, new_id
from gpufn.model.instance import Failure, FailureKind
from gpufn.model.secret import Secret, task_place
from gpufn.model.task import ResultStrategy, TaskPhase, TaskWanted
from gpufn.model.telemetry import Telemetry, TelemetryChoice, TelemetryProtocol, TelemetryProvider, TelemetryType
from gpufn.settings import TaskSettings
from gpufn.store import secrets, tasks, telemetries

pytestmark = [pytest.mark.looptime]


async def test_a_task_runs_and_completes() -> None:
    """Checks 30, 32 and 40: LAUNCHED, RUNNING with the progress file, COMPLETED at 100 %, an event for each."""
    async with task_control(FakeBackend(prepare=2)) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(5)
        assert (await it.task(task)).status == "LAUNCHED"
        it.report(task, 0)
        await it.until(task, "RUNNING")
        it.report(task, 30, "ckpt")
        await asyncio.sleep(2)
        assert (await it.task(task)).percent == 30
        it.report(task, 100, "ckpt")
        await it.until(task, "COMPLETED")
        await it.until_ended(task)

        assert it.world.backend.instances[await it.instance(task)].stops_at < float("inf")
        assert await it.events(task) == [
            "Changing status from 'QUEUED' to 'LAUNCHED'",
            "Changing status from 'LAUNCHED' to 'RUNNING'",
            "Changing status from 'RUNNING' to 'COMPLETED'",
        ]


async def test_a_clean_end_completes() -> None:
    """A task that never reports and exits with code 0 is COMPLETED."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        it.world.backend.exit(await it.instance(task), 0)
        await it.until(task, "COMPLETED")
        await it.until_ended(task)


async def test_a_bad_end_is_an_error() -> None:
    """Check 31: any other code is ERRORED, with the code in healthInfo and event."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        it.world.backend.exit(await it.instance(task), 3)
        await it.until(task, "ERRORED")

        assert (await it.task(task)).error == "exited with code 3"
        assert (await it.events(task))[-1].endswith("to 'ERRORED' with error 'exited with code 3'")


async def test_retries() -> None:
    """A failing task that asked for one retry is queued again once, says so, and then is ERRORED."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch(retries=1)
        await it.until(task, "LAUNCHED")
        first = await it.instance(task)
        it.world.backend.exit(first, 3)
        await it.world.until(lambda: len(it.world.backend.launches) == 2)
        await it.until(task, "LAUNCHED")
        it.world.backend.exit(await it.instance(task), 4)
        await it.until(task, "ERRORED")

        assert (await it.task(task)).past_instances == (first,)
        again = "with error 'exited with code 3; attempt 1 ended, it is queued again'"
        assert f"Changing status from 'LAUNCHED' to 'QUEUED' {again}" in await it.events(task)


async def test_retries_are_not_in_a_hurry() -> None:
    """Each waits twice as long as the one before, at most five minutes; others go first meanwhile."""
    async with task_control(FakeBackend()) as it:
        task, gaps = await it.launch(units=8, retries=12), list[float]()
        for n in range(12):
            await it.until(task, "LAUNCHED")
            it.world.backend.exit(await it.instance(task), 3)
            gaps.append(await it.world.until(lambda n=n: len(it.world.backend.launches) == n + 2, within=400))  # type: ignore[misc]

        assert gaps == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300], abs=1.5)
        it.world.backend.exit(await it.instance(task), 3)
        await it.until(task, "ERRORED")


async def test_others_go_first_while_one_waits_to_be_tried_again() -> None:
    """A task that failed gives its place up."""
    async with task_control(FakeBackend()) as it:
        failing, other = await it.launch(units=8, retries=1), await it.launch(units=8)
        await it.until(failing, "LAUNCHED")
        it.world.backend.exit(await it.instance(failing), 3)
        await it.until(other, "LAUNCHED")
        await asyncio.sleep(5)
        assert (await it.task(failing)).status == "QUEUED"
        it.world.backend.exit(await it.instance(other), 0)
        await it.until(failing, "LAUNCHED")


async def test_an_image_that_nobody_has() -> None:
    """What cannot help to be repeated is not: ERRORED at once, with cause and remedy."""
    async with task_control(UnknownImage()) as it:
        task = await it.launch(retries=5)
        assert await it.until(task, "ERRORED") < 1
        assert "gpufn image add" in ((await it.task(task)).error or "")
        assert len(it.world.backend.launches) == 1


async def test_a_start_that_fails() -> None:
    """A task that cannot be started is ERRORED with the reason."""
    async with task_control(FailsToLaunch()) as it:
        task = await it.launch()
        await it.until(task, "ERRORED")
        assert "out of memory" in ((await it.task(task)).error or "")


async def test_too_long() -> None:
    """Check 41: the clock of maxRuntimeDuration starts with the progress file; at its end the task is told to end."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch(max_runtime=timedelta(minutes=1))
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(100)
        it.report(task, 1)
        await it.until(task, "RUNNING")
        took = await it.until(task, "EXCEEDED_MAX_RUNTIME_DURATION", within=120)

        assert took == pytest.approx(60, abs=1.5)
        assert (await it.task(task)).error == "task execution time exceeds the limit"
        await it.until_ended(task)


async def test_no_progress_file_in_time() -> None:
    """Check 40: two hours without a progress file end a task."""
    assert TaskSettings().ready_timeout == 7200
    async with task_control(FakeBackend(), settings=TaskSettings(ready_timeout=120)) as it:
        task = await it.launch()
        took = await it.until(task, "ERRORED", within=200)
        assert took == pytest.approx(120, abs=2)
        assert (await it.task(task)).error == "task container is not ready as progress file is not created"


async def test_tasks_without_progress_files_may_be_allowed() -> None:
    """With ``tasks.ready_timeout`` 0 a task need never write one."""
    async with task_control(FakeBackend(), settings=TaskSettings(ready_timeout=0)) as it:
        task = await it.launch()
        await asyncio.sleep(400)
        assert (await it.task(task)).status == "LAUNCHED"


async def test_silence() -> None:
    """Check 40: a progress file whose lastUpdatedAt is five minutes old ends a task; touching it keeps it alive."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        for _ in range(5):
            it.report(task, 10, "a")
            await asyncio.sleep(200)
        assert (await it.task(task)).status == "RUNNING"
        await it.until(task, "ERRORED", within=400)
        assert (await it.task(task)).error == "no update for 'lastUpdatedAt' field in progress file"


async def test_a_heartbeat_is_recorded() -> None:
    """lastHeartbeatAt of a task that runs is never much older than a minute."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        await asyncio.sleep(1)
        it.report(task, 1)
        await it.until(task, "RUNNING")
        began = (await it.task(task)).heartbeat_at
        await asyncio.sleep(130)
        now = (await it.task(task)).heartbeat_at
        assert began is not None
        assert now is not None
        assert now - began >= timedelta(seconds=115)


async def test_a_broken_progress_file() -> None:
    """A file that stays no JSON ends the task; one that is whole again a moment later does not."""
    async with task_control(FakeBackend()) as it:
        half, broken = await it.launch(), await it.launch()
        await it.until(broken, "LAUNCHED")
        await asyncio.sleep(1)
        for task in (half, broken):
            it.files.reports[task] = b'{"percent'
        await asyncio.sleep(0.2)
        it.report(half, 10, "a")
        await it.until(broken, "ERRORED")
        await it.until(half, "RUNNING")
        assert (await it.task(broken)).error == "invalid schema of progress file"


async def test_cancel_while_it_runs() -> None:
    """Check 25: the instance is given the task's grace period; nothing that comes later changes CANCELED."""
    async with task_control(SlowToStop()) as it:
        task = await it.launch(termination_grace=timedelta(seconds=20))
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(1)
        await it.want(task, TaskWanted.CANCELED)
        it.report(task, 100, "a")
        took = await it.until_ended(task)

        assert took == pytest.approx(20, abs=1)
        assert (await it.task(task)).status == "CANCELED"
        assert (await it.task(task)).phase is TaskPhase.ENDED


async def test_cancel_while_it_waits() -> None:
    """A queued task that is canceled never runs."""
    async with task_control(FakeBackend()) as it:
        await it.launch(units=8)
        task = await it.launch()
        await it.want(task, TaskWanted.CANCELED)
        await it.until_ended(task)
        assert len(it.world.backend.launches) == 1


@pytest.mark.parametrize("begins", ["queued", "running", "ended"])
async def test_delete(begins: str) -> None:
    """Check 26: in any state all of a task goes: instance, log, directory, events, row."""
    async with task_control(FakeBackend()) as it:
        if begins == "queued":
            await it.launch(units=8)
        task = await it.launch()
        await asyncio.sleep(1)
        if begins == "ended":
            it.world.backend.exit(await it.instance(task), 0)
            await it.until_ended(task)
        await it.want(task, TaskWanted.DELETED)

        async def gone() -> bool:
            return not await it.exists(task)

        await it.world.until(gone)
        assert all(r.task is None or r.task.id != task for r in it.world.backend.launches[1:])
        assert await it.events(task) == []
        assert task not in it.files.reports


async def test_old_tasks_are_forgotten() -> None:
    """Check 38: a week after its end a task is removed."""
    assert TaskSettings().keep_ended == 7 * 86_400
    async with task_control(FakeBackend(), settings=TaskSettings(keep_ended=100)) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        it.world.backend.exit(await it.instance(task), 0)
        await it.until_ended(task)
        await asyncio.sleep(90)
        assert await it.exists(task)
        await asyncio.sleep(40)
        assert not await it.exists(task)


async def test_waiting_too_long() -> None:
    """Check 36: a task that found no GPUs within maxQueuedDuration ends, with an event."""
    async with task_control(FakeBackend()) as it:
        await it.launch(units=8)
        task = await it.launch(max_queued=timedelta(minutes=5))
        took = await it.until(task, "EXCEEDED_MAX_QUEUED_DURATION", within=400)
        assert took == pytest.approx(300, abs=2)


async def test_first_come_first_served() -> None:
    """Tasks get GPUs in the order in which they came; a large one is not overtaken for ever by small ones."""
    async with task_control(FakeBackend()) as it:
        holding = [await it.launch(units=4), await it.launch(units=4)]
        large, small = await it.launch(units=8), await it.launch(units=1)
        await asyncio.sleep(1)
        it.world.backend.exit(await it.instance(holding[0]), 0)
        await asyncio.sleep(5)
        assert [(await it.task(t)).phase for t in (large, small)] == [TaskPhase.QUEUED] * 2
        it.world.backend.exit(await it.instance(holding[1]), 0)
        await it.until(large, "LAUNCHED")


async def test_a_function_has_its_minimum() -> None:
    """Tasks never take what a deployed function needs for its minimum, and give way when they hold it already."""
    async with task_control(FakeBackend()) as it:
        tasks_at_work = [await it.launch() for _ in range(8)]
        await it.until(tasks_at_work[-1], "LAUNCHED")
        await it.world.create(a_version())
        await it.world.deploy(a_spec(2, 2))
        for last in tasks_at_work[-2:]:
            await it.until(last, "QUEUED")
        await asyncio.sleep(30)
        assert [(await it.task(t)).status for t in tasks_at_work] == ["LAUNCHED"] * 6 + ["QUEUED"] * 2
        assert "a function needs H100" in (await it.events(tasks_at_work[-1]))[-1]

        await it.world.undeploy()
        await it.until(tasks_at_work[-1], "LAUNCHED")


async def test_a_gpu_that_is_busy_after_all() -> None:
    """A backend that has no GPU after all costs nothing but time, and no retry."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        it.world.backend.fail(await it.instance(task), Failure(FailureKind.CAPACITY, "needs 1 H100, 0 of 8 free"))
        await it.world.until(lambda: len(it.world.backend.launches) == 2)
        await it.until(task, "LAUNCHED")


async def test_a_vanished_instance() -> None:
    """Check 37: a task that is not seen any more is run again, says so each time, and at last is ERRORED with it."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        for n in range(6):
            await it.world.until(lambda n=n: len(it.world.backend.launches) == n + 1)  # type: ignore[misc]
            await asyncio.sleep(3)
            it.world.backend.lose(await it.instance(task))
        await it.until(task, "ERRORED")
        told = [e for e in await it.events(task) if "to 'QUEUED' with error 'its instance vanished" in e]
        assert len(told) == 5


async def test_a_clean_stop() -> None:
    """After a clean stop of gpufn a task that ran is queued again, and says why."""
    db, backend, files = a_database(), FakeBackend(), FakeTaskFiles()
    async with task_control(backend, files=files, db=db) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(1)
    await backend.close(terminate=True)
    await db.run(lambda tx: record_stopped(tx, it.world.context.now()))
    async with task_control(backend, files=files, db=db) as it:
        await it.until(task, "LAUNCHED")
        words = "Changing status from 'LAUNCHED' to 'QUEUED' with error 'gpufn was stopped; it is queued again'"
        assert words in await it.events(task)
        assert len(backend.launches) == 2
    await db.close()


async def test_control_that_died_goes_on() -> None:
    """A new control finds a running task again and takes its end for what it was: nothing runs twice."""
    db, backend, files = a_database(), FakeBackend(), FakeTaskFiles()
    async with task_control(backend, files=files, db=db) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        instance = await it.instance(task)
    backend.exit(instance, 0)
    async with task_control(backend, files=files, db=db) as it:
        await it.until(task, "COMPLETED")
        assert len(backend.launches) == 1
    await db.close()


async def test_the_queue_costs_what_it_places() -> None:
    """A query for three tasks that wait reads the first three, no more, and not the one that holds the GPUs."""
    async with task_control(FakeBackend()) as it:
        running, *waiting = [await it.launch(units=8) for _ in range(6)]
        await it.until(running, "LAUNCHED")
        db = it.world.context.db
        found = await db.run(lambda tx: tasks.waiting(tx, "H100", virtual_now(), limit=3))
        assert [task.id for task in found] == waiting[:3]


async def test_upload_needs_its_folder() -> None:
    """A report of a result whose folder is not there ends the task with the reference's words."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch(result_strategy=ResultStrategy.UPLOAD)
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(1)
        it.report(task, 30, "ckpt-30")
        await it.until(task, "ERRORED")
        assert (await it.task(task)).error == "failed to find directory to upload"


async def test_nothing_is_kept_of_a_task_without_results() -> None:
    """Check 34: with strategy NONE a report is progress and no result, whatever it is called."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch()
        await it.until(task, "LAUNCHED")
        await asyncio.sleep(1)
        it.report(task, 30, "any name / at all")
        await it.until(task, "RUNNING")
        it.report(task, 100, "any name / at all")
        await it.until(task, "COMPLETED")

        assert await it.world.context.db.run(lambda tx: tasks.results_page(tx, task, limit=10, after=None)) == []


async def test_a_task_is_told_where_telemetry_goes() -> None:
    """Section 10: endpoint and protocol of each kind it uses, in the words of OpenTelemetry, over the user's own."""
    async with task_control(FakeBackend()) as it:
        spans = Telemetry(
            id=TelemetryId(new_id()),
            nca_id=DEFAULT_ACCOUNT,
            name="otel",
            endpoint="https://otel.example.com",
            protocol=TelemetryProtocol.GRPC,
            provider=TelemetryProvider.OTEL_COLLECTOR,
            types=(TelemetryType.TRACES,),
            created_at=it.world.context.now(),
        )
        await it.world.context.db.run(lambda tx: telemetries.insert(tx, spans))
        own = (("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "mine"), ("STEPS", "3"))
        task = await it.launch(telemetries=TelemetryChoice(traces=spans.id), container_environment=own)
        await it.until(task, "LAUNCHED")

        assert dict(it.world.backend.launches[0].environment) == {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://otel.example.com",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "STEPS": "3",
        }


async def test_a_running_task_sees_new_secrets() -> None:
    """What is updated while it runs is put where it looks; the next attempt finds it too."""
    async with task_control(FakeBackend()) as it:
        task = await it.launch(retries=1)
        place = task_place(DEFAULT_ACCOUNT, task)

        async def put(value: str) -> None:
            sealed = it.world.context.keyring.seal(place, Secret("DB", value))
            await it.world.context.db.run(lambda tx: secrets.put(tx, [sealed]))
            it.world.context.hints.hint("task-secret", task)

        async def found(instance: str) -> str | None:
            return it.world.backend.secrets[InstanceId(instance)].get("secrets.json")

        await it.until(task, "LAUNCHED")
        first = await it.instance(task)
        await put("one")
        await asyncio.sleep(1)
        assert await found(first) == '{"DB": "one"}'
        it.world.backend.exit(first, 3)
        await it.world.until(lambda: len(it.world.backend.launches) == 2)
        assert await found(await it.instance(task)) == '{"DB": "one"}'
