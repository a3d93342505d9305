"""Rounds of the router: which step is taken, and when they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lutern.boards.cache import LOG
from lutern.boards.parallel import Tools
from lutern.boards.reroute import Opened
from lutern.boards.rounds import MOST_OPENED, STEPS, Rounds, Way
from lutern.model_ref.errors import LuternError

MANY = max(MOST_OPENED.values()) + 1
ALL = list(range(len(STEPS)))


@pytest.mark.parametrize(
    ("most", "opened", "faster", "steps", "routed"),
    [
        (2, [33, 40], [True, True], [0, 0], 2),
        (2, [33, 40], [False, True], [0, 1], 2),
        (2, [MANY, 40, MANY, 9], [True, False], [0, 1, 1, 2], 2),
        (3, [MANY for _ in ALL], [], ALL, 0),
        (9, [0 for _ in ALL], [], ALL, 0),
        (9, [5, *(5 for _ in ALL)], [True, *(False for _ in ALL)], [0, *ALL], 1 + len(ALL)),
        (9, [MOST_OPENED[way] + 1 for _, way in STEPS], [], ALL, 0),
        (9, [MOST_OPENED[way] for _, way in STEPS], [False for _ in ALL], ALL, len(ALL)),
    ],
)
def test_steps(
    most: int, opened: list[int], faster: list[bool], steps: list[int], routed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that opens too many connections or none is no round, and neither it nor one without a gain is taken
    again."""
    counts: Iterator[int] = iter(opened)
    outcomes = iter(faster)
    taken: list[tuple[float, Way]] = []

    def open_slowest(rounds: Rounds, step: float, way: Way) -> tuple[dict, Opened]:
        taken.append((step, way))
        return {}, Opened(0, 0, next(counts))

    monkeypatch.setattr(Rounds, "open", open_slowest)
    monkeypatch.setattr(Rounds, "route", lambda rounds, design, opened: next(outcomes))
    Rounds(Path(), (), {}, lambda folder: 0.0, Tools()).run(most)
    assert taken == [STEPS[step] for step in steps]
    assert len(faster) == routed and next(outcomes, None) is None


def test_a_round_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route is kept, the log says why, and the next steps are tried."""
    taken: list[tuple[float, Way]] = []

    def open_slowest(rounds: Rounds, step: float, way: Way) -> tuple[dict, Opened]:
        taken.append((step, way))
        raise LuternError("nextpnr wrote X, which is no place.")

    monkeypatch.setattr(Rounds, "open", open_slowest)
    Rounds(tmp_path, (), {}, lambda folder: 0.0, Tools()).run(9)
    assert taken == list(STEPS)
    assert (tmp_path / LOG).read_text().count("could not be opened: nextpnr wrote X, which is no place.\n") == len(
        STEPS
    )
    assert [path.name for path in tmp_path.iterdir()] == [LOG]
