"""The DMA of the state moves S, layer by layer, between the memory of words and the window of the MLGRU.

    memory of words ─► i_word ─► word █─► window (P elements per place, every stream) ─┐   before I of a layer: load
                                                                                       │
    memory of words ◄─ o_request ◄─ word █◄──────────────────────────────────────────┘   after I of this layer: save

    begin of a run ─► load layer 0 ─► I writes the window ─► save ─► load layer 1 ─► ...   after the last layer: layer 0
                                          and G reads it ──────────────▲                   of the next step, if any

I and G are the operations of i_proj and g_proj (``layouts.Op``). The window stores S of one layer. This S is saved
while G runs, and S of the next layer is loaded from the end of G on. The load may take as long as all matrices between
G and the next I. If the load takes longer, this I stalls at the input of the MLGRU.

    first word of (stream t, layer l) = state_base + base(t) + l * state_words

A *unit* is a word or a place, whichever is larger. A unit consists of B places and of K words, and one of the numbers B
and K is 1. A unit takes K + B cycles to load and K + B + 1 cycles to save, if neither the memory nor G stalls the DMA.

Cost with eight streams and words of 32 bits (stream-x32): 362 LUT4, 51 CCU2C and 123 flip-flops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import STATE_BITS
from lutern.hw.memory import state_request_layout
from lutern.hw.pipeline import place_at, place_bits


def unit_shape(config: HwConfig) -> tuple[int, int]:
    """Return the number of places in a word (B) and the number of words in a place (K) of the window. One of the two is
    1."""
    place = config.results_per_cycle * STATE_BITS
    return max(1, config.word_bits // place), max(1, place // config.word_bits)


def window_signature(config: HwConfig) -> wiring.Signature:
    """Return the signature of the window that ``StateDma`` drives.

    Parameters
    ----------
    config : HwConfig
        A place has ``results_per_cycle`` (P) elements.

    Members
    -------
    loaded : 1 bit, output
        The S of the next layer is in the window.
    written : 1 bit, input
        Pulses for one cycle when the last new S of the layer has been written.
    used : 1 bit, input
        Pulses for one cycle when G has read the last S of the layer.
    place : ``place_bits(config)`` bits, output
        The place that is read or written.
    granted : 1 bit, input
        ``place`` is read in this cycle.
    data : P values of 32 bits, input
        The contents of ``place``, one cycle after ``granted``.
    fill : 1 bit, output
        Writes ``fill_data`` to ``place``.
    fill_data : P values of 32 bits, output
        The contents to write.
    """
    bits = config.results_per_cycle * STATE_BITS
    return wiring.Signature(
        {
            "loaded": Out(1),
            "written": In(1),
            "used": In(1),
            "place": Out(place_bits(config)),
            "granted": In(1),
            "data": In(bits),
            "fill": Out(1),
            "fill_data": Out(bits),
        }
    )


class StateDma(wiring.Component):
    """Loads and saves S of machines whose ``state`` is "memory".

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P), ``streams`` (T), ``word_bits``, ``address_bits``.

    Members
    -------
    window : ``window_signature``, output
        The window in the MLGRU.
    o_request : stream of ``memory.state_request_layout``, output
        Writes and reads of the memory of words, in order.
    i_word : stream of ``word_bits`` bits, input
        The words that were read, in order.
    state_base : ``address_bits`` bits, input
        First word of all states. ``state_base``, ``state_words`` and ``layers`` are constant during a run.
    state_words : 16 bits, input
        Number of words of one layer's S of one stream.
    layers : 16 bits, input
        Number of layers of the model.
    bases : T values of ``address_bits`` bits, input
        The start of each stream's state, in words from ``state_base``. ``bases``, ``final_stream`` and ``chained`` are
        constant from the cycle after ``begins`` on.
    final_stream : ``stream_bits`` bits, input
        The number of the run's last stream.
    chained : 1 bit, input
        All streams are one conversation, so only stream 0 is loaded, and only the last stream is saved.
    begins : 1 bit, input
        A run begins.
    goes_on : 1 bit, input
        Another step follows the present step. ``goes_on`` is read when the last layer is done.
    idle : 1 bit, output
        No layer is being saved, loaded or requested. ``idle`` is 1 between runs.

    Numerics
    --------
    The DMA copies bits and computes nothing. In the last word of a vector, the bits beyond the vector are undefined.

    Latency
    -------
    - 2 cycles from ``begins`` to the first request.
    - 3 cycles from ``window.used`` of a saved layer to the next request.
    - B + 1 cycles from the last word of a stream to ``loaded``, or B + 2 cycles to the request of the next stream.
    - B + 3 cycles from ``window.written``, or from the last write of a stream, to the next write.

    Reference
    ---------
    ``model``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "window": Out(window_signature(config)),
                "o_request": Out(stream.Signature(state_request_layout(config))),
                "i_word": In(stream.Signature(config.word_bits)),
                "state_base": In(config.address_bits),
                "state_words": In(16),
                "layers": In(16),
                "bases": In(config.streams * config.address_bits),
                "final_stream": In(config.stream_bits),
                "chained": In(1),
                "begins": In(1),
                "goes_on": In(1),
                "idle": Out(1),
            }
        )

    @staticmethod
    def model(
        state_base: int, state_words: int, layers: int, bases: Sequence[int], steps: int, *, chained: bool = False
    ) -> Iterator[tuple[bool, int]]:
        """Yield for each request of a run whether the request is a write, and the address of the request. A read
        requests ``state_words`` words.

        Parameters
        ----------
        state_base, state_words, layers, bases, chained
            As the members of the same names.
        steps
            Number of steps of the run.
        """
        streams = range(len(bases))
        loaded, saved = (streams[:1], streams[-1:]) if chained else (streams, streams)
        for _ in range(steps):
            for layer in range(layers):
                first = state_base + layer * state_words
                yield from ((False, first + bases[t]) for t in loaded)
                yield from ((True, first + bases[t] + word) for t in saved for word in range(state_words))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, window = self.config, self.window
        places, words = unit_shape(config)
        place_width, word_bits = config.results_per_cycle * STATE_BITS, config.word_bits
        unit = Signal(max(word_bits, place_width), reset_less=True)
        part = Signal(range(max(places, words) + 1))  # words or places of the unit that have been moved
        asked = Signal()  # a place was read in the previous cycle, and arrives now
        index, of_stream = Signal(config.index_bits), Signal(config.stream_bits)
        left = Signal(16)  # words of the stream's vector that are not moved yet
        layer, layer_base, address = Signal(16), Signal(config.address_bits), Signal(config.address_bits)
        saves, used = Signal(), Signal()
        request, last_stream = self.o_request.payload, Signal()
        m.d.comb += [
            window.place.eq(place_at(config, index, of_stream)),
            window.fill_data.eq(unit[:place_width]),
            request.address.eq(address),
            request.write.eq(saves),
            request.payload.eq(Mux(saves, unit[:word_bits], self.state_words)),
            last_stream.eq((of_stream == self.final_stream) | (self.chained & ~saves)),
        ]
        m.d.sync += asked.eq(0)
        with m.If(window.used):
            m.d.sync += used.eq(1)

        def end_stream(after_all: str) -> None:
            m.next = "ADDRESS"
            m.d.sync += of_stream.eq(of_stream + 1)
            with m.If(last_stream):
                m.d.sync += of_stream.eq(0)
                m.next = after_all

        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [layer.eq(0), layer_base.eq(self.state_base), saves.eq(0)]
                with m.If(self.begins):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += [
                    address.eq(layer_base + self.bases.word_select(of_stream, config.address_bits)),
                    left.eq(self.state_words),
                    index.eq(0),
                    part.eq(0),
                ]
                m.next = "REQUEST"
                with m.If(saves):
                    m.next = "GATHER"
            self._add_load_states(m, unit, part, index, left, end_stream)
            with m.State("LOADED"):
                m.d.comb += window.loaded.eq(1)
                with m.If(window.written):
                    m.d.sync += [saves.eq(1), of_stream.eq(Mux(self.chained, self.final_stream, 0))]
                    m.next = "ADDRESS"
            self._add_save_states(m, unit, part, index, left, address, asked, end_stream)
            with m.State("SAVED"):
                with m.If(used):
                    m.d.sync += [
                        used.eq(0),
                        saves.eq(0),
                        layer.eq(layer + 1),
                        layer_base.eq(layer_base + self.state_words),
                    ]
                    m.next = "ADDRESS"
                    with m.If(layer + 1 == self.layers):
                        m.d.sync += [layer.eq(0), layer_base.eq(self.state_base)]
                        with m.If(~self.goes_on):
                            m.next = "IDLE"
        return m

    def _add_load_states(
        self, m: Module, unit: Signal, part: Signal, index: Signal, left: Signal, end_stream: Callable[[str], None]
    ) -> None:
        """Add the states that load the words of each stream, unit by unit, into the window. The next state is
        LOADED."""
        places, words = unit_shape(self.config)
        place_width, window = self.config.results_per_cycle * STATE_BITS, self.window
        with m.State("REQUEST"):
            m.d.comb += self.o_request.valid.eq(1)
            with m.If(self.o_request.ready):
                m.next = "RECEIVE"
        with m.State("RECEIVE"):
            m.d.comb += self.i_word.ready.eq(1)
            with m.If(self.i_word.valid):
                m.d.sync += [_shift_in(unit, self.i_word.payload), part.eq(part + 1), left.eq(left - 1)]
                with m.If(part == words - 1):
                    m.d.sync += part.eq(0)
                    m.next = "FILL"
        with m.State("FILL"):
            m.d.comb += window.fill.eq(1)
            m.d.sync += [unit.eq(unit >> place_width), part.eq(part + 1), index.eq(index + 1)]
            with m.If(part == places - 1):
                m.d.sync += part.eq(0)
                m.next = "RECEIVE"
                with m.If(left == 0):
                    end_stream("LOADED")

    def _add_save_states(
        self,
        m: Module,
        unit: Signal,
        part: Signal,
        index: Signal,
        left: Signal,
        address: Signal,
        asked: Signal,
        end_stream: Callable[[str], None],
    ) -> None:
        """Add the states that save the places of each stream, unit by unit, to the memory. The next state is SAVED."""
        places, words = unit_shape(self.config)
        window, word_bits = self.window, self.config.word_bits
        with m.State("GATHER"):
            with m.If(window.granted & (part != places)):
                m.d.sync += [asked.eq(1), part.eq(part + 1), index.eq(index + 1)]
            with m.If(asked):
                m.d.sync += _shift_in(unit, window.data)
                with m.If(part == places):
                    m.d.sync += part.eq(0)
                    m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += self.o_request.valid.eq(1)
            with m.If(self.o_request.ready):
                m.d.sync += [unit.eq(unit >> word_bits), part.eq(part + 1), left.eq(left - 1), address.eq(address + 1)]
                with m.If(part == words - 1):
                    m.d.sync += part.eq(0)
                    m.next = "GATHER"
                    with m.If(left == 1):
                        end_stream("SAVED")


def _shift_in(unit: Signal, part: Value) -> Any:
    """Shift ``part`` into the top of the unit, so that after several shifts the first ``part`` is at the bottom."""
    return unit.eq(Cat(unit[len(part) :], part))


__all__ = ["StateDma", "unit_shape", "window_signature"]
