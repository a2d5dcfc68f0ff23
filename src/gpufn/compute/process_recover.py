"""What becomes of an instance when a new gpufn opens the data directory: a decision from record and processes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

from gpufn.compute.process_record import Record, Stage
from gpufn.compute.process_tree import Leader, Marked
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind

MESSAGE_MAX = 1500
"""Characters of log that a failure repeats."""


def recover(record: Record, leader: Leader | None, *, booted: float, exit_code: int | None = None) -> Record:
    """The record as it must go on. ``leader`` is its first process if it lives; ``booted`` the time of the boot;
    ``exit_code`` what was written down at its end.

    PREPARING means that it is to be started again: nothing of it runs.
    """
    if leader is not None:
        return replace(record, stage=Stage.RUNNING, pid=leader.pid, created=leader.created)
    if exit_code is not None and record.stage in (Stage.STARTING, Stage.RUNNING):
        words = f"{_how(exit_code)} while gpufn was not running; see its log"
        return record.ended(Failure(FailureKind.EXIT, words, exit_code=exit_code))
    match record.stage:
        case Stage.PREPARING | Stage.STARTING:
            return replace(record, stage=Stage.PREPARING, devices=())
        case Stage.RUNNING if record.created < booted:
            return record.ended(Failure(FailureKind.LOST, "it ended with a restart of the machine"))
        case Stage.RUNNING:
            return record.ended(
                Failure(FailureKind.EXIT, "it ended while gpufn was not running; its exit code is unknown, see its log")
            )
        case Stage.ENDED:
            return record


def found(instance_id: InstanceId, processes: list[Marked]) -> Record:
    """A record for processes about which nothing is written: their variables tell where they listen."""
    first = next((each for each in processes if each.leads), processes[0])
    return Record(
        id=instance_id,
        stage=Stage.RUNNING,
        port=_number(first.environ.get("PORT", "")),
        health_port=_number(first.environ.get("HEALTH_PORT", "")),
        shared_dir="/var/inf",
        devices=tuple(_number(index) for index in first.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if index),
        pid=first.process.pid,
        created=first.process.create_time(),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def epitaph(code: int | None, after: float, lines: Sequence[str], *, adopted: bool) -> str:
    """Why an instance ended, in a sentence: its code or signal, after how many seconds, and what it said last."""
    if code is None:
        why = "; its exit code is unknown, because gpufn was restarted meanwhile" if adopted else ""
        words = f"ended after {after:.1f} s{why}"
    else:
        words = f"{_how(code)} after {after:.1f} s"
    last = " | ".join(line for line in lines if line.strip())[-MESSAGE_MAX:]
    return f"{words}; last lines: {last}" if last else f"{words}; it wrote nothing"


def _how(code: int) -> str:
    return f"was ended by {_signal(-code)}" if code < 0 else f"exited with code {code}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
