"""The small types that bodies are made of."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from gpufn.model.errors import Invalid
from gpufn.wire import strict_json
from gpufn.wire.llm import is_routing_method
from gpufn.wire.rates import check_rates
from gpufn.wire.scalars import format_duration, format_time, parse_duration


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_durations_survive_the_way_out_and_in(value: timedelta) -> None:
    """What is written is read as the same duration."""
    assert abs(parse_duration(format_duration(value)) - value) <= timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PT10S", "PT10S"),
        ("PT90S", "PT1M30S"),
        ("P1D", "PT24H"),
        ("PT0S", "PT0S"),
        ("PT0.5S", "PT0.5S"),
        ("P17977DT11H58M46.290448384S", "PT431459H58M46.290448S"),
    ],
)
def test_durations_are_written_as_the_reference_does(text: str, shown: str) -> None:
    """Days become hours, and what is zero is left out."""
    assert format_duration(parse_duration(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "10S", "PT10", "-PT1S", "PT1H1D", 10, None, "P999999999DT999999999999H"]
)
def test_what_is_no_duration(text: object) -> None:
    """Everything else is a ValueError, never an overflow."""
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)


def test_times_are_utc_with_milliseconds() -> None:
    """A time in any zone is written in UTC."""
    moment = datetime(2025, 1, 2, 4, 4, 5, 123999, tzinfo=timezone(timedelta(hours=1)))

    assert format_time(moment) == "2025-01-02T03:04:05.123Z"
    assert format_time(datetime(2025, 1, 2, tzinfo=UTC)) == "2025-01-02T00:00:00.000Z"


@given(
    st.dictionaries(st.sampled_from("SMHD"), st.integers(1, 10**9), min_size=1),
    st.sampled_from([",", ", ", ",  "]),
)
def test_rates_of_every_right_form_are_taken(rates: dict[str, int], comma: str) -> None:
    """A count and a unit, each unit once, in any order."""
    text = comma.join(f"{count}-{unit}" for unit, count in rates.items())

    assert check_rates(text) == text


@pytest.mark.parametrize(
    "text", ["", "1S", "0-S", "01-S", "4-S, 5-S", "4-S,", ",4-S", "4-s", "4-W", " 4-S", "4 -S", "4-S ,5-H"]
)
def test_rates_of_other_forms_are_refused(text: str) -> None:
    """Everything that section 11 names as invalid."""
    with pytest.raises(ValueError, match="must be like"):
        check_rates(text)


def test_routing_methods_are_compared_loosely() -> None:
    """Case, blanks around and underscores do not matter; blank is allowed."""
    assert all(is_routing_method(text) for text in ("power_of_two", " Round-Robin ", "", "PULSAR"))
    assert not is_routing_method("not-a-method")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_json_is_read_as_it_is(value: object) -> None:
    """What is a plain JSON document is read unchanged."""
    assert strict_json.parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_bytes_are_a_document_or_invalid(body: bytes) -> None:
    """Nothing but Invalid is ever raised."""
    with suppress(Invalid):
        json.dumps(strict_json.parse(body))
