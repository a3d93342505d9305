"""Any content of a file is shown in short, printable form and on one line."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.model_ref.errors import named, quoted, reason_of


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("a" * 100, "'" + "a" * 59 + "..."),
        ("\x1b[31mred\n", r"'\x1b[31mred\n'"),
        ("left\u202eright", r"'left\u202eright'"),
        ("é", "'é'"),
        (float("nan"), "nan"),
        ([1, None, "x"], "[1, None, 'x']"),
        (nested(100_000), "a value too large to show"),
        (1 << 20_000, "a value too large to show"),
    ],
    ids=itertools.count(),
)
def test_values(value: Any, shown: str) -> None:
    assert quoted(value) == shown


def test_names_and_reasons() -> None:
    assert named("model.norm") == "model.norm" and named("a" * 100) == "a" * 80
    assert named("a\nb") == r"'a\nb'"
    assert reason_of(ValueError("two\nlines \x1b[0m")) == r"two lines \x1b[0m"
    assert reason_of(ValueError("a" * 1000)) == "a" * 200


@settings(derandomize=True, database=None, deadline=None)
@given(value=st.text() | st.binary() | st.lists(st.text() | st.floats()))
def test_any_value_is_one_short_printable_line(value: Any) -> None:
    assert quoted(value).isprintable() and len(quoted(value)) <= 63
    assert reason_of(ValueError(value)).isprintable()
    if isinstance(value, str):
        assert named(value).isprintable()
