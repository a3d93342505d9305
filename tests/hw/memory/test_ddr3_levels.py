"""The settings of read leveling: when they change, and what the answer to LEVEL contains."""

from __future__ import annotations

import random
from typing import Any

from amaranth.sim import Simulator

from lutern.hw.memory import Ddr3Levels
from lutern.hw.memory.ddr3_levels import PAUSE_CYCLES
from lutern.hw.protocol import LEVEL_DELAYS as DELAYS
from lutern.hw.protocol import LEVEL_SLIPS as SLIPS

SEED = 5


def test_changes_are_made_in_a_pause() -> None:
    """Settings change in the middle of a pause. The answer reports the bursts that were seen before the change."""
    levels = Ddr3Levels(2)
    draw = random.Random(SEED)

    async def bench(ctx: Any) -> None:
        settings = levels.settings
        held = [(0, 0), (0, 0)]
        for turn in range(40):
            byte, delay, slip, seen = (draw.randrange(n) for n in (2, DELAYS, SLIPS, 4))
            text = f"turn {turn}, seed {SEED}"
            ctx.set(settings.burst_seen, seen)
            ctx.set(levels.i.payload, {"byte": byte, "delay": delay, "slip": slip})
            ctx.set(levels.i.valid, 1)
            await ctx.tick().until(levels.i.ready)
            ctx.set(levels.i.valid, 0)
            ctx.set(settings.burst_seen, 3 - seen)
            new = list(held)
            new[byte] = (delay, slip)
            clears = 0
            for cycle in range(PAUSE_CYCLES):
                assert ctx.get(settings.pause) == 3 and not ctx.get(levels.o.valid), text
                now = [(ctx.get(settings.delay[n]), ctx.get(settings.slip[n])) for n in range(2)]
                assert now == (held if cycle < PAUSE_CYCLES // 2 else new), f"{text}, cycle {cycle}: {now}"
                clears += ctx.get(settings.clear)
                await ctx.tick()
            held = new
            assert clears == 1 and ctx.get(settings.pause) == 0, text
            assert ctx.get(levels.o.valid) and ctx.get(levels.o.payload) == seen, text
            ctx.set(levels.o.ready, 1)
            await ctx.tick()
            ctx.set(levels.o.ready, 0)
            assert not ctx.get(settings.clear) and ctx.get(levels.i.ready), text

    simulator = Simulator(levels)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
