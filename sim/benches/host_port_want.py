"""Bench of hw/link/host_port.py with memory "host": a WANT leaves as a WANT, even if the last run has failed.

    WANTs, before, in and after a run ─► i_want │ host port │ o_tx ─► each WANT whole, each failed run one ERROR
    a run fails ─► damage, status, i_rx         │           │

`Surroundings` has the parameters of the bench. `step_limit_cycles` must not be 0.
"""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.protocol import DAMAGE_LAYOUT, SETUP, WANT, WANT_LAYOUT, Damage, ErrorCode, Opcode
from lutern.sim.benches.host_port_last_token import all_answered
from lutern.sim.benches.host_port_surroundings import RESPONSE, Surroundings
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start

DAMAGE = pack(DAMAGE_LAYOUT, {"count": 1, "kind": Damage.RECORDS, "place": 7})
FAILS_AT = 44  # a WANT that is offered in cycle 0 of the sweep is sent before the run fails in this cycle
SWEPT_CYCLES = 64  # an ERROR that becomes due in cycle 44 is sent before the last WANT is offered


class Wants:
    """Offers WANTs, which the machine would send while it waits for words of the host."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.source = StreamSource(around.dut, "i_want", seed=around.seed)  # without pauses, for exact cycles
        StreamMonitor(around.dut, "i_want")
        StreamSink(around.dut, "o_host")

    def draw(self) -> tuple[int, int, bytes]:
        """Return a WANT as an item of `i_want`, its sequence number, which is not that of the run, and its payload."""
        draw = self.around.random
        sequence = self.around.run_sequence ^ draw.randrange(1, 256)
        bits = {"offset": 32, "taken": 32, "row": 16, "place": 16, "token": 16}
        want = {name: draw.choice((draw.getrandbits(count), 0xC0DB)) for name, count in bits.items()}
        return pack(WANT_LAYOUT, {"sequence": sequence, "want": want}), sequence, WANT.pack(**want)

    def expect(self, sequence: int, payload: bytes) -> None:
        self.around.expect(Opcode.RECORDS | RESPONSE, sequence, payload)

    async def send(self, count: int) -> None:
        """Offer WANTs one after another, and wait until the last one has left."""
        for _ in range(count):
            item, sequence, payload = self.draw()
            self.expect(sequence, payload)
            self.source.queue([item])
        await self.around.answered()


@cocotb.test()
async def a_want_after_a_failed_run(dut: Any) -> None:
    """A WANT has its sequence number and payload before a run, in it, after its failure, and after the next SETUP.

    A run fails because of damaged weights, because of a step that takes too long, or because of another command.
    """
    around = Surroundings(dut)
    wants = Wants(around)
    await start(dut)
    setup = SETUP.pack(**around.setup_fields())
    codes = ErrorCode.WEIGHTS_DAMAGED, ErrorCode.RUN_TOO_LONG, ErrorCode.NOT_SET_UP
    for sequence, code in enumerate(codes, 0xBF):
        await around.set_up(1, step_limit=4 if code == ErrorCode.RUN_TOO_LONG else 0)
        await wants.send(1)
        command = await around.begin_run(sequence)
        await wants.send(1)
        if code == ErrorCode.NOT_SET_UP:
            around.expect(Opcode.SETUP | RESPONSE, 2, b"")
            around.rx.queue(encode_frame(Opcode.SETUP, 2, setup))
        around.expect(Opcode.ERROR, sequence, bytes([code]))
        if code == ErrorCode.WEIGHTS_DAMAGED:
            dut.damage.value = DAMAGE
        await around.answered()
        dut.damage.value = 0
        await wants.send(3)
        if code != ErrorCode.NOT_SET_UP:
            await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
            await wants.send(1)
        await around.set_up(3)
        await wants.send(2)
        around.is_mute = False
        await around.run(sequence, 2, around.draw_feeds(around.config.streams, around.config.max_vocab))
        await wants.send(1)
    await all_answered(around, f"after all runs, seed {around.seed}")
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_want_while_a_run_fails(dut: Any) -> None:
    """A WANT and the ERROR of a run that fails are both whole, in whatever cycle the WANT is offered.

    The WANT is offered in each cycle from 44 cycles before the cycle in which damage ends the run to 19 cycles after
    it. The frame that is due first leaves first. If both are due in the same cycle, the ERROR leaves first.
    """
    around = Surroundings(dut)
    wants = Wants(around)
    await start(dut)
    for want_at in range(SWEPT_CYCLES):
        where = f"the WANT is offered {want_at - FAILS_AT} cycles after the damage, seed {around.seed}"
        await around.set_up(1)
        await around.begin_run(0x80 + want_at)
        item, sequence, payload = wants.draw()
        if want_at < FAILS_AT:
            wants.expect(sequence, payload)
        around.expect(Opcode.ERROR, around.run_sequence, bytes([ErrorCode.WEIGHTS_DAMAGED]))
        if want_at >= FAILS_AT:
            wants.expect(sequence, payload)
        for cycle in range(SWEPT_CYCLES):
            if cycle == want_at:
                error_is_sent = len(around.answers.pending) == len(encode_frame(RESPONSE, sequence, payload))
                wants.source.queue([item])
            if cycle == FAILS_AT:
                want_is_sent = want_at < cycle and not wants.source.pending
                dut.damage.value = DAMAGE
            await FallingEdge(dut.clk)
        await all_answered(around, where)
        assert not around.running, f"the machine is still running, {where}"
        assert not wants.source.pending, f"the WANT was not taken, {where}"
        if want_at in (0, SWEPT_CYCLES - 1):
            assert want_is_sent or error_is_sent, f"the sweep is too short, {where}"
        dut.damage.value = 0
        await ClockCycles(dut.clk, 1)
    assert wants.source.sent_count == SWEPT_CYCLES, f"{wants.source.sent_count} WANTs have left, seed {around.seed}"
    around.feeds.finish()
    around.runs.finish()
