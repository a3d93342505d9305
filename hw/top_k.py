"""TopK keeps the k largest logits of every stream for the host, because a table of all logits would be too large.

    beat of sums ─► above the least entry? ── no ─► dropped, one beat per cycle
                                │ yes: beats stall
                                ▼
                    walk from the least up: smaller entries move down a place, the logit takes the free place

This is a sorted insertion. The entries of a stream are in descending order, and among equal entries the lower token
comes first. If V logits arrive in random order, about k ln(V / k) logits are inserted after the first k. The walks
therefore take less time than the beats of all V logits.

Cost with k = 32, two lanes and 8 streams: 355 LUT4, 68 CCU2C, 278 flip-flops, 8 DPR16X4, 1 block RAM, routed at 111
MHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, values_payload
from lutern.hw.pipeline import StreamRegister, new_memory
from lutern.model_ref import head
from lutern.model_ref.fixed import Int
from lutern.model_ref.ternary import SUM_BITS

LOWEST = -(1 << (SUM_BITS - 1))
"""The value that stands for the least entry while a list is not full. It is below every sum, because the magnitude of a
sum is at most 127 * 8192."""
WALK_BITS = SUM_BITS
"""Number of bits of a sum that are compared in a walk."""


@dataclass(frozen=True)
class _Beat:
    """Holds the beat in the second register (sums, stream and index), and the least entry and the length of the list of
    its stream."""

    values: Signal
    stream: Signal
    index: Signal
    least: Signal
    count: Signal


@dataclass(frozen=True)
class _Walk:
    """Holds a logit during its walk: value, token, the free place, the place that is read (``ahead``), and the entry
    before the free place."""

    value: Signal
    token: Signal
    place: Signal
    ahead: Signal
    entry: Signal
    walking: Signal
    done: Signal


class TopK(wiring.Component):
    """Keeps the ``config.top_k`` (k) largest raw logits of each stream.

    Parameters
    ----------
    config : HwConfig
        ``top_k`` (at least 1), ``results_per_cycle`` (P), ``streams`` (T), ``max_vocab``.

    Members
    -------
    i : stream of ``layouts.values_payload``, input
        Raw sums of op HEAD of every stream, in the order of rows. The ready of ``i`` does not depend on its valid.
    vocab : 16 bits, input
        Number of rows that are tokens. The last beat may also contain padding rows.
    logits_stream : ``stream_bits`` bits, input
        Selects the stream that the host reads.
    address : 16 bits, input
        2 j selects the sum of entry j, and 2 j + 1 selects the token of entry j.
    data : 24 bits signed, output
        The sum, sign-extended, or the token, one cycle after ``address``. Undefined while a logit is inserted.

    Numerics
    --------
    Exact. Entries are in descending order. A vector fills ``min(k, vocab)`` entries. Further entries are undefined.

    Latency
    -------
    A logit that is not above the least entry takes no extra cycle. Any other logit takes 6 cycles, and one more cycle
    for each entry that moves down a place. This logit is inserted before the second of the following beats is accepted.
    If another logit of the same beat was inserted, and a logit is therefore no longer above the least entry, this logit
    takes 2 cycles.

    Reference
    ---------
    ``model``.
    """

    def __init__(self, config: HwConfig) -> None:
        if config.top_k < 1:
            raise ValueError("top_k is 0, so no logit is kept; give 1 or more")
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "vocab": In(16),
                "logits_stream": In(config.stream_bits),
                "address": In(16),
                "data": Out(signed(24)),
            }
        )

    @staticmethod
    def model(sums: Int, k: int) -> tuple[Int, Int]:
        """Return the tokens and sums [min(k, V)] of sums [V]."""
        return head.top_k(sums, k)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, lanes, k = self.config, self.config.results_per_cycle, self.config.top_k
        token_bits = max(1, (config.max_vocab - 1).bit_length())
        place_bits = max(1, (k - 1).bit_length())
        depth = config.streams << place_bits if config.streams > 1 else k
        m.submodules.entries = entries = new_memory(SUM_BITS + token_bits, depth)
        read, write = entries.read_port(), entries.write_port()
        least, count = (
            StreamRegister(m, config, name, bits) for name, bits in (("least", SUM_BITS), ("count", k.bit_length()))
        )

        idle = Signal()
        above = Signal(lanes)  # lanes whose logit in the second beat is to be inserted
        beat = self._take_beats(m, idle, above, least, count)

        walk, fsm = self._place_logits(m, beat, above, read.data, write)
        m.d.comb += idle.eq(fsm.ongoing("PICK"))
        with m.If(fsm.ongoing("READ") | fsm.ongoing("FETCH") | walk.walking):
            m.d.sync += walk.ahead.eq(walk.ahead - 1)
        with m.If(walk.walking):
            m.d.sync += walk.place.eq(walk.place - 1)
        for register, kept in ((least, beat.least), (count, beat.count)):
            register.write(beat.stream, fsm.ongoing("KEEP"), kept)

        stays = walk.entry[token_bits:][:WALK_BITS].as_signed() >= walk.value[:WALK_BITS].as_signed()
        host_place = self.address[1 : 1 + place_bits]
        places = {"write": walk.place, "walk": walk.ahead, "host": host_place}
        if config.streams > 1:
            places = {
                "write": Cat(walk.place, beat.stream),
                "walk": Cat(walk.ahead, beat.stream),
                "host": Cat(host_place, self.logits_stream),
            }
        m.d.comb += [
            walk.done.eq((walk.place == 0) | stays),
            write.en.eq(walk.walking),
            write.addr.eq(places["write"]),
            write.data.eq(Mux(walk.done, Cat(walk.token, walk.value), walk.entry)),
            read.addr.eq(Mux(idle, places["host"], places["walk"])),
        ]

        # reads by the host
        wants_token = Signal()
        m.d.sync += wants_token.eq(self.address[0])
        m.d.comb += self.data.eq(Mux(wants_token, read.data[:token_bits], read.data[token_bits:].as_signed()))
        return m

    def _take_beats(
        self, m: Module, idle: Signal, above: Signal, least: StreamRegister, count: StreamRegister
    ) -> _Beat:
        """Add registers for two beats and return the second beat, with the least entry and the length of its stream's
        list. ``above`` marks the logits of this beat that are above the least entry."""
        lanes, k = self.config.results_per_cycle, self.config.top_k
        lane_bits = (lanes - 1).bit_length()
        lowest = Const(LOWEST, signed(SUM_BITS))
        hold = above.any() | ~idle
        m.d.comb += self.i.ready.eq(~hold)

        # 1: the beat
        i = self.i.payload
        valid = Signal()
        beat = Signal(lanes * SUM_BITS, reset_less=True)
        beat_stream, beat_index = Signal.like(i.stream, reset_less=True), Signal.like(i.index, reset_less=True)
        counts = Signal(lanes, reset_less=True)
        with m.If(~hold):
            m.d.sync += [valid.eq(self.i.valid), beat_stream.eq(i.stream), beat_index.eq(i.index)]
            for lane in range(lanes):
                m.d.sync += [
                    beat.word_select(lane, SUM_BITS).eq(i.values.word_select(lane, VALUE_BITS)),
                    counts[lane].eq(Cat(Const(lane, lane_bits), i.index) < self.vocab),
                ]

        # 2: which logits are above the least entry. The registers hold least entry and length while the stream's list
        # changes.
        values = Signal.like(beat, reset_less=True)
        list_stream, index = Signal.like(beat_stream, reset_less=True), Signal.like(beat_index, reset_less=True)
        list_least, list_count = Signal(signed(SUM_BITS), reset_less=True), Signal(k.bit_length(), reset_less=True)
        new = beat_index == 0
        old_least = least.read(beat_stream).as_signed()
        with m.If(~hold):
            m.d.sync += [
                values.eq(beat),
                list_stream.eq(beat_stream),
                index.eq(beat_index),
                list_least.eq(Mux(new, lowest, old_least)),
                list_count.eq(Mux(new, 0, count.read(beat_stream))),
            ]
            for lane in range(lanes):
                higher = beat.word_select(lane, SUM_BITS).as_signed() > old_least
                m.d.sync += above[lane].eq(valid & counts[lane] & (new | higher))
        return _Beat(values, list_stream, index, list_least, list_count)

    def _place_logits(self, m: Module, beat: _Beat, above: Signal, read_data: Value, write: Any) -> tuple[_Walk, Any]:
        """Insert one logit after another. Return the registers of the walk, and the state machine."""
        lanes, k = self.config.results_per_cycle, self.config.top_k
        lane_bits = (lanes - 1).bit_length()
        token_bits = max(1, (self.config.max_vocab - 1).bit_length())
        place_bits = max(1, (k - 1).bit_length())
        value = Signal(signed(SUM_BITS), reset_less=True)
        token = Signal(token_bits, reset_less=True)
        place, ahead = Signal(place_bits, reset_less=True), Signal(place_bits, reset_less=True)
        entry = Signal(SUM_BITS + token_bits, reset_less=True)
        walking, done = Signal(), Signal()
        full = beat.count == k
        m.d.sync += entry.eq(read_data)
        with m.FSM() as fsm:
            with m.State("PICK"):
                for lane in reversed(range(lanes)):
                    with m.If(above[lane]):
                        m.d.sync += [
                            value.eq(beat.values.word_select(lane, SUM_BITS)),
                            token.eq(Cat(Const(lane, lane_bits), beat.index)),
                        ]
                for lane in range(lanes):
                    with m.If(above[lane] & ~above[:lane].any()):
                        m.d.sync += above[lane].eq(0)
                with m.If(above.any()):
                    m.next = "CHECK"
            with m.State("CHECK"):  # another lane of the beat may have raised the least entry
                last_place = Mux(full, k - 1, beat.count)
                m.d.sync += [place.eq(last_place), ahead.eq(last_place - 1)]
                m.next = "PICK"
                with m.If(value > beat.least):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += walking.eq(1)
                with m.If(place == k - 1):
                    m.d.sync += beat.least.eq(write.data[token_bits:])
                with m.If(done):
                    m.d.sync += beat.count.eq(beat.count + ~full)
                    m.next = "KEEP"
            with m.State("KEEP"):
                m.next = "PICK"
        return _Walk(value, token, place, ahead, entry, walking, done), fsm
