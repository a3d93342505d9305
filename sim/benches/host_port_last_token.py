"""Bench of hw/link/host_port.py with the last token of a run in each cycle in which something else decides, too.

    END of a repeated RUN ─► i_rx    │ host port │ o_run ─► once for each RUN
    last token, cycle by cycle ─► i_token        │ o_tx ─► all tokens, or RUN_TOO_LONG, never both

`Surroundings` has the parameters of the bench. All streams must have the pause "none", because the END of a frame and
the token must come in exact cycles. `step_limit_cycles` must not be 0.
"""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.protocol import TOKEN_LAYOUT, ErrorCode, Opcode
from lutern.sim.benches.host_port_surroundings import RESPONSE, Surroundings
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import StreamMonitor, cycle_now, pack, reset, start

DECODE_AFTER = 4
"""DECODE follows this number of cycles after the cycle in which the port takes the END of a frame: two cycles in the
deframer, one in the register `item`, and one in the FSM."""
CHECKED_CYCLES = 4
"""The states DECODE, ADD, CHECK and BEGIN, in which the port takes no token and ends no run."""
SWEPT_CYCLES = 22
END_AT = 8  # the END is offered in this cycle of the sweep, so DECODE begins in the middle of the sweep
IDLE_CYCLES = 30  # the feed of a run that begins twice would come after 12 cycles


async def wait_until(dut: Any, cycle: int) -> None:
    """Wait until the falling edge before `cycle`. A stream's item that is queued now is offered in `cycle`."""
    assert cycle_now() < cycle, f"cycle {cycle} has passed"
    while cycle_now() < cycle - 1:
        await FallingEdge(dut.clk)


def draw_token(around: Surroundings, last: int) -> int:
    return pack(TOKEN_LAYOUT, {"token": around.random.getrandbits(16), "last": last})


async def send_all_but_end(around: Surroundings, frame: bytes) -> None:
    """Send a frame without its END, and wait until the deframer has passed on all bytes."""
    around.rx.queue(frame[:-1])
    await around.rx.drained()
    for _ in range(DECODE_AFTER):
        await FallingEdge(around.dut.clk)


async def all_answered(around: Surroundings, where: str) -> None:
    """Wait until all expected answers have come, and then until a second run or a further answer would have begun."""
    for _ in range(1000):
        if not around.answers.pending:
            break
        await FallingEdge(around.dut.clk)
    assert not around.answers.pending, f"{len(around.answers.pending)} bytes of answers are missing, {where}"
    for _ in range(IDLE_CYCLES):
        await FallingEdge(around.dut.clk)


@cocotb.test()
async def a_last_token_while_a_repeated_run_is_decoded(dut: Any) -> None:
    """A RUN that comes again is executed once, in whatever cycle the run's last token comes.

    The token is offered in each cycle from 8 cycles before the END of the repeated RUN to 13 cycles after this END. If
    the token is taken before DECODE, the repetition is answered once more. Otherwise the repetition is dropped, and the
    token waits until the checks of the repetition are over. Each answer has all tokens.
    """
    around = Surroundings(dut)
    line = StreamMonitor(dut, "i_rx")
    await start(dut)
    await around.set_up(0)
    resends = []
    for token_at in range(SWEPT_CYCLES):
        where = f"the token is offered {token_at - END_AT} cycles after END, seed {around.seed}"
        sequence = 0x20 + token_at
        frame = encode_frame(Opcode.RUN, sequence, await around.begin_run(sequence, count=3))
        await around.tokens.send(draw_token(around, 0), draw_token(around, 0))
        await send_all_but_end(around, frame)
        for cycle in range(SWEPT_CYCLES):
            if cycle == END_AT:
                around.rx.queue(frame[-1:])
            if cycle == token_at:
                around.tokens.queue([draw_token(around, 1)])
            await FallingEdge(dut.clk)
        await around.rx.drained()
        await around.tokens.drained()
        decode = line.items[-1][0] + DECODE_AFTER
        resends.append(around.step_begun < decode)
        if resends[-1]:
            around.expect(Opcode.RUN | RESPONSE, sequence, around.last_answer)
        await all_answered(around, where)
        assert around.runs.checked_count == token_at + 1, f"{around.runs.checked_count} runs have begun, {where}"
        assert len(around.run_tokens) == 2 * 3, f"{len(around.run_tokens) // 2} tokens were taken, {where}"
        assert around.running, f"the machine has stopped, {where}"
    most = END_AT + DECODE_AFTER
    assert resends == [True] * most + [False] * (SWEPT_CYCLES - most), f"resends {resends}, seed {around.seed}"
    around.feeds.finish()
    around.runs.finish()


