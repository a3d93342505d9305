"""Bench of hw/signature.py: right and wrong blocks of any length, with and without pauses between words."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from lutern.model_ref.signature import STATE_BITS, column_of, step
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import cycle_now, pauses, start, to_int

Blocks = list[tuple[list[int], int]]
"""The words of each block, and the bits that are wrong in the block's last state."""


def last_state_of(words: list[int], bits: int) -> int:
    """Return the last state, computed word by word from the definition."""
    state = 0
    for word in words:
        state = step(state) ^ column_of(word, bits)
    return state


def blocks(draw: random.Random, bits: int) -> Blocks:
    """Return test blocks. Each bit is 1 alone in a block of one word, and every fifth bit also in a block of two words.
    In further blocks, each bit of the last state is wrong once. The last blocks are random, right and wrong."""
    found: Blocks = [([1 << bit], 0) for bit in range(bits)]
    found += [([1 << bit, 0], 0) for bit in range(0, bits, 5)]
    found += [([draw.getrandbits(bits) for _ in range(draw.randint(1, 4))], 1 << bit) for bit in range(STATE_BITS)]
    for length in (1, 2, 3, STATE_BITS + 1, 150):
        found += [
            ([draw.getrandbits(bits) for _ in range(length)], wrong) for wrong in (0, draw.getrandbits(40) | 1, 0)
        ]
    return found


@cocotb.test()
async def blocks_are_judged(dut: Any) -> None:
    """``done`` and ``bad`` have the right values ``latency`` cycles after the last word of each block, and are 0 in all
    other cycles."""
    parameters, seed = bench_parameters(), bench_seed()
    draw, bits, pause = random.Random(seed), parameters["bits"], pauses(parameters["pause"], seed)
    wanted: dict[int, int] = {}  # the values of the input ``wanted``, by the cycle in which they are driven
    expected: dict[int, int] = {}
    names: dict[int, str] = {}
    judged = 0
    dut.valid.value = 0
    await start(dut)
    words = [
        (word, place == len(some) - 1, number, some, wrong)
        for number, (some, wrong) in enumerate(blocks(draw, bits))
        for place, word in enumerate(some)
    ]
    at = 0
    while at < len(words) or expected:
        await RisingEdge(dut.clk)
        now = cycle_now()
        comes = at < len(words) and not next(pause)
        word, last, number, some, wrong = (
            words[at] if comes else (draw.getrandbits(bits), draw.getrandbits(1), 0, [], 0)
        )
        dut.valid.value, dut.word.value, dut.last.value = int(comes), word, int(last)
        dut.wanted.value = wanted.pop(now, draw.getrandbits(STATE_BITS))
        if comes and last:
            wanted[now + parameters["latency"] - 1] = last_state_of(some, bits) ^ wrong
            expected[now + parameters["latency"]] = int(wrong != 0)
            names[now + parameters["latency"]] = f"block {number} of {len(some)} words, {wrong:#x} wrong, seed {seed}"
        at += comes
        await FallingEdge(dut.clk)
        found = (to_int(dut.done), to_int(dut.bad))
        due = expected.pop(now, None)
        assert found == ((0, 0) if due is None else (1, due)), f"signature: (done, bad) {found}, {names.get(now)}"
        judged += due is not None
    assert judged == len(blocks(random.Random(seed), bits))


@cocotb.test()
async def reset_begins_a_block(dut: Any) -> None:
    """A reset in a block drops the words of this block, so the signature of the next block is right."""
    bits, latency, seed = bench_parameters()["bits"], bench_parameters()["latency"], bench_seed()
    draw = random.Random(seed)
    dut.valid.value, dut.last.value = 0, 0
    await start(dut)
    for length in (1, 2, 5):
        for ended in (False, True):
            words = [draw.getrandbits(bits) for _ in range(length + 3)]
            for place, word in enumerate(words):
                await RisingEdge(dut.clk)
                dut.rst.value = int(place == length)
                last = place == length + 2 or (ended and place == length - 1)
                dut.valid.value, dut.word.value, dut.last.value = int(place != length), word, int(last)
            for cycles in range(1, latency + 1):
                await RisingEdge(dut.clk)
                dut.valid.value = 0
                dut.wanted.value = last_state_of(words[length + 1 :], bits)
                await FallingEdge(dut.clk)
                found = (to_int(dut.done), to_int(dut.bad))
                assert found == (int(cycles == latency), 0), (
                    f"signature after a reset: (done, bad) {found}, {length} words before the reset, seed {seed}"
                )
