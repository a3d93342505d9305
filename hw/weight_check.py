"""The check of the weights. A token leaves only if the signatures of all words from which it was computed are right.

    memory ── o_words ─────────────► decoder      each block of records has a signature
           ── o_row ─► (check) ────► decoder      the first words of a row are its check, and are removed
           ── o_trits ─────────────► decoder      resident: all beats of a pass have one signature
    host ◄─────── gate ◄── o_token ─ decoder      the tokens of a step wait for the check of their pass

A pass is good if each of its words was in a block with the right signature, so a damaged header cannot hide words.
After the first damage no token leaves until the next SETUP, and the host can read the number of the block, or the token
of the row. Until the next SETUP the decoder is in reset. This reset does not change ``damage``.

Cost: the LUTs of the signatures (hw/signature.py), and 130 more LUT4 on a resident machine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutern.hw.config import HwConfig
from lutern.hw.layouts import check_words, most_blocks, most_row_words
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import DAMAGE_LAYOUT, SETUP_LAYOUT, STREAM_BITS, TOKEN_LAYOUT, Damage
from lutern.hw.signature import SignatureCheck, WordCheck
from lutern.model_ref.signature import BLOCK_MARK, PLACE_BITS, PLACE_SHIFT, ROW_MARK, STATE_BITS, slices_of

PASSES_AHEAD = 4
"""Largest number of passes that can be read before their tokens have left. The machine never reads so many passes. The
queues of operations (``sequencer.QUEUE_DEPTH``) hold less than one pass, because a pass has at least nine operations. A
beat is taken only when its codes are written, and these codes depend on the previous token. If more passes were read,
tokens would wait until the step limit ends the run."""
COUNT_BITS = 8


class WeightCheck(wiring.Component):
    """Checks all words that the decoder takes, and holds tokens back until the words are checked.

    Parameters
    ----------
    config : HwConfig
        ``source``, ``word_bits``, ``beat_bits``, ``cells``, and the limits of the machine.

    Members
    -------
    setup : ``protocol.SETUP_LAYOUT``, input
        Lengths of the record stream, the row and the trits, and the image number.
    word_valid : 1 bit, input
        The decoder takes ``word`` in this cycle.
    word : ``word_bits`` bits, input
        A word of the record stream.
    checked : 1 bit, input
        ``word`` ends a block.
    beat_valid : 1 bit, input, source "resident"
        The decoder takes ``beat`` in this cycle.
    beat : ``beat_bits`` bits, input, source "resident"
        A beat of trits.
    asked : 1 bit, input
        The row of ``token`` is requested, at the earliest two cycles after the last word of the previous row.
    token : 16 bits, input
        The token of the row.
    i_row : stream of ``word_bits`` bits, input
        Words of rows from the memory.
    o_row : stream of ``word_bits`` bits, output
        The words of ``i_row`` except the words of the check.
    begins : 1 bit, input
        A run begins.
    final_stream : 4 bits, input
        N - 1 for a run of N streams, valid with ``begins``.
    i_token : stream of ``protocol.TOKEN_LAYOUT``, input
        Tokens from the decoder.
    o_token : stream of ``protocol.TOKEN_LAYOUT``, output
        The same tokens for the host. A token leaves when all words of its pass are found right.
    damage : ``protocol.DAMAGE_LAYOUT``, output
        ``count`` is how often damage was found since power-up, modulo 2^``COUNT_BITS``. ``kind`` and ``place`` describe
        the first damage since SETUP, and are valid from the first run after SETUP on.

    Numerics
    --------
    Signatures are computed as in ``model_ref.signature``.

    Latency
    -------
    0 cycles for rows and tokens. The tokens of a step leave at the earliest 4 cycles after the last word of their pass
    is taken, or after the last beat of trits; 5 cycles after a beat that is reduced to sums first.

    Reference
    ---------
    ``model_ref.signature``.
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

    def _of_words(self, m: Module, name: str) -> Any:
        """Add the check of words of records or rows."""
        block = WordCheck if slices_of(self.config.word_bits) > 1 else SignatureCheck
        m.submodules[name] = check = block(self.config.word_bits, cells=self.config.cells == "ecp5")
        return check

    def _count_passes(self, m: Module, name: str, good: Value, spent: Value) -> Value:
        """Count in unary the good passes whose tokens have not left. Return whether there is such a pass."""
        left = Signal(PASSES_AHEAD, name=f"{name}_passes")
        with m.If(good & ~spent):
            m.d.sync += left.eq(Cat(1, left))
        with m.Elif(~good & spent):
            m.d.sync += left.eq(left[1:])
        return left[0]

    def _wanted(self, place: Value, mark: int) -> Value:
        """Return ``signature.last_state`` of a block or row of this image."""
        return self.setup.image ^ place << PLACE_SHIFT ^ Const(mark, STATE_BITS)

    def _check_records(self, m: Module, spent: Value) -> tuple[Value, Value, Value]:
        """Check the record stream. Return whether a good pass was read, whether a block is bad, and the number of the
        block."""
        records = self._of_words(m, "records")
        limit = (1 << 32) - 1 if self.config.memory == "host" else self.config.memory_words
        at = Signal(bits_for(limit), init=1)  # number of the next word, from 1 on
        place = Signal(min(PLACE_BITS, bits_for(most_blocks(self.config, limit))))
        last_of_pass = Signal()
        m.d.comb += [
            last_of_pass.eq(at == self.setup.record_words[: len(at)]),
            records.valid.eq(self.word_valid),
            records.word.eq(self.word),
            records.last.eq(self.checked | last_of_pass),
            records.wanted.eq(self._wanted(place, BLOCK_MARK)),
        ]
        _count(m, at, self.word_valid, last_of_pass)
        # The flag that a block ends the pass has the same delay as the signature of the block.
        ended = [Signal(name=f"pass_ends_{n}") for n in range(records.latency)]
        m.d.sync += ended[0].eq(self.word_valid & last_of_pass)
        for before, after in pairwise(ended):
            m.d.sync += after.eq(before)
        with m.If(records.done):
            m.d.sync += place.eq(Mux(ended[-1], 0, place + 1))
        good = records.done & ended[-1] & ~records.bad
        return self._count_passes(m, "record", good, spent), records.bad, place

    def _check_trits(self, m: Module, spent: Value) -> tuple[Value, Value, Value]:
        """Check the beats of a resident machine, where all beats of a pass are one block. Return values like
        `_check_records`."""
        m.submodules.trits = trits = SignatureCheck(self.config.beat_bits, cells=self.config.cells == "ecp5")
        at, last = Signal(bits_for(self.config.trit_beats), init=1), Signal()
        m.d.comb += [
            last.eq(at == self.setup.trit_beats[: len(at)]),
            trits.valid.eq(self.beat_valid),
            trits.word.eq(self.beat),
            trits.last.eq(last),
            trits.wanted.eq(self.setup.trit_state),
        ]
        _count(m, at, self.beat_valid, last)
        return self._count_passes(m, "trit", trits.done & ~trits.bad, spent), trits.bad, Const(0, 1)

    def _check_rows(self, m: Module) -> tuple[Value, Value]:
        """Pass the words of rows on, except the words of their check. Return whether a row is bad, and the token of the
        row."""
        row = self._of_words(m, "row")
        at = Signal(bits_for(most_row_words(self.config)), init=1)
        token = Signal(range(self.config.max_vocab))
        is_check, last = ~exceeds(at, check_words(self.config)), Signal()
        moved = self.i_row.valid & self.i_row.ready
        m.d.comb += [
            last.eq(at == self.setup.embedding_row_words[: len(at)]),
            self.o_row.valid.eq(self.i_row.valid & ~is_check),
            self.o_row.payload.eq(self.i_row.payload),
            self.i_row.ready.eq(self.o_row.ready | is_check),
            row.valid.eq(moved),
            row.word.eq(self.i_row.payload),
            row.last.eq(last),
            row.wanted.eq(self._wanted(token, ROW_MARK)),
        ]
        _count(m, at, moved, last)
        asked, chosen = self.asked, self.token[: len(token)]
        if self.config.streams > 1:  # the next row may be requested one cycle before this row is judged
            asked, chosen = Signal(name="row_asked"), Signal.like(token, name="chosen_token")
            m.d.sync += [asked.eq(self.asked), chosen.eq(self.token)]
        with m.If(asked):
            m.d.sync += token.eq(chosen)
        return row.bad, token

    def _note(self, m: Module, is_damaged: Signal, found: list[tuple[Damage, Value, Value]]) -> None:
        """Count the damage, and store the first damage since SETUP."""
        count = Signal(COUNT_BITS, name="damage_count", reset_less=True)
        kind = Signal(Damage, name="damage_kind", reset_less=True)
        place = Signal(max(len(place) for *_, place in found), name="damage_place", reset_less=True)
        m.d.comb += [self.damage.count.eq(count), self.damage.kind.eq(kind), self.damage.place.eq(place)]
        any_bad = Cat(bad for _, bad, _ in found).any()
        with m.If(any_bad & ~is_damaged):
            m.d.sync += [is_damaged.eq(1), count.eq(count + 1)]
            for its_kind, bad, its_place in reversed(found):
                with m.If(bad):
                    m.d.sync += [kind.eq(its_kind), place.eq(its_place)]
        with m.Elif(self.begins & ~is_damaged):  # clear all faults from before SETUP
            m.d.sync += kind.eq(Damage.NONE)

    def _gate(self, m: Module, spent: Signal, may_leave: Value) -> None:
        """Let tokens leave while ``may_leave`` is 1."""
        i, o = self.i_token, self.o_token
        left, final = (Signal(range(self.config.streams), name=name) for name in ("streams_left", "streams_of_run"))
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


def _count(m: Module, at: Signal, valid: Value, last: Value) -> None:
    """Count words from 1 to the last word. In this form the restart is a reset of the flip-flops and takes no LUT."""
    with m.If(valid & last):
        m.d.sync += at.eq(1)
    with m.Elif(valid):
        m.d.sync += at.eq(at + 1)


__all__ = ["WeightCheck"]