async def race(
    around: Surroundings, sequence: int, limit_at: int, token_at: int, last: int, decode: int | None
) -> None:
    """Offer a token near the limit of its step, and check that the run either takes it or fails.

    A repeated RUN is in DECODE in the cycle `decode`. The three cycles are counted from the start of the step, as
    `status.cycles` is. The limit is read one cycle after `limit_at`, but not while a command is checked.
    """
    dut = around.dut
    fails_at = limit_at + 1
    if decode is not None and decode <= fails_at < decode + CHECKED_CYCLES:
        fails_at = decode + CHECKED_CYCLES
    repeated = "no repeated RUN" if decode is None else f"a repeated RUN in DECODE at {decode - limit_at:+}"
    where = f"token (last {last}) at {token_at - limit_at:+} from the limit, {repeated}, seed {around.seed}"
    command = await around.begin_run(sequence, count=2)
    frame = encode_frame(Opcode.RUN, sequence, command)
    begun = around.step_begun
    if last:
        await around.tokens.send(draw_token(around, 0))
        begun = around.step_begun
    events = [(token_at, around.tokens, [draw_token(around, last)])]
    if decode is not None:
        await send_all_but_end(around, frame)
        events.append((decode - DECODE_AFTER, around.rx, list(frame[-1:])))
    for cycle, source, items in sorted(events, key=lambda event: event[0]):
        await wait_until(dut, begun + cycle)
        source.queue(items)
    while around.tokens.pending and around.running and cycle_now() < begun + limit_at + 40:
        await FallingEdge(dut.clk)
    for _ in range(2):  # a run that fails in the cycle of its token, or one cycle later, stops the machine by then
        await FallingEdge(dut.clk)
    is_taken, has_failed = not around.tokens.pending, not around.running
    assert is_taken != has_failed, f"token taken: {is_taken}, run failed: {has_failed}, {where}"
    assert is_taken == (token_at <= fails_at), f"token taken: {is_taken}, {where}"
    if is_taken:
        if not last:
            await around.tokens.send(draw_token(around, 1))
        await all_answered(around, where)
        assert len(around.run_tokens) == 2 * 2, f"{len(around.run_tokens) // 2} tokens were taken, {where}"
        assert around.running, f"the run failed after its tokens were taken, {where}"
        return
    around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.RUN_TOO_LONG]))
    await all_answered(around, where)
    await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
    assert around.tokens.pending, f"the token was taken after the run had failed, {where}"
    dut.rst.value = 1  # the token is withdrawn, as by a decoder that is reset
    await FallingEdge(dut.clk)
    around.tokens.clear()
    await reset(dut)


@cocotb.test()
async def a_token_at_the_limit(dut: Any) -> None:
    """A token near the limit of its step is either taken, and the run is answered with all its tokens, or the run fails
    with RUN_TOO_LONG, and the token is not taken.

    The token is offered in each cycle from 4 cycles before the limit to 4 cycles after it, and in each cycle around the
    checks of a repeated RUN.

    `status.cycles` is 0 in the cycle in which the run begins or the previous token is taken. Let the limit be L
    cycles. The register `late` is loaded when `status.cycles` is L, and read one cycle later. A valid token prevents
    both. So a token is taken if it is valid when `status.cycles` is at most L + 1, and the run fails in this cycle if
    there is no token. While a command is checked, the port takes no token and no run fails. If `status.cycles` reaches
    L + 1 in these four cycles, a token is still taken if it is valid in the cycle that follows them. An earlier token
    is treated like the last token.
    """
    unit = bench_parameters()["step_limit_cycles"]
    around = Surroundings(dut)
    await start(dut)
    cases: list[tuple[int, int, int, int | None]] = []
    cases += [(1, offset, last, None) for offset in range(-4, 5) for last in (0, 1)]
    for begin in range(2 - CHECKED_CYCLES, 2):  # L + 1 is one of the cycles of the checks
        cases += [(2, begin + wait, (begin + wait) % 2, begin) for wait in range(CHECKED_CYCLES + 3)]
    limit_before = 0
    for sequence, (limit, offset, last, decode) in enumerate(cases):
        if limit != limit_before or not around.running:
            await around.set_up(0xFF, step_limit=limit)
            limit_before = limit
        limit_at = limit * unit  # the frame of a repeated RUN takes longer than one unit
        decode_at = None if decode is None else limit_at + decode
        await race(around, sequence, limit_at, limit_at + offset, last, decode_at)
    around.feeds.finish()
    around.runs.finish()
