"""The phases of a start: marks only go forward, and spans add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from gpufn.model.startup import ORDER, Mark, StartPhase, entered, spans, summary

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.lists(st.tuples(st.sampled_from(ORDER), st.integers(-5, 100)), max_size=20)


@given(STEPS)
def test_phases_go_forward_in_order_and_in_time(steps: list[tuple[StartPhase, int]]) -> None:
    """Whatever is seen in whatever order, with a clock that jumps, phases ascend and so do their times."""
    marks: tuple[Mark, ...] = ()
    for phase, second in steps:
        marks = entered(marks, phase, BEGIN + timedelta(seconds=second))

    assert [ORDER.index(m.phase) for m in marks] == sorted({ORDER.index(m.phase) for m in marks})
    assert [m.at for m in marks] == sorted(m.at for m in marks)


@given(STEPS)
def test_spans_add_up_to_the_whole_start(steps: list[tuple[StartPhase, int]]) -> None:
    """The seconds of the phases of a finished start are the time from its first mark to READY."""
    marks: tuple[Mark, ...] = ()
    for phase, second in steps:
        marks = entered(marks, phase, BEGIN + timedelta(seconds=second))
    marks = entered(marks, StartPhase.READY, BEGIN + timedelta(seconds=200))

    total = sum(span.seconds or 0.0 for span in spans(marks))
    assert total == (marks[-1].at - marks[0].at).total_seconds()


def test_a_phase_that_goes_on_has_no_length() -> None:
    """The last phase of a start that is not over has no seconds; when it failed, it has those until then."""
    marks = (Mark(StartPhase.PULLING, BEGIN),)

    assert spans(marks)[0].seconds is None
    assert spans(marks, ended=BEGIN + timedelta(seconds=3))[0].seconds == 3.0


def test_an_instance_of_an_older_release_has_no_phases() -> None:
    """Where nothing was marked there is nothing to show."""
    assert spans(()) == ()
    assert summary(()) == ""


def test_the_summary_leaves_out_what_took_no_time() -> None:
    """Only phases of a twentieth of a second or more are worth a word."""
    marks = (
        Mark(StartPhase.QUEUED, BEGIN),
        Mark(StartPhase.PULLING, BEGIN + timedelta(seconds=0.01)),
        Mark(StartPhase.LOADING, BEGIN + timedelta(seconds=2.01)),
        Mark(StartPhase.READY, BEGIN + timedelta(seconds=3.51)),
    )

    assert summary(marks) == "pulling 2.0 s, loading 1.5 s"
