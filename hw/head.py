"""The head chooses the token of the largest logit, or draws a token at random, and keeps logits for the host.

    base, state ─► words ─► table ─► + dither ─► * temperature ─┐
                                                                ▼
    temperature 0: sums, else scores ───────────────────────── add ─► largest so far (lowest index wins a tie) ─► token
    sums ─► memory of all logits, or of the top_k largest ─► host

P lanes draw P words per cycle. The word of a lane is a fixed linear map of the generator's state. This map takes an XOR
network of three levels of LUT4. The base of a stream is the state with which the next vector of this stream begins.
Each lane reads a table of Gumbel variates and uses one 18 x 18 product. Two lanes share a table in block RAM. Scores
are the scaled logits. ``model_ref.sampling`` defines the result.

Cost without the memory of logits: one lane and one stream take 435 LUT4, 50 CCU2C and 628 flip-flops. Two lanes and 8
streams take 806 LUT4, 99 CCU2C, 1,056 flip-flops and 27 DPR16X4, routed at 118 MHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import xor
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, seed_payload, token_payload, values_payload
from lutern.hw.pipeline import CreditFifo, Stages, StreamRegister, in_luts, new_memory
from lutern.hw.top_k import TopK
from lutern.model_ref import sampling
from lutern.model_ref.fixed import Int
from lutern.model_ref.sampling import (
    CELL_BITS,
    DITHER_BITS,
    JUMP_LOG2,
    NOISE_BITS,
    NOISE_SHIFT,
    OCTAVE_BITS,
    SEED_OF_ZERO,
    TABLE,
    TEMPERATURE_BITS,
    WORD_BITS,
)
from lutern.model_ref.ternary import SUM_BITS

KEY_BITS = VALUE_BITS + 1
"""Number of bits of a score with its noise."""
LOWEST = -(3 << (KEY_BITS - 3))
"""Value of a padding row. The distances from this value to the lowest score and to the lowest number of ``KEY_BITS``
bits are both larger than any noise."""
NOISE_HALF = 1 << (NOISE_SHIFT - 1)
TABLE_WORDS = [int(entry) & (1 << NOISE_BITS) - 1 for entry in TABLE]
JUMP = 1 << JUMP_LOG2
"""Number of draws by which the base of a stream advances for each token."""
FIRST_SEED = SEED_OF_ZERO


def tree(items: Sequence[Value], join: Callable[[Value, Value], Value]) -> Value:
    """Join all items pairwise, neighbours first, until one item is left.

    Parameters
    ----------
    items : sequence of Value
        At least one item.
    join : callable
        Joins two items. The function must be associative.

    Returns
    -------
    Value
        The combinational result.
    """
    while len(items) > 1:
        items = [join(*items[at : at + 2]) if at + 1 < len(items) else items[at] for at in range(0, len(items), 2)]
    return items[0]


def linear(columns: np.ndarray, word: Value) -> Value:
    """Multiply a word by a matrix over GF(2).

    The product is the exclusive or of all rotations of the word. A different mask is applied to each rotation.

    Parameters
    ----------
    columns : ndarray
        The columns of the matrix, as integers.
    word : Value
        The word. It has as many bits as the matrix has columns.

    Returns
    -------
    Value
        The combinational product.
    """
    bits = len(word)
    terms = []
    for turn in range(bits):
        mask = sum((int(columns[(row - turn) % bits]) >> row & 1) << row for row in range(bits))
        if mask:
            terms.append(word.rotate_left(turn) & mask)
    return tree(terms, xor)


def leading_zeros(bits: Value) -> Value:
    """Return how many of the highest bits are 0.

    Parameters
    ----------
    bits : Value
        The bits. Their number must be a power of two, and at least one bit must be 1.

    Returns
    -------
    Value
        The combinational count.
    """
    counts: list[tuple[Value, Value]] = [(bit, Const(0, 0)) for bit in bits]  # (any bit is 1, count of zeros above it)
    while len(counts) > 1:
        counts = [
            (low[0] | high[0], Cat(Mux(high[0], high[1], low[1]), ~high[0]))
            for low, high in zip(counts[::2], counts[1::2], strict=True)
        ]
    return counts[0][1]


TABLE_PORTS = 2
"""Number of results that share a table of noise in block RAM."""


class Head(wiring.Component):
    """Chooses a token for every stream.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) logits per beat, ``streams`` (T), ``max_vocab``, ``top_k``.

    Members
    -------
    i : stream of ``layouts.values_payload``, input
        Raw sums and scores of op HEAD of every stream, in the order of rows. ``last`` is 1 in the final beat of a
        stream. Beats of the streams may alternate. If vectors have a single beat, two beats of one stream must not come
        in consecutive cycles.
    i_seed : stream of ``layouts.seed_payload``, input
        The seed of a stream's generator. Always ready. A seed may arrive only while no beat is in flight, and at the
        latest one cycle before the next beat.
    vocab : 16 bits, input
        Number of rows that are tokens. The last beat may also contain padding rows. Constant while beats are in flight.
    temperature : 16 bits, input
        The temperature, u4.12. Constant while beats are in flight.
    o : stream of ``layouts.token_payload``, output
        The token of each vector, in the order of the last beats of the vectors.
    logits_stream : ``stream_bits`` bits, input
        The stream of the logit that the host reads.
    address : 16 bits, input
        The logit that the host reads: a token, or with ``top_k`` an address of `TopK`.
    data : 24 bits signed, output
        The raw sum of the token ``address``, or with ``top_k`` the word of `TopK`, one cycle after ``address``.

    Numerics
    --------
    Equal to ``model_ref.sampling.Gumbel``, bit for bit. If the temperature is 0, the largest raw sum wins, and the
    generator does not advance. Among equal candidates the lowest token wins. A reset does not change the state of a
    generator. A generator that was never seeded produces the same noise for all tokens.

    Latency
    -------
    ``latency`` by ``results_per_cycle``: 8 for 1, 9 for 2, 10 for 4, 11 for 8. ``latency`` counts the cycles from the
    last beat to the token. While `TopK` inserts a logit, beats and tokens stall.

    Reference
    ---------
    ``model``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.latency = self.latency_of(config)
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "i_seed": In(stream.Signature(seed_payload(config))),
                "vocab": In(16),
                "temperature": In(TEMPERATURE_BITS),
                "o": Out(stream.Signature(token_payload(config))),
                "logits_stream": In(config.stream_bits),
                "address": In(16),
                "data": Out(signed(24)),
            }
        )

    @staticmethod
    def latency_of(config: HwConfig) -> int:
        """Return the number of cycles from the last beat to the token. The tree that finds the best candidate of a beat
        has a register at each level."""
        return 8 + (config.results_per_cycle - 1).bit_length()

    @staticmethod
    def model(generator: sampling.Gumbel, sums: Int, scores: Int, temperature: int) -> int:
        """Return the token of a vector, and advance the generator of its stream.

        Parameters
        ----------
        generator
            The generator of the stream.
        sums, scores
            Raw sums and scores [V].
        temperature
            The temperature, u4.12.
        """
        return int(generator.choose(sums[None], scores[None], temperature)[0])

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, lanes = self.config, self.config.results_per_cycle
        lane_bits = (lanes - 1).bit_length()
        i = self.i.payload
        token_bits = max(1, (config.max_vocab - 1).bit_length())
        m.submodules.tokens = tokens = CreditFifo(StructLayout({"token": token_bits, "stream": config.stream_bits}))
        stages = Stages(m)
        entered = self.i.valid & self.i.ready
        kept = self._keep(m, tokens.room)
        shows = self._all_kept(m, kept) if config.top_k else Const(1)
        m.d.comb += [
            self.i.ready.eq(tokens.room & kept),
            tokens.enters.eq(entered & i.last),
            self.o.valid.eq(tokens.o.valid & shows),
            self.o.payload.token.eq(tokens.o.payload.token),
            self.o.payload.stream.eq(tokens.o.payload.stream),
            tokens.o.ready.eq(self.o.ready & shows),
        ]

        # 1: the keys to compare. The key of a padding row is below all other keys
        greedy = self.temperature == 0
        beat_stream = stages.register(i.stream, "beat_stream") if config.streams > 1 else Const(0, 1)
        index = stages.register(i.index, "index")
        first, last = stages.register(i.index == 0, "first"), stages.register(i.last, "last")
        valid = stages.valid(entered, 1)
        keys = []
        for lane in range(lanes):
            score = i.scores.word_select(lane, VALUE_BITS).as_signed()
            value = i.values.word_select(lane, VALUE_BITS)[:SUM_BITS].as_signed()
            counts = Cat(Const(lane, lane_bits), i.index) < self.vocab
            key = Mux(counts, Mux(greedy, value, score), Const(LOWEST, signed(KEY_BITS)))
            keys.append(stages.register(key, f"key_{lane}"))

        # 2: words, 3 and 4: variates, 5: variates with dither, 6: product with the temperature
        words = self._draw(m, valid, beat_stream, first, greedy)
        words = [stages.register(word, f"word_{lane}") for lane, word in enumerate(words)]
        ports = self._noise_ports(m)
        products = [self._noise(m, stages, word, port) for word, port in zip(words, ports, strict=True)]

        # 7: key and noise are added, with the sign inverted because unsigned numbers compare faster. Then a tree finds
        # the best candidate of the beat, with a register at each level.
        candidates = []
        for lane, (key, product) in enumerate(zip(keys, products, strict=True)):
            exact = Cat(Const(NOISE_HALF, NOISE_SHIFT), stages.delay(key, 5)).as_signed() + product
            exact = exact[NOISE_SHIFT:][:KEY_BITS] ^ (1 << (KEY_BITS - 1))
            candidates.append((stages.register(exact), Const(lane, lane_bits)))
        while len(candidates) > 1:
            pairs = zip(candidates[::2], candidates[1::2], strict=True)
            candidates = [
                (stages.register(Mux(b[0] > a[0], b[0], a[0])), stages.register(Mux(b[0] > a[0], b[1], a[1])))
                for a, b in pairs
            ]
        key, winner = candidates[0]
        behind = self.latency - 2
        token = Cat(winner, stages.delay(index, behind))[:16]
        first, last = stages.delay(first, behind), stages.delay(last, behind)
        valid = stages.valid(valid, behind)

        # 8: the best candidate of the vector goes into the FIFO
        newest = Signal(KEY_BITS + 16, reset_less=True)  # the most recent candidate that won
        best: Value = newest
        wins = Signal()
        candidate = Cat(token, Const(0, 16 - len(token)), key)
        if config.streams > 1:  # the best candidate of another stream is read one stage earlier
            next_stream = stages.delay(beat_stream, behind - 1)
            beat_stream = stages.register(next_stream)
            others = StreamRegister(m, config, "best", len(newest))
            others.write(beat_stream, valid & wins, candidate)
            fetched, is_newest = Signal.like(newest, reset_less=True), Signal()
            best = Mux(is_newest, newest, fetched)
            stays = valid & (next_stream == beat_stream)
            m.d.sync += is_newest.eq(stays & (is_newest | wins))
            with m.If(~stays):
                m.d.sync += fetched.eq(others.read(next_stream))
        m.d.comb += wins.eq(first | (key > best[16:]))
        with m.If(valid & wins):
            m.d.sync += newest.eq(candidate)
        m.d.comb += [
            tokens.i.valid.eq(valid & last),
            tokens.i.payload.token.eq(Mux(wins, token, best[:16])),
            tokens.i.payload.stream.eq(beat_stream),
        ]
        return m

    def _all_kept(self, m: Module, kept: Value) -> Value:
        """Return whether a token may leave, because every earlier logit has been inserted into the list of the largest
        logits.

        A token may leave if ``kept`` is 1 in this cycle and was 1 in the previous cycle. One cycle is not enough,
        because ``kept`` may be 1 for a single cycle between the stalls for two logits. A token that is at the output
        stays there in any case.
        """
        shown, before = Signal(), Signal()
        m.d.sync += [shown.eq(self.o.valid & ~self.o.ready), before.eq(kept)]
        return (kept & before) | shown

    def _draw(self, m: Module, taken: Value, stream: Value, first: Value, greedy: Value) -> list[Value]:
        """Return the words of the beat that is accepted. The base of a stream advances after the first beat of a
        vector, and a seed replaces the base."""
        config, lanes, seed = self.config, self.config.results_per_cycle, self.i_seed.payload
        base = StreamRegister(m, config, "base", WORD_BITS)
        state = StreamRegister(m, config, "state", WORD_BITS)
        start = base.read(stream)
        current = Mux(first, start, state.read(stream))
        state.write(stream, taken, linear(sampling.power(lanes), current))
        seeded = self.i_seed.valid
        moves = Signal()
        origin, origin_stream = Signal(WORD_BITS, reset_less=True), Signal.like(seed.stream, reset_less=True)
        m.d.sync += [
            moves.eq(seeded | (taken & first & ~greedy)),
            origin.eq(Mux(seeded, Mux(seed.seed == 0, FIRST_SEED, seed.seed), start)),
            origin_stream.eq(Mux(seeded, seed.stream, stream)),
        ]
        base.write(origin_stream, moves, linear(sampling.power(JUMP), origin))
        m.d.comb += self.i_seed.ready.eq(1)
        return [linear(sampling.power(lane), current) for lane in range(lanes)]

    def _noise_ports(self, m: Module) -> list[Any]:
        """Return one read port of the table of noise for each result. A block RAM has two ports, and a table in logic
        has one."""
        lanes, is_logic = self.config.results_per_cycle, in_luts(self.config, len(TABLE_WORDS))
        attrs, most = ({"rom_style": "logic"}, 1) if is_logic else ({}, TABLE_PORTS)
        ports: list[Any] = []
        while len(ports) < lanes:
            m.submodules += (table := new_memory(NOISE_BITS, len(TABLE_WORDS), init=TABLE_WORDS, attrs=attrs))
            for _ in range(min(most, lanes - len(ports))):
                ports.append(table.read_port(domain="comb") if is_logic else table.read_port())
        return ports

    def _noise(self, m: Module, stages: Stages, word: Value, read: Any) -> Value:
        """Return the product of noise and temperature, four stages after the word."""
        scale = word[CELL_BITS + DITHER_BITS :]
        ones = Const(-1, WORD_BITS - OCTAVE_BITS)
        octave = leading_zeros(Cat(ones, scale))
        address = Cat(word[DITHER_BITS:][:CELL_BITS], octave)
        m.d.comb += read.addr.eq(stages.register(address) if in_luts(self.config, len(TABLE_WORDS)) else address)
        variate = stages.register(read.data.as_signed())
        noise = stages.register((variate + stages.delay(word[:DITHER_BITS], 2))[:NOISE_BITS].as_signed())
        return stages.register(noise * self.temperature)

    def _keep(self, m: Module, room: Value) -> Value:
        """Store the sums for the host. Return whether the memory can accept a beat."""
        config, lanes = self.config, self.config.results_per_cycle
        i = self.i.payload
        if config.top_k:
            m.submodules.top_k = top_k = TopK(config)
            m.d.comb += [
                top_k.i.valid.eq(self.i.valid & room),
                Value.cast(top_k.i.payload).eq(Value.cast(i)),
                top_k.vocab.eq(self.vocab),
                top_k.logits_stream.eq(self.logits_stream),
                top_k.address.eq(self.address),
                self.data.eq(top_k.data),
            ]
            return top_k.i.ready

        lane_bits = (lanes - 1).bit_length()
        beats = -(-config.max_vocab // lanes)
        beat_bits = max(1, (beats - 1).bit_length())
        depth = config.streams << beat_bits if config.streams > 1 else beats
        m.submodules.memory = memory = new_memory(lanes * SUM_BITS, depth)
        read, write = memory.read_port(), memory.write_port()
        wanted = self.address[lane_bits:][:beat_bits]
        m.d.comb += [
            write.addr.eq(Cat(i.index[:beat_bits], i.stream) if config.streams > 1 else i.index),
            write.en.eq(self.i.valid & room & (i.index < beats)),
            write.data.eq(Cat(*[i.values.word_select(lane, VALUE_BITS)[:SUM_BITS] for lane in range(lanes)])),
            read.addr.eq(Cat(wanted, self.logits_stream) if config.streams > 1 else wanted),
        ]
        lane = Signal(max(1, lane_bits))
        m.d.sync += lane.eq(self.address[:lane_bits])
        m.d.comb += self.data.eq(
            read.data.word_select(lane, SUM_BITS).as_signed() if lanes > 1 else read.data.as_signed()
        )
        return Const(1, 1)
