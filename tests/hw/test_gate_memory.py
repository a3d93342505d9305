"""The memory of z and gates returns what was written, in LUTs and in block RAM, for one and for several streams."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from lutern.hw.config import HwConfig
from lutern.hw.gate_memory import GATE_BITS, GateMemory
from lutern.hw.pipeline import place_count
from lutern.hw.presets import preset

SEED = 23


@pytest.mark.parametrize(
    "config",
    [
        preset("tiny"),
        preset("tiny").with_(name="in-luts", lut_ram_depth=512),
        preset("tiny").with_(name="streams", streams=4, source="streamed", results_per_cycle=2, codes_per_cycle=4),
    ],
    ids=lambda config: str(config.name),
)
def test_written_then_read(config: HwConfig) -> None:
    draw = random.Random(SEED)
    memory = GateMemory(config)
    places = place_count(config, -(-config.max_width // config.results_per_cycle))
    kept: dict[int, int] = {}

    async def bench(context: Any) -> None:
        for cycle in range(500):
            place, data = draw.randrange(places), draw.getrandbits(config.results_per_cycle * GATE_BITS)
            writes, wanted = draw.random() < 0.5, draw.choice([*kept, None])
            context.set(memory.user.write, writes and place != wanted)
            context.set(memory.user.place, place)
            context.set(memory.user.data, data)
            context.set(memory.user.read_place, wanted or 0)
            if writes and place != wanted:
                kept[place] = data
            before = kept.get(wanted) if wanted is not None else None
            await context.tick()
            if before is not None:
                assert context.get(memory.user.read_data) == before, f"cycle {cycle}, place {wanted}, seed {SEED}"
            context.set(memory.user.write, 0)
            await context.tick()
        assert len(kept) > places // 2

    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
