"""The link without a decoder behind it: host port, image memory, and a stand-in whose tokens are easy to foretell.

    rx ─► host port ─► image memory ─► CHECKSUM
    tx ◄──────┴─────── stand-in: token' = (5 token + 3) mod vocab, or (5 token + 4) right after `fresh`

Each token takes TOKEN_CYCLES cycles; logit k is (k - 8) * (number of tokens so far). For benches of the link and of the
simulated board; `model_tokens` and `model_logits` say what must come.
"""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.host_port import HostPort
from lutern.hw.memory import ImageMemory

TOKEN_CYCLES = 10
SCALE_MANTISSA, SCALE_EXPONENT, SATURATIONS = 0x1ABCD, -77, 0xC0DB  # the last one needs escaping


def model_tokens(token: int, count: int, fresh: bool, vocab: int) -> list[int]:
    """The tokens of a RUN."""
    tokens = []
    for index in range(count):
        token = (5 * token + (4 if fresh and index == 0 else 3)) % vocab
        tokens.append(token)
    return tokens


def model_logits(offset: int, count: int, tokens_so_far: int) -> list[int]:
    """The sums of a LOGITS."""
    return [(k - 8) * tokens_so_far for k in range(offset, offset + count)]


class Loopback(wiring.Component):
    """Members: `rx`, `tx` bytes; taps `token` (each one), `write` (words to memory) and `sum` (signed)."""

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
        m.submodules.memory = memory = ImageMemory(self.config)
        wiring.connect(m, wiring.flipped(self.rx), host.i_rx)
        wiring.connect(m, wiring.flipped(self.tx), host.o_tx)
        wiring.connect(m, host.o_write, memory.i_write)
        wiring.connect(m, host.o_read, memory.i_read)
        wiring.connect(m, memory.o_read, host.i_read)
        m.d.comb += memory.setup.eq(host.setup)

        token, left, plus = Signal(16), Signal(16), Signal(3)
        busy, timer, runs = Signal(), Signal(range(TOKEN_CYCLES)), Signal(16)
        following = Signal(16)
        m.d.comb += [
            host.o_run.ready.eq(~busy),
            following.eq((5 * token + plus) % Mux(host.setup.vocab == 0, 1, host.setup.vocab)),
            host.i_token.valid.eq(busy & (timer == TOKEN_CYCLES - 1)),
            host.i_token.p.token.eq(following),
            host.i_token.p.last.eq(left == 1),
            host.status.cycles.eq(TOKEN_CYCLES),
            host.status.beats.eq(left),
            host.status.scale_mantissa.eq(SCALE_MANTISSA),
            host.status.scale_exponent.eq(SCALE_EXPONENT),
            host.status.saturations.eq(SATURATIONS),
        ]
        with m.If(host.o_run.valid & host.o_run.ready):
            m.d.sync += [
                busy.eq(1),
                timer.eq(0),
                token.eq(host.o_run.p.token),
                left.eq(host.o_run.p.count),
                plus.eq(Mux(host.o_run.p.fresh, 4, 3)),
            ]
        with m.Elif(busy & (timer != TOKEN_CYCLES - 1)):
            m.d.sync += timer.eq(timer + 1)
        with m.Elif(host.i_token.valid & host.i_token.ready):
            m.d.sync += [timer.eq(0), token.eq(following), left.eq(left - 1), plus.eq(3), runs.eq(runs + 1)]
            with m.If(left == 1):
                m.d.sync += busy.eq(0)

        total = Signal(signed(24))
        m.d.comb += total.eq((host.logits_address - 8) * runs)
        m.d.sync += host.logits_data.eq(total)
        m.d.comb += [
            self.tap_token_valid.eq(host.i_token.valid & host.i_token.ready),
            self.tap_token_payload.eq(following),
            self.tap_write_valid.eq(host.o_write.valid & host.o_write.ready),
            self.tap_write_payload.eq(host.o_write.p.word),
            self.tap_sum_valid.eq(host.i_token.valid & host.i_token.ready),
            self.tap_sum_payload.eq(total - 1),
        ]
        return m
