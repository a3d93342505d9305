"""Judges a machine with a model by an estimate. Each machine is estimated once, and the result is kept by digest.

    machine ─► lacks? ─► limits? ─► cycles ─► tokens/s, joules ─► Judged
                 └─ no room ─┴─ pruned before anything is computed

The joules are an interval, from the events that `lutern power estimate` uses without toggles. The search minimises the
upper end of the interval, because this end is a bound.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutern.boards import cache
from lutern.firmware.limits import lacks
from lutern.hw.config import HwConfig
from lutern.measure import calibration
from lutern.measure.cluster import Job, stamp
from lutern.measure.energy import without_nets
from lutern.measure.estimate import estimate
from lutern.measure.explore.space import machine_of
from lutern.measure.explore.target import Target
from lutern.measure.resources import resources
from lutern.model_ref.cache_folder import cache_folder
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

ESTIMATE = "estimate.json"


@dataclass(frozen=True)
class Question:
    """The question of a search: a model on a target. ``streams`` is the largest number of streams of a machine."""

    model: str
    model_config: ModelConfig
    embedding_bits: int
    target: Target
    streams: int = 1

    def about(self) -> dict[str, Any]:
        """Return all that a study and its results depend on."""
        return {
            "version": " ".join(stamp()),
            "model": self.model_config.digest,
            "embedding_bits": self.embedding_bits,
            "target": json.loads(json.dumps(asdict(self.target))),
            "streams": self.streams,
        }


@dataclass(frozen=True)
class Judged:
    """The estimate of a machine, with ``luts`` as placed, tokens/s of all streams together, and joules per token."""

    name: str
    digest: str
    lanes: int
    streams: int
    memory: str
    clock_hz: int
    cycles: int | None
    bytes_read: int
    tokens_per_second: float
    luts: float
    ff: float
    block_rams: int
    multipliers: int
    joules: float
    joules_low: float
    joules_high: float

    @property
    def values(self) -> tuple[float, float, float, float]:
        """The values of the study's objectives, see ``OBJECTIVES``."""
        return self.tokens_per_second, self.luts, float(self.block_rams), self.joules_high


OBJECTIVES = {"tokens_per_second": "maximize", "luts": "minimize", "block_rams": "minimize", "joules_high": "minimize"}
"""Objectives of the search, and their directions."""


def reason_against(question: Question, config: HwConfig) -> str | None:
    """Return why a machine is pruned: the model does not fit the machine, or the chip has no room for the machine.
    Return None if there is no reason.

    This takes milliseconds.
    """
    if found := lacks(question.model_config, config, question.embedding_bits):
        return found[0].text
    target, needed = question.target, resources(config)
    for what, count, held in (
        ("block RAMs", needed.block_rams, target.block_rams),
        ("multipliers", needed.multipliers, target.multipliers),
        ("LUT", round(needed.placed_luts), target.luts),
    ):
        if count > held:
            return f"{count:,} {what} are needed, {target.name} has {held:,}"
    return None


def job_of(question: Question, choice: Mapping[str, Any]) -> tuple[Job, HwConfig] | str:
    """Return the job that judges the machine of a choice, and the machine; or the reason why the machine is pruned."""
    try:
        _, config = machine_of(choice, question.target, question.model_config, question.embedding_bits)
        if reason := reason_against(question, config):
            return reason
    except LuternError as error:
        return str(error)
    key = cache.digest(json.dumps(question.about(), sort_keys=True), config.digest)
    return Job(f"estimate-{key}", judge, (key, question, config)), config


def judge(key: str, question: Question, config: HwConfig) -> Judged:
    """Estimate a machine, unless its estimate is kept under the key."""
    folder = cache_folder("estimates") / key
    if cache.is_whole(folder, (ESTIMATE,)):
        return Judged(**json.loads((folder / ESTIMATE).read_text()))
    found = _judge(question, config)

    def make(work: Path) -> None:
        (work / ESTIMATE).write_text(json.dumps(asdict(found)))

    cache.require_writable(folder.parent)
    cache.keep(folder, (ESTIMATE,), make)
    return found


def _judge(question: Question, config: HwConfig) -> Judged:
    target = question.target
    found = estimate(
        question.model_config,
        config,
        streams=config.streams,
        baud=target.baud(config),
        embedding_bits=question.embedding_bits,
    )
    dram = target.dram if config.memory == "port" else ""
    joules = without_nets(target.part, calibration.load(), config, found, dram).joules
    used = found.resources
    return Judged(
        name=config.name,
        digest=config.digest,
        lanes=config.lanes,
        streams=config.streams,
        memory="resident" if config.source == "resident" else config.memory,
        clock_hz=config.clock_hz,
        cycles=found.cycles,
        bytes_read=found.bytes_read,
        tokens_per_second=found.tokens_per_second,
        luts=used.placed_luts,
        ff=used.ff,
        block_rams=used.block_rams,
        multipliers=used.multipliers,
        joules=joules.value,
        joules_low=joules.low,
        joules_high=joules.high,
    )


__all__ = ["OBJECTIVES", "Judged", "Question", "job_of", "judge", "reason_against"]
