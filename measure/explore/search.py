"""Searches machines: workers judge batches of a study, then some machines of the front are placed and routed.

    study ─► batch ─► outside the limits: pruned here
      ▲               within: jobs ─► workers ─► Judged
      └───────────────────────────────────────────┘        ─► front ─► K routes ─► the chosen machine

If the number of trials, the seed and the question are equal, the front is equal. Neither the number of workers nor a
lost worker changes the front.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lutern.hw.config import HwConfig
from lutern.hw.machines import Machine, derive
from lutern.hw.presets import preset
from lutern.measure.cluster import Workers
from lutern.measure.explore import route
from lutern.measure.explore.judge import Judged, Question, job_of
from lutern.measure.explore.route import Routed
from lutern.measure.explore.space import machine_of
from lutern.measure.explore.study import Study
from lutern.model_ref.errors import LuternError

Progress = Callable[[int, int, str], None]
CHOICES = {
    "tokens_per_second": lambda one: -one.tokens_per_second,
    "luts": lambda one: one.luts,
    "block_rams": lambda one: one.block_rams,
    "joules_high": lambda one: one.joules_high,
}
"""Values by which a machine of the front is chosen; the smallest value is the best."""
CLOCK_STEP_HZ = 1_000_000


@dataclass(frozen=True)
class Found:
    """The result of a search: trials, machines that were judged, the front, and machines that were routed."""

    question: Question
    trials: int
    judged: dict[str, Judged]
    front: list[Judged]
    reasons: Counter[str]
    routed: list[Routed]
    machines: dict[str, tuple[Machine, HwConfig]]
    """Machines of the front by digest: each as a file describes it, and as it is built for the target."""

    def chosen(self, by: str) -> tuple[Judged, Machine]:
        """Return the best machine of the front.

        If machines were routed, one of them is chosen, and machines that met their clock are preferred. A chosen
        machine that missed its clock gets the clock that it reached. ``by`` is a key of ``CHOICES``, or the name of any
        machine of the front. Raises ``LuternError`` for another name, or if the front is empty.
        """
        if not self.front:
            raise LuternError(
                f"none of {self.trials:,} machines holds {self.question.model} on {self.question.target.name}; "
                f"{self._commonest()}."
            )
        routed = {one.digest: one for one in self.routed if not one.failed}
        among = [one for one in self.front if not routed or one.digest in routed]
        if by in CHOICES:
            met = [one for one in among if not routed or routed[one.digest].met]
            best = min(met or among, key=lambda one: (CHOICES[by](one), one.luts, one.name))
        else:
            named = [one for one in self.front if by == one.name]
            if not named:
                raise LuternError(
                    f"--choose is {by}; give one of {', '.join(CHOICES)}, or the name of a machine of the front."
                )
            best = named[0]
        machine, _ = self.machines[best.digest]
        if best.digest in routed and not routed[best.digest].met:
            machine = _slower(machine, routed[best.digest].achieved_hz)
        return best, machine

    def _commonest(self) -> str:
        if not self.reasons:
            return "give more --trials"
        return f"the commonest reason is: {self.reasons.most_common(1)[0][0].rstrip('.')}"


def _slower(machine: Machine, hz: float) -> Machine:
    given = {**machine.given, "clock_hz": int(hz // CLOCK_STEP_HZ) * CLOCK_STEP_HZ}
    return Machine(derive(preset(machine.base), given), machine.base, given)


def search(question: Question, study: Study, crew: Workers, trials: int, progress: Progress) -> None:
    """Continue a study until it has at least ``trials`` trials; batches are always completed."""
    judged = {digest: one for digest, (one, _) in study.judged().items()}
    while (before := study.count) < trials:
        text = f"{len(judged):,} machines estimated"
        choices = study.ask()
        found = [job_of(question, choice) for choice in choices]
        jobs = {item[0].key: item[0] for item in found if not isinstance(item, str) and item[1].digest not in judged}

        def told(done: int, first: int = before + len(choices) - len(jobs), text: str = text) -> None:
            progress(min(first + done, trials), trials, text)

        results = dict(zip(jobs, crew.run(list(jobs.values()), told), strict=True))
        outcomes: list[Judged | str] = []
        for item in found:
            if isinstance(item, str):
                outcomes.append(item)
                continue
            result = results[item[0].key] if item[0].key in results else judged[item[1].digest]
            outcomes.append(str(result) if isinstance(result, LuternError) else result)
        study.tell(choices, outcomes)
        judged |= {one.digest: one for one in outcomes if isinstance(one, Judged)}


def route_front(found: Found, crew: Workers, count: int, progress: Progress) -> list[Routed]:
    """Place and route ``count`` machines of the front, or all if there are fewer."""
    chosen = route.evenly(found.front, count)
    jobs = [route.job_of(found.question.target.board, found.machines[one.digest][1], one) for one in chosen]
    return crew.run_whole(jobs, lambda done: progress(done, len(jobs), f"place and route of {len(jobs)} machines"))


def found_by(question: Question, study: Study) -> Found:
    """Return the result of a study so far, without routes."""
    known, front = study.judged(), study.front()
    machines = {
        one.digest: machine_of(known[one.digest][1], question.target, question.model_config, question.embedding_bits)
        for one in front
    }
    reasons = Counter(re.sub(r"^HwConfig [\w.-]+: ", "", reason) for reason in study.reasons())
    return Found(question, study.count, {key: one for key, (one, _) in known.items()}, front, reasons, [], machines)


__all__ = ["CHOICES", "Found", "Progress", "found_by", "route_front", "search"]
