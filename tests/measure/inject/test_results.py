"""The file of outcomes, and the table of the outcomes."""

import json
from pathlib import Path

import pytest

from lutern.measure.inject.campaign import Outcome
from lutern.measure.inject.results import ResultsFile, percent, rows, wilson
from lutern.model_ref.errors import LuternError

ABOUT = {"campaign": "weights", "seed": 1, "machine": "ab", "board": "cd", "image": 5}


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),  # Newcombe 1998, table I, method 3, has 81 of 263, 15 of 148, 0 of 20, 1 of 29
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.72247, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials) == pytest.approx((low, high), abs=6e-5)


def test_percent() -> None:
    assert [percent(share) for share in (0.0, 0.0000384, 0.027, 0.5, 1.0)] == ["0", "0.0038", "2.7", "50", "100"]


def test_rows() -> None:
    outcomes = [Outcome(0, "b", "masked", ""), Outcome(1, "a", "silent", ""), Outcome(2, "b", "corrected", "")]
    assert [row[:-2] for row in rows(outcomes)] == [
        ["a", 1, 0, 0, 0, 1, 0],
        ["b", 2, 1, 0, 1, 0, 0],
        ["all", 3, 1, 0, 1, 1, 0],
    ]
    assert [row[-2:] for row in rows(outcomes)] == [
        [wilson(1, 1), wilson(0, 1)],
        [wilson(0, 2), wilson(0, 2)],
        [wilson(1, 3), wilson(0, 3)],
    ]
    assert [percent(end) for end in wilson(1, 3)] == ["6.1", "79"]


def test_a_file_continues_without_its_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, ABOUT) as results:
        results.add(Outcome(3, "flip", "masked", "here"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"index": 4, "ki')
    with ResultsFile(path, ABOUT) as results:
        assert results.outcomes == {3: Outcome(3, "flip", "masked", "here")}
        results.add(Outcome(4, "flip", "silent", ""))
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()[1:]] == [3, 4]
    path.write_bytes(whole[:20])  # as if the program was killed while it wrote the first line
    with ResultsFile(path, ABOUT) as results:
        assert not results.outcomes
    assert json.loads(path.read_text()) == ABOUT


def test_another_campaign_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, ABOUT) as results:
        results.add(Outcome(3, "flip", "masked", "here"))
    whole = path.read_bytes()
    with pytest.raises(LuternError, match=r"is of another campaign \(seed 1\); give another file"):
        ResultsFile(path, {**ABOUT, "seed": 2})
    assert path.read_bytes() == whole


def test_two_programs_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, ABOUT), pytest.raises(LuternError, match="is being written by another campaign; wait"):
        ResultsFile(path, ABOUT)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"[1]\n",
        b"[" * 60000 + b"\n",
        b"a" * 70000,
        b'{"index": 1}\n',
        b'{"index": -1, "kind": "a", "result": "masked", "note": ""}\n',
        b'{"index": "1", "kind": "a", "result": "masked", "note": ""}\n',
        b'{"index": 1, "kind": "a", "result": "lost", "note": ""}\n',
    ],
)
def test_a_damaged_file_is_refused(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(json.dumps(ABOUT).encode() + b"\n" + line)
    with pytest.raises(LuternError, match="is no file of outcomes: line 2 is no outcome"):
        ResultsFile(path, ABOUT)
    assert path.read_bytes().endswith(line)


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null"), tmp_path / "none" / "out.jsonl"):
        with pytest.raises(LuternError, match=r"give the name of a file|choose a folder"):
            ResultsFile(path, ABOUT)
    other = tmp_path / "other"
    other.write_text("a text\n")
    with pytest.raises(LuternError, match="line 1 is no outcome"):
        ResultsFile(other, ABOUT)
