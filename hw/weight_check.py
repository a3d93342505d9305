"""Checks the weights while they are read: no token leaves before the signatures of all that it was made of are zero.

    memory ── o_words ─────────────► decoder      blocks of records: one signature each, of image and number
           ── o_row ─► (check) ────► decoder      a row: its first words are its check, and stay here
           ── o_trits ─────────────► decoder      resident: one signature of all beats of a pass
    host ◄─────── gate ◄── o_token ─ decoder      a step's tokens wait for the pass that they need, and for no other

A pass is good when every word of it was in a block with a zero signature: a damaged header cannot hide words. The first
damage ends all tokens until the next SETUP, and the host learns its block, or the token of its row: a reset, in which
the decoder is until SETUP, leaves ``damage`` as it is.

Cost: the signatures' (hw/signature.py), and 200 LUT4.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import check_words
from lutern.hw.protocol import DAMAGE_LAYOUT, SETUP_LAYOUT, STREAM_BITS, TOKEN_LAYOUT, Damage
from lutern.hw.signature import SignatureCheck

PASSES_AHEAD = 1 << 12
"""More passes than any readers are ahead of the tokens."""


class WeightCheck(wiring.Component):
    """See above.

    Members: ``setup``; ``word_valid``, ``word``: a word of records is taken by the decoder, ``checked``: it ends a
    block; ``beat_valid``, ``beat`` the same of trits (resident); ``asked``: the row of ``token`` is asked for, when all
    words of the one before have come; ``i_row`` from the memory, ``o_row`` to the decoder; ``begins``: a run begins, of
    ``final_stream`` + 1 streams; ``i_token`` from the decoder, ``o_token`` to the host; ``damage``: ``count`` since
    power-up, ``kind`` and ``place`` of the first since SETUP, from the first run after it on.

    Latency: 0 for rows and tokens; a step's tokens leave 4 cycles after the last word of its pass was taken, or later.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        resident = {"beat_valid": In(1), "beat": In(config.beat_bits)} if config.source == "resident" else {}
        row, token = stream.Signature(config.word_bits), stream.Signature(TOKEN_LAYOUT)
        super().__init__(
            {
                "setup": In(SETUP_LAYOUT),
                "word_valid": In(1),
                "word": In(config.word_bits),
                "checked": In(1),
                **resident,
                "asked": In(1),
                "token": In(16),
                "i_row": In(row),
                "o_row": Out(row),
                "begins": In(1),
                "final_stream": In(STREAM_BITS),
                "i_token": In(token),
                "o_token": Out(token),
                "damage": Out(DAMAGE_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spent = Signal()  # the last token of a step leaves
        passes = [self._check_records(m, spent)]
        if self.config.source == "resident":
            passes.append(self._check_trits(m, spent))
        row_bad, row_place = self._check_rows(m)
        (_, records_bad, block), *trits = passes
        found = [(Damage.RECORDS, records_bad, block), (Damage.ROW, row_bad, row_place)]
        found += [(Damage.TRITS, bad, place) for _, bad, place in trits]
        is_damaged = Signal()
        self._note(m, is_damaged, found)
        self._gate(m, spent, Cat(good for good, *_ in passes).all() & ~is_damaged)
        return m

    def _count_passes(self, m: Module, name: str, good: Value, spent: Value) -> Value:
        """Passes that were read and not used up: whether there is one."""
        left = Signal(range(PASSES_AHEAD), name=f"{name}_passes")
        any_left = Signal(name=f"{name}_pass_is_good")
        change = left + good - spent
        m.d.sync += [left.eq(change), any_left.eq(change != 0)]
        return any_left

    def _check_records(self, m: Module, spent: Value) -> tuple[Value, Value, Value]:
        """Whether a pass is good; a block is not; its number."""
        m.submodules.records = records = SignatureCheck(self.config.word_bits)
        bits = self.config.address_bits
        block, place = Signal(bits), Signal(bits)
        at, first = Signal(bits + 1, init=1), Signal(init=1)  # at: words with the one that comes
        last_of_pass, ends = Signal(), Signal()
        m.d.comb += [
            last_of_pass.eq(at == self.setup.record_words),
            records.valid.eq(self.word_valid),
            records.word.eq(self.word),
            records.first.eq(first),
            ends.eq(self.checked | last_of_pass),
            records.last.eq(ends),
            records.init.eq(
                Cat(block, Const(0, 32 - bits), self.setup.image) if bits < 32 else Cat(block, self.setup.image)
            ),
        ]
        with m.If(self.word_valid):
            m.d.sync += [first.eq(ends), at.eq(Mux(last_of_pass, 1, at + 1))]
            m.d.sync += block.eq(Mux(last_of_pass, 0, block + ends))
        # The number of the block and whether it ends the pass go with its signature.
        ended = [Signal(name=f"pass_ends_{n}") for n in range(records.latency)]
        m.d.sync += ended[0].eq(self.word_valid & last_of_pass)
        for before, after in pairwise(ended):
            m.d.sync += after.eq(before)
        with m.If(records.done):
            m.d.sync += place.eq(Mux(ended[-1], 0, place + 1))
        good = records.done & ended[-1] & ~records.bad
        return self._count_passes(m, "record", good, spent), records.bad, place

    def _check_trits(self, m: Module, spent: Value) -> tuple[Value, Value, Value]:
        """The same of the beats of a resident machine: a pass is one block."""
        m.submodules.trits = trits = SignatureCheck(self.config.beat_bits)
        bits = self.config.address_bits
        at, first, last = Signal(bits, init=1), Signal(init=1), Signal()
        m.d.comb += [
            last.eq(at == self.setup.trit_beats),
            trits.valid.eq(self.beat_valid),
            trits.word.eq(self.beat),
            trits.first.eq(first),
            trits.last.eq(last),
            trits.init.eq(self.setup.trit_state),
        ]
        with m.If(self.beat_valid):
            m.d.sync += [first.eq(last), at.eq(Mux(last, 1, at + 1))]
        return self._count_passes(m, "trit", trits.done & ~trits.bad, spent), trits.bad, Const(0, 1)

    def _check_rows(self, m: Module) -> tuple[Value, Value]:
        """Rows without their check go on; one is not good; its token."""
        m.submodules.row = row = SignatureCheck(self.config.word_bits)
        at, token = Signal(16, init=1), Signal(16)
        is_check, last = at <= check_words(self.config), at == self.setup.embedding_row_words
        moved = self.i_row.valid & self.i_row.ready
        m.d.comb += [
            self.o_row.valid.eq(self.i_row.valid & ~is_check),
            self.o_row.payload.eq(self.i_row.payload),
            self.i_row.ready.eq(self.o_row.ready | is_check),
            row.valid.eq(moved),
            row.word.eq(self.i_row.payload),
            row.first.eq(at == 1),
            row.last.eq(last),
            row.init.eq(Cat(token, Const(0, 15), Const(1, 1), self.setup.image)),
        ]
        with m.If(moved):
            m.d.sync += at.eq(Mux(last, 1, at + 1))
        with m.If(self.asked):
            m.d.sync += token.eq(self.token)
        return row.bad, token

    def _note(self, m: Module, is_damaged: Signal, found: list[tuple[Damage, Value, Value]]) -> None:
        """Counts damage, and keeps the first since SETUP."""
        damage = Signal(DAMAGE_LAYOUT, reset_less=True)
        m.d.comb += self.damage.eq(damage)
        any_bad = Cat(bad for _, bad, _ in found).any()
        with m.If(any_bad & ~is_damaged):
            m.d.sync += [is_damaged.eq(1), damage.count.eq(damage.count + 1)]
            for kind, bad, place in reversed(found):
                with m.If(bad):
                    m.d.sync += [damage.kind.eq(kind), damage.place.eq(place)]
        with m.Elif(self.begins & ~is_damaged):  # what was found before SETUP
            m.d.sync += damage.kind.eq(Damage.NONE)

    def _gate(self, m: Module, spent: Signal, may_leave: Value) -> None:
        """Tokens leave while ``may_leave``."""
        i, o = self.i_token, self.o_token
        left, final = Signal(STREAM_BITS), Signal(STREAM_BITS)
        m.d.comb += [
            o.valid.eq(i.valid & may_leave),
            o.payload.eq(i.payload),
            i.ready.eq(o.ready & may_leave),
            spent.eq(o.valid & o.ready & (left == 0)),
        ]
        with m.If(self.begins):
            m.d.sync += [final.eq(self.final_stream), left.eq(self.final_stream)]
        with m.Elif(o.valid & o.ready):
            m.d.sync += left.eq(Mux(left == 0, final, left - 1))


__all__ = ["WeightCheck"]
