"""The commands that initialize a DDR3 part, and the pauses between these commands."""

from __future__ import annotations

from amaranth.sim import Simulator

from lutern.hw.memory.ddr3_init import ALL, CALIBRATE, Ddr3Init
from lutern.hw.memory.ddr3_part import any_ddr3_part
from lutern.hw.memory.dram_rows import PRECHARGE, SET_MODE


def test_commands() -> None:
    """All banks are closed before the first mode register is set, and every pause is as long as the data sheet
    requires."""
    t = any_ddr3_part(1 << 25).timings(75e6).with_(reset_low=60, wake=80, zq_init=100, dll_lock=120)
    dut = Ddr3Init(t)
    commands: list[tuple[int, int, int, int]] = []
    levels: list[tuple[int, int]] = []

    async def watch(ctx: object) -> None:
        for cycle in range(400):
            if ctx.get(dut.gives):  # type: ignore[attr-defined]
                commands.append((cycle, *(ctx.get(part) for part in (dut.code, dut.ba, dut.a))))  # type: ignore[attr-defined]
            levels.append((ctx.get(dut.reset_n), ctx.get(dut.cke)))  # type: ignore[attr-defined]
            if ctx.get(dut.done):  # type: ignore[attr-defined]
                return
            await ctx.tick()  # type: ignore[attr-defined]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    mr0, mr1, mr2, mr3 = t.mode_registers
    assert [command[1:] for command in commands] == [
        (PRECHARGE, 0, ALL),
        (SET_MODE, 2, mr2),
        (SET_MODE, 3, mr3),
        (SET_MODE, 1, mr1),
        (SET_MODE, 0, mr0),
        (CALIBRATE, 0, ALL),
    ]
    cycles = [cycle for cycle, *_ in commands]
    wanted = (t.rp, t.mrd, t.mrd, t.mrd, t.mod)
    assert all(2 * (end - start) >= least for start, end, least in zip(cycles, cycles[1:], wanted, strict=False))
    assert 2 * (len(levels) - 1 - cycles[-1]) >= 120
    reset, awake = levels.index((1, 0)), levels.index((1, 1))
    first = cycles[0] + 1  # a command passes through one more register
    assert 2 * reset >= 60 and 2 * (awake - reset) >= 80 and 2 * (first - awake) >= t.xpr
