"""The link without a decoder: the host port, the image memory, and a stand-in for the decoder with predictable tokens.

    rx ─► host port ─► image memory ─► CHECKSUM
    tx ◄──────┴─────── stand-in: token' = (5 token + 3) mod vocab, or (5 token + 4) mod vocab directly after `fresh`

A token of any stream takes TOKEN_CYCLES cycles. Logit k of stream s is (k - 8) * (tokens so far) + s. Benches of the
link and tests of the simulated board use the stand-in. `model_tokens` and `model_logits` compute the expected answers.
"""

from collections.abc import Sequence

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.link import HostPort, Uart
from lutern.hw.memory import ResidentMemory
from lutern.hw.pipeline import join_streams

TOKEN_CYCLES = 10
SCALE_MANTISSA, SCALE_EXPONENT, SATURATIONS, WORDS = 0x1ABCD, -77, 0xC0DB, 0xDBC0  # the last two have bytes to escape


def model_tokens(feeds: Sequence[tuple[int, bool]], count: int, vocab: int) -> list[int]:
    """Return the tokens of a RUN, given the first token and `fresh` of each stream."""
    tokens: list[int] = []
    held = [token for token, _ in feeds]
    for step in range(count):
        held = [
            (5 * token + (4 if fresh and step == 0 else 3)) % vocab
            for token, (_, fresh) in zip(held, feeds, strict=True)
        ]
        tokens += held
    return tokens


def model_logits(of_stream: int, offset: int, count: int, tokens_so_far: int) -> list[int]:
    """Return the sums that LOGITS returns."""
    return [(k - 8) * tokens_so_far + of_stream for k in range(offset, offset + count)]


class Loopback(wiring.Component):
    """The host port, an image memory and the stand-in. Members: the byte streams `rx` and `tx`, and the taps `token`
    (every token), `write` (words to memory) and `sum` (signed)."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "tap_token_valid": Out(1),
                "tap_token_payload": Out(16),
                "tap_write_valid": Out(1),
                "tap_write_payload": Out(config.word_bits),
                "tap_sum_valid": Out(1),
                "tap_sum_payload": Out(signed(24)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.host = host = HostPort(self.config)
        m.submodules.memory = memory = ResidentMemory(self.config)
        join_streams(m, self.rx, host.i_rx)
        join_streams(m, host.o_tx, self.tx)
        join_streams(m, host.o_write, memory.i_write)
        join_streams(m, host.o_read, memory.i_read)
        join_streams(m, memory.o_read, host.i_read)
        m.d.comb += [memory.setup.eq(host.setup), memory.running.eq(host.running)]

        tokens = [Signal(16, name=f"token_{number}") for number in range(self.config.streams)]
        fresh = Signal(self.config.streams)
        left, of_stream, final = Signal(16), Signal(4), Signal(4)
        busy, timer, runs = Signal(), Signal(range(TOKEN_CYCLES)), Signal(16)
        following = Signal(16)
        feed, gives = host.o_feed.p, host.i_token.valid & host.i_token.ready
        m.d.comb += [
            host.o_feed.ready.eq(1),
            host.o_run.ready.eq(~busy),
            following.eq(
                (5 * Array(tokens)[of_stream] + Mux(fresh.bit_select(of_stream, 1), 4, 3))
                % Mux(host.setup.vocab == 0, 1, host.setup.vocab)
            ),
            host.i_token.valid.eq(busy & (timer == TOKEN_CYCLES - 1)),
            host.i_token.p.token.eq(following),
            host.i_token.p.last.eq((left == 1) & (of_stream == final)),
            host.status.cycles.eq(TOKEN_CYCLES),
            host.status.beats.eq(left),
            host.status.words.eq(WORDS),
            host.status.saturations.eq(SATURATIONS),
            host.scale.mantissa.eq(SCALE_MANTISSA),
            host.scale.exponent.eq(SCALE_EXPONENT),
        ]
        for number, token in enumerate(tokens):
            with m.If(host.o_feed.valid & (feed.stream == number)):
                m.d.sync += [token.eq(feed.token), fresh[number].eq(feed.fresh)]
            with m.If(gives & (of_stream == number)):
                m.d.sync += [token.eq(following), fresh[number].eq(0)]
        with m.If(host.o_run.valid & host.o_run.ready):
            m.d.sync += [
                busy.eq(1),
                timer.eq(0),
                of_stream.eq(0),
                left.eq(host.o_run.p.count),
                final.eq(host.o_run.p.final_stream),
            ]
        with m.Elif(busy & (timer != TOKEN_CYCLES - 1)):
            m.d.sync += timer.eq(timer + 1)
        with m.Elif(gives):
            m.d.sync += [timer.eq(0), of_stream.eq(of_stream + 1), runs.eq(runs + 1)]
            with m.If(of_stream == final):
                m.d.sync += [of_stream.eq(0), left.eq(left - 1), busy.eq(left != 1)]

        total = Signal(signed(24))
        m.d.comb += total.eq((host.logits_address - 8) * runs)
        m.d.sync += host.logits_data.eq(total + host.logits_stream)
        m.d.comb += [
            self.tap_token_valid.eq(gives),
            self.tap_token_payload.eq(following),
            self.tap_write_valid.eq(host.o_write.valid & host.o_write.ready),
            self.tap_write_payload.eq(host.o_write.p.word),
            self.tap_sum_valid.eq(gives),
            self.tap_sum_payload.eq(total - 1),
        ]
        return m


class SerialLoopback(wiring.Component):
    """``Loopback`` with a serial line, as in ``hw.top.SerialTop``: pins `rx` and `tx`, ``divisor`` cycles
    for each bit."""

    def __init__(self, config: HwConfig, divisor: int) -> None:
        self.config, self.divisor = config, divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})  # type: ignore[call-arg]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.uart = uart = Uart(self.divisor)
        m.submodules.loopback = loopback = Loopback(self.config)
        join_streams(m, uart.o, loopback.rx)
        join_streams(m, loopback.tx, uart.i)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx)]
        return m
