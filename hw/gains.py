"""`GainSupply` unpacks words of gains to groups ahead of time. `GainJoin` joins the groups with vectors.

    words ─► FIFO ─► unpacker ─► FIFO of groups ─► GainJoin ─► norm
                        ▲                          ▲   └─► ring ─► streams 1 to N - 1
                        │                          └── x of mlgru, glu, residual
                        └── operations: number of groups, number of items of each element

At the end of a matrix, P results appear in every cycle, but a group may take several words. Groups are therefore
unpacked ahead of time into a FIFO. Gains and bounds are read from the record stream once, and are used for all N
vectors. This file decodes only the bounds (``bound_value``). ``hw/norm/statistics.py`` decodes the gains.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, GAINS_OP, ITEM, ITEM_BITS, SUPPLY_OP, TUPLE_GAINS, gathered_payload, x_payload
from lutern.hw.pipeline import join_streams, new_memory
from lutern.hw.router import GroupUnpacker
from lutern.model_ref.norm import GAIN_LOW_BITS

GROUP = "group"
GAIN_TUPLES = (1, 2, TUPLE_GAINS)
PART_BITS = 128
"""Number of bits of a group that share one FIFO. A wider group is divided among several FIFOs. Each of these FIFOs has
a separate fill level and separate enables."""


class GainSupply(wiring.Component):
    """Supplies the groups of every operation that uses gains or bounds, in order.

    Parameters
    ----------
    config : HwConfig
        ``word_bits``, ``results_per_cycle`` (P), ``gain_fifo_words``, ``gain_fifo_groups``.

    Members
    -------
    i_op : stream of ``layouts.SUPPLY_OP``, input
        The number of groups of each operation, and the number of items of each element.
    i : stream of ``word_bits`` bits, input
        Words of gains.
    o : stream of groups of P x 4 x 16 bits, output
        Groups of P elements with 1, 2 or 4 items per element. Unused upper bits are undefined.

    Numerics
    --------
    None.

    Latency
    -------
    A group that enters an empty supply leaves 4 cycles after its last word. A group leaves in every cycle if the words
    arrive fast enough.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.group = StructLayout({GROUP: config.results_per_cycle * TUPLE_GAINS * ITEM_BITS})
        super().__init__(
            {
                "i_op": In(stream.Signature(SUPPLY_OP)),
                "i": In(stream.Signature(config.word_bits)),
                "o": Out(stream.Signature(self.group)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, op = self.config, self.i_op.payload
        m.submodules.words = words = SyncFIFOBuffered(width=config.word_bits, depth=config.gain_fifo_words)
        m.submodules.unpacker = unpacker = GroupUnpacker(config, GAIN_TUPLES)
        join_streams(m, self.i, words.w_stream)
        join_streams(m, words.r_stream, unpacker.i)
        # As ``w_rdy`` of the FIFOs, but a register, because the path to the words is long. A FIFO of two groups has no
        # room while its first group moves to its output, so ``HwConfig`` asks for three.
        room = Signal(init=1)
        held = Signal(range(config.gain_fifo_groups + 1))  # groups in each FIFO
        number, last = Signal(16, init=1), Signal()  # number: the group that is taken next, from 1 on
        taken = unpacker.o.valid & room
        next_held = (held + taken - (self.o.valid & self.o.ready))[: len(held)]
        for first in range(0, self.group.size, PART_BITS):  # all FIFOs hold the same number of groups
            part = slice(first, min(first + PART_BITS, self.group.size))
            groups = SyncFIFOBuffered(width=part.stop - first, depth=config.gain_fifo_groups)
            m.submodules[f"groups_{first}"] = groups
            m.d.comb += [
                groups.w_en.eq(taken),
                groups.w_data.eq(unpacker.o.payload.group[part]),
                self.o.payload.group[part].eq(groups.r_data),
                groups.r_en.eq(self.o.ready),
            ]
        m.d.comb += [
            unpacker.items.eq(Mux(self.i_op.valid, op.items, 0)),
            unpacker.flush.eq(last),
            unpacker.o.ready.eq(room),
            self.i_op.ready.eq(taken & last),
            self.o.valid.eq(groups.r_rdy),
        ]
        # ``last`` is computed one cycle early, except in the cycle after an operation's last group. No group is taken
        # in this cycle.
        m.d.sync += last.eq(Mux(taken, number + 1 == op.groups, number == op.groups))
        m.d.sync += [held.eq(next_held), room.eq(next_held != config.gain_fifo_groups)]
        with m.If(taken):
            m.d.sync += number.eq(Mux(last, 1, number + 1))
        return m


def bound_value(item: Value) -> Value:
    """Return the value 1 - LB of an item.

    Parameters
    ----------
    item : Value
        16 bits of ``layouts.ITEM``. The mantissa must not be negative.

    Returns
    -------
    Value
        The exact value in the format 0.17. The result is combinational.
    """
    parts = ITEM(item)
    mantissa = parts.mantissa.as_unsigned()[: BOUND_BITS - GAIN_LOW_BITS]
    return Cat(Const(0, GAIN_LOW_BITS), mantissa) >> parts.exponent


class GainJoin(wiring.Component):
    """Joins vectors with their gains, and sums of F with their bounds.

    Stream 0 takes groups from the supply. A ring stores each group at its index for streams 1 to ``final_stream``. The
    ring is read one beat ahead. A machine of one stream has no ring.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) elements per beat, ``streams`` (T), ``max_width``.

    Members
    -------
    i_op : stream of ``layouts.GAINS_OP``, input
        The operations that use gains or bounds, in order.
    i_group : stream of groups of P x 4 x 16 bits, input
        The groups of these operations, sent once for all streams.
    i_x : stream of ``layouts.x_payload``, input
        The vectors.
    final_stream : ``stream_bits`` bits, input
        N - 1 for a run of N streams.
    o : stream of ``layouts.gathered_payload``, output
        Elements with their gains, for the norm. Gains that an operation does not have are undefined.
    o_bounds : stream of groups of P x 17 bits, output
        Values 1 - LB for the rows of F.
    bounds_stream : ``stream_bits`` bits, input
        The stream of the beat of sums that waits for bounds. While no beat waits, the value does not matter.
    bounds_index : ``index_bits`` bits, input
        The index of the beat of sums that waits for bounds.
    bounds_last : 1 bit, input
        The beat of sums that waits for bounds is the last beat of its stream.

    Numerics
    --------
    ``bound_value`` is exact. Gains pass unchanged.

    Latency
    -------
    0 cycles. In streams 1 to ``final_stream`` the first beat of a block waits 1 cycle for the ring. One idle cycle
    separates two operations, because a register for the end of an operation cuts the critical path to the queue of
    operations.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(GAINS_OP)),
                "i_group": In(stream.Signature(StructLayout({GROUP: lanes * TUPLE_GAINS * ITEM_BITS}))),
                "i_x": In(stream.Signature(x_payload(config))),
                "final_stream": In(config.stream_bits),
                "o": Out(stream.Signature(gathered_payload(config))),
                "o_bounds": Out(stream.Signature(StructLayout({GROUP: lanes * BOUND_BITS}))),
                "bounds_stream": In(config.stream_bits),
                "bounds_index": In(config.index_bits),
                "bounds_last": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        several = self.config.streams > 1
        op, o, x = self.i_op.payload, self.o.payload, self.i_x.payload

        # the beat that needs a group, of gains or of bounds
        stream_ = Mux(op.bounds, self.bounds_stream, x.stream)
        last = Mux(op.bounds, self.bounds_last, x.last)
        wanted, taken, first, valid = Signal(), Signal(), Signal(), Signal()
        active, done = Signal(), Signal()  # done: the last group was taken in the previous cycle
        m.d.comb += [
            active.eq(self.i_op.valid & ~done),
            wanted.eq(active & Mux(op.bounds, self.o_bounds.ready, self.i_x.valid & self.o.ready)),
            first.eq(stream_ == 0 if several else 1),
            taken.eq(wanted & valid),
            self.i_group.ready.eq(wanted & first),
            self.i_op.ready.eq(done),
        ]
        m.d.sync += done.eq(taken & last & (stream_ == self.final_stream if several else 1))
        lanes, fresh = self.config.results_per_cycle, self.i_group.payload.group
        gains: Value = Signal(lanes * TUPLE_GAINS * ITEM_BITS)
        bounds: Value = Cat(*[bound_value(fresh.word_select(lane, ITEM_BITS)) for lane in range(lanes)])
        one, two = op.outer + op.matrices == 1, op.outer + op.matrices == 2
        for lane in range(lanes):  # items that an operation does not have are undefined
            alone, pair, whole = (fresh.word_select(lane, items * ITEM_BITS) for items in GAIN_TUPLES)
            w1, g = (Mux(two, pair.word_select(k, ITEM_BITS), whole.word_select(k, ITEM_BITS)) for k in (0, 1))
            given = Cat(w1, Mux(one, alone, g), whole[2 * ITEM_BITS :])  # without w1, the only G is item 1
            m.d.comb += gains.word_select(lane, TUPLE_GAINS * ITEM_BITS).eq(given)
        if several:
            index = Mux(op.bounds, self.bounds_index, x.index)
            gains = self._ring(m, Mux(op.bounds, bounds, gains), index, first, taken, valid)
            bounds = gains[: len(bounds)]
            m.d.comb += o.stream.eq(x.stream)
        else:
            m.d.comb += valid.eq(self.i_group.valid)
        m.d.comb += [
            o.x.eq(x.x),
            o.gains.eq(gains),
            o.index.eq(x.index),
            o.last.eq(x.last),
            o.outer.eq(op.outer),
            o.matrices.eq(op.matrices),
            self.o.valid.eq(active & ~op.bounds & valid & self.i_x.valid),
            self.i_x.ready.eq(active & ~op.bounds & valid & self.o.ready),
            self.o_bounds.valid.eq(active & op.bounds & valid),
            self.o_bounds.payload.group.eq(bounds),
        ]
        return m

    def _ring(self, m: Module, fresh: Value, index: Value, first: Signal, taken: Signal, valid: Signal) -> Value:
        """Return the group of the beat ``index``, from the supply or the ring. ``valid`` is 1 when the group is
        available.

        ``at`` is the index of the group that was read from the ring. ``at`` is valid if a group was read since the last
        write of stream 0. In each cycle the ring is either read or written. The memory and the register at its output
        therefore become block RAM, without logic for reading a word that is being written.
        """
        config = self.config
        memory = new_memory(len(fresh), -(-config.max_width // config.results_per_cycle))
        m.submodules.ring = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        held = Signal(len(fresh), reset_less=True)
        some, here = Signal(), Signal()
        at, following = Signal(config.index_bits + 1), Signal(config.index_bits + 1)  # the extra bit avoids a wrap to 0
        m.d.comb += [
            here.eq(some & (at == index)),
            following.eq(Mux(here, index + 1, index)),
            read.addr.eq(following),
            write.addr.eq(index),
            write.data.eq(fresh),
            write.en.eq(first & taken),
            valid.eq(Mux(first, self.i_group.valid, here)),
        ]
        with m.If(~first & (~here | taken)):
            m.d.sync += [held.eq(read.data), at.eq(following), some.eq(1)]
        with m.Elif(write.en):
            m.d.sync += some.eq(0)
        return Mux(first, fresh, held)
