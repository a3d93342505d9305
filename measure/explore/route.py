"""Places and routes machines of the front, to measure their resources and clocks.

    front ─► K machines, evenly spaced ─► synthesis ─► place and route, one seed ─► Routed        kept by digest

Netlists, placements and bitstreams are kept where `lutern build` finds them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lutern.boards import cache
from lutern.boards.build import PACKAGES, build, make_plan
from lutern.boards.catalog import find_board
from lutern.boards.synthesis import require_package
from lutern.hw.config import HwConfig
from lutern.measure.cluster import Job, stamp
from lutern.measure.explore.judge import Judged
from lutern.model_ref.cache_folder import cache_folder
from lutern.model_ref.errors import LuternError

SEED = 1
ROUTED = "routed.json"


@dataclass(frozen=True)
class Routed:
    """A machine as nextpnr placed and routed it.

    ``tokens_per_second`` is the speed at the clock that the machine reached, or at its target clock if the target is
    lower. ``failed`` says why there is no route.
    """

    name: str
    digest: str
    target_hz: float
    achieved_hz: float
    met: bool
    luts: int
    ff: int
    block_rams: int
    multipliers: int
    tokens_per_second: float
    seconds: float
    failed: str = ""


def evenly(front: Sequence[Judged], count: int) -> list[Judged]:
    """Return ``count`` machines of a front, evenly spaced from its first to its last."""
    if count >= len(front):
        return list(front)
    if count == 1:
        return [front[0]]
    return [front[index * (len(front) - 1) // (count - 1)] for index in range(count)]


def job_of(board: str, config: HwConfig, judged: Judged) -> Job:
    """Return the job that routes a machine."""
    versions = {package: require_package(package) for package in PACKAGES}
    digests = find_board(board).digest, config.digest, judged.digest
    key = cache.digest(json.dumps([stamp(), versions, digests, SEED], sort_keys=True))
    return Job(f"routed-{key}", route, (key, board, config, judged))


def route(key: str, board: str, config: HwConfig, judged: Judged) -> Routed:
    """Build a machine, unless its result is kept under the key. A failed build is also a result, but is not kept."""
    folder = cache_folder("estimates") / key
    if cache.is_whole(folder, (ROUTED,)):
        return Routed(**json.loads((folder / ROUTED).read_text()))
    try:
        found = _route(board, config, judged)
    except LuternError as error:
        return Routed(judged.name, judged.digest, config.clock_hz, 0, False, 0, 0, 0, 0, 0, 0, str(error))

    def make(work: Path) -> None:
        (work / ROUTED).write_text(json.dumps(asdict(found)))

    cache.keep(folder, (ROUTED,), make)
    return found


def _route(board: str, config: HwConfig, judged: Judged) -> Routed:
    built = build(make_plan(find_board(board), config), [SEED], lambda done, total, what: None)
    clock, used = built.best.clock("sync"), built.best.used
    share = min(1.0, clock.achieved_hz / clock.target_hz)
    return Routed(
        name=judged.name,
        digest=judged.digest,
        target_hz=clock.target_hz,
        achieved_hz=clock.achieved_hz,
        met=built.best.met,
        luts=used["LUT"][0],
        ff=used["FF"][0],
        block_rams=used["block RAM"][0],
        multipliers=used["DSP"][0],
        tokens_per_second=judged.tokens_per_second * share,
        seconds=sum(built.seconds.values()),
    )


__all__ = ["Routed", "evenly", "job_of", "route"]
