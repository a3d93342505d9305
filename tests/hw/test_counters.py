"""The counters alone, compared with counts that Python computes from the same random cycles."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from lutern.hw.config import SOURCES, HwConfig
from lutern.hw.counters import INPUTS, Counters
from lutern.hw.protocol import COUNTER_NAMES, COUNTER_STRIDE

SEED = 31
SETTLES = 3
"""The minimum of cycles between the end of a phase and the start or end of a token. Pipelines of a machine take
longer."""


def draw(drawn: random.Random, tokens: int) -> list[dict[str, int]]:
    """Return the inputs of a run, cycle by cycle. Each token has some phases, and the last cycle ends the last
    token."""
    cycles = []
    for token in range(tokens):
        length = drawn.randrange(20, 90)
        for place in range(length):
            c = {name: drawn.randrange(2) for name in INPUTS}
            c["beat"] &= c["codes"] & c["trits"]
            c["to_gains"] &= c["word"]
            c["to_trits"] &= c["word"] & (1 - c["to_gains"])
            settled = place < length - SETTLES
            c["ends_row"] = int(settled and drawn.random() < 0.05)
            c["last_beat"] = int(settled and not c["ends_row"] and drawn.random() < 0.1)
            c["begins"], c["ends_token"] = int(token == 0 and place == 0), int(token > 0 and place == 0)
            cycles.append(c)
    return [*cycles, {**dict.fromkeys(INPUTS, 0), "ends_token": 1}]


def model(cycles: list[dict[str, int]]) -> list[list[int]]:
    """Return the counts of the last token, phase by phase."""
    done: list[list[int]] = []
    phases: list[list[int]] = []
    begun = False
    for c in cycles:
        if c["begins"] or c["ends_token"]:
            done, phases = phases, [[0] * len(COUNTER_NAMES)]
        lane = (
            "beats"
            if c["beat"]
            else ("codes" if begun else "barrier")
            if not c["codes"]
            else "sums"
            if c["trits"]
            else "trits"
        )
        stream = (
            "memory"
            if not c["word"]
            else "words"
            if c["taken"]
            else "gains"
            if c["to_gains"]
            else "trit_fifo"
            if c["to_trits"]
            else "operations"
        )
        for name in (lane, stream):
            phases[-1][COUNTER_NAMES.index(name)] += 1
        if c["beat"]:
            begun = not c["last_beat"]
        if c["ends_row"] or (c["beat"] and c["last_beat"]):
            phases.append([0] * len(COUNTER_NAMES))
    return done


def counts(component: Counters, cycles: list[dict[str, int]]) -> list[list[int]]:
    """Return the contents of the table after the run."""
    found: list[list[int]] = []

    async def bench(context: Any) -> None:
        for values in cycles:
            for name, value in values.items():
                context.set(getattr(component, name), value)
            await context.tick()
        for name in INPUTS:
            context.set(getattr(component, name), 0)
        await context.tick().repeat(SETTLES)
        for phase in range(context.get(component.phases)):
            row = []
            for counter in range(COUNTER_STRIDE):
                context.set(component.address, phase * COUNTER_STRIDE + counter)
                await context.tick()
                row.append(context.get(component.data))
            assert not any(row[len(COUNTER_NAMES) :])
            found.append(row[: len(COUNTER_NAMES)])

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_equal_to_python(source: str) -> None:
    """The counts equal those that Python computes, with a table in block RAM and with a table in LUTs."""
    config = HwConfig("counted", rows=5, source=source, counters=True)
    for tokens in (1, 2, 4):
        cycles = draw(random.Random(SEED + tokens), tokens)
        assert counts(Counters(config), cycles) == model(cycles), f"{tokens} tokens, seed {SEED + tokens}"


def test_more_phases_than_rows_are_counted_but_not_kept() -> None:
    """Phases for which the table has no row do not overwrite the rows of other phases."""
    config = HwConfig("counted", counters=True)
    cycles = draw(random.Random(SEED), 1)[:1]
    cycles += [{**dict.fromkeys(INPUTS, 0), "ends_row": 1}] * (config.counted_phases + 8)
    cycles += [dict.fromkeys(INPUTS, 0)] * SETTLES + [{**dict.fromkeys(INPUTS, 0), "ends_token": 1}]
    expected = model(cycles)
    found = counts(Counters(config), cycles)
    assert len(found) == len(expected) > config.counted_phases
    assert found[: config.counted_phases] == expected[: config.counted_phases]
