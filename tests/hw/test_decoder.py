"""The whole decoder against the integer model: every h, S and code, tokens and logits."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from lutern.hw import decoder
from lutern.hw.config import HwConfig
from lutern.hw.decoder import Decoder
from lutern.hw.head import Head
from lutern.hw.mlgru import Mlgru
from lutern.hw.presets import preset
from lutern.hw.residual import Residual
from lutern.hw.results import ResultsControl
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import Sequencer
from lutern.model_ref.config import ModelConfig
from lutern.sim.runner import run_bench

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 20


def run(config: HwConfig, *, model: ModelConfig = MODEL, pause: str = "none", seed: int = SEED, **more: Any) -> None:
    """Run the decoder's bench with one machine and one random model."""
    parameters = {"config": asdict(config), "model": asdict(model), "pause": pause, **more}
    run_bench(Decoder(config), "lutern.sim.benches.decoder", parameters=parameters, seed=seed)


@pytest.mark.parametrize(
    "pause", ["none", "random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bursty", "alternating"))]
)
def test_equal_to_the_model(pause: str) -> None:
    run(preset("tiny"), pause=pause)


def test_reset_in_mid_token() -> None:
    run(preset("tiny"), resets=4)


CLIPPED = ModelConfig(vocab_size=11, hidden_size=16, num_hidden_layers=2, intermediate_size=20)


def test_saturations_equal_the_clipped_values_of_the_model() -> None:
    """i, gate and the values that are added to h are larger than their words allow. So values of each of them are
    clipped in every run, and the bench compares the count of every run with that of the integer model."""
    run(preset("tiny"), model=CLIPPED, enlarged_log2=7)


class Ports(Elaboratable):
    """Has the ports of a component, but no contents, so that a test can drive the component's outputs."""

    def __init__(self, component: wiring.Component) -> None:
        self._component = component

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)

    def elaborate(self, platform: object) -> Module:
        return Module()


COUNT_MAX = (1 << 16) - 1
"""The largest value of ``status.saturations``, which has 16 bits."""


def test_saturations_stop_at_the_largest_value() -> None:
    """Only the wiring of the status is simulated, and random pulses take the place of the scale and the residual. Two
    pulses in a cycle count 2, so the count stops at its largest value or 1 below. A run begins at 0 again."""
    drawn = random.Random(SEED)
    dut, m = Decoder(preset("tiny")), Module()
    names = {
        "sequencer": Sequencer,
        "results": ResultsControl,
        "scale": SumScale,
        "mlgru": Mlgru,
        "residual": Residual,
        "head": Head,
    }
    for name, block in names.items():
        m.submodules[name] = Ports(block(dut.config))
    dut._connect_status(m)
    pulses = (m.submodules.scale.saturated, m.submodules.residual.saturated)

    async def bench(ctx: Any) -> None:
        counted = late = 0

        async def cycles(*given: int, begins: int = 0, repeat: int = 1) -> None:
            """Give pulses for some cycles, and compare the count with the sum of the pulses of the earlier cycles."""
            nonlocal counted, late
            for port, value in zip((*pulses, dut.i_run.valid), (*given, begins), strict=True):
                ctx.set(port, value)
            await ctx.tick().repeat(repeat)
            for _ in range(repeat):
                counted = 0 if begins else counted + late if counted < COUNT_MAX - 1 else counted
                late = sum(given)
            got = ctx.get(dut.status.saturations)
            assert got == counted, f"the count is {got}, expected {counted}, seed {SEED}"

        ctx.set(dut.i_run.ready, 1)
        for largest in (COUNT_MAX - 1, COUNT_MAX):
            for _ in range(200):
                await cycles(drawn.randrange(2), drawn.randrange(2))
            await cycles(0, 0)
            await cycles((counted + largest) % 2, 0)
            await cycles(1, 1, repeat=(largest - counted) // 2 - 5)
            for _ in range(10):
                await cycles(1, 1)
            assert counted == largest, f"the count stops at {counted} and not at {largest}, seed {SEED}"
            for _ in range(200):
                await cycles(drawn.randrange(2), drawn.randrange(2))
            await cycles(0, 0)
            await cycles(0, 0, begins=1)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


SMALL = preset("tiny")
SHAPED = SMALL.with_(name="shaped", rows=8, columns=8, results_per_cycle=2, codes_per_cycle=4)
STREAMED = SMALL.with_(
    name="streamed", source="streamed", word_bytes=2, memory_words=1 << 13, trit_fifo_words=32, max_state=256
)


@pytest.mark.parametrize(
    ("streams", "pause"),
    [
        (1, "random"),
        (4, "none"),
        *(pytest.param(*rest, marks=pytest.mark.slow) for rest in ((1, "none"), (4, "random"))),
    ],
)
def test_streamed_weights_and_several_streams(streams: int, pause: str) -> None:
    run(STREAMED.with_(streams=streams), pause=pause)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"rows": 5, "columns": 4, "streams": 2}, marks=pytest.mark.slow),
        pytest.param(
            {
                "rows": 10,
                "columns": 4,
                "streams": 8,
                "results_per_cycle": 2,
                "codes_per_cycle": 4,
                "word_bytes": 4,
                "max_state": 512,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "rows": 8,
                "columns": 8,
                "streams": 2,
                "results_per_cycle": 2,
                "codes_per_cycle": 4,
                "source": "resident",
                "word_bytes": 8,
            },
            marks=pytest.mark.slow,
        ),
        {"rows": 5, "columns": 4, "streams": 4, "top_k": 8},
    ],
    ids=lambda shape: "-".join(str(value) for value in shape.values()),
)
def test_other_machines_of_several_streams(shape: dict[str, int]) -> None:
    run(STREAMED.with_(name="shaped", gain_fifo_words=128, **shape))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"rows": 8, "columns": 8, "results_per_cycle": 2, "codes_per_cycle": 4}, marks=pytest.mark.slow),
        pytest.param({"rows": 4, "columns": 16, "results_per_cycle": 1, "codes_per_cycle": 1}, marks=pytest.mark.slow),
        {"rows": 8, "columns": 8, "results_per_cycle": 4, "codes_per_cycle": 8},
    ],
    ids=lambda shape: "x".join(str(value) for value in shape.values()),
)
def test_other_machines(shape: dict[str, int]) -> None:
    run(preset("tiny").with_(name="shaped", gain_fifo_words=64, **shape))


@pytest.mark.parametrize("machine", [SMALL, pytest.param(SHAPED, marks=pytest.mark.slow)], ids=lambda item: item.name)
@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(vocab_size=2, hidden_size=8, num_hidden_layers=1, intermediate_size=4),
        ModelConfig(vocab_size=3, hidden_size=12, num_hidden_layers=3, intermediate_size=20, use_lower_bound=False),
        ModelConfig(vocab_size=40, hidden_size=64, num_hidden_layers=1, intermediate_size=64),
        ModelConfig(vocab_size=5, hidden_size=22, num_hidden_layers=2, intermediate_size=30),
    ],
    ids=lambda model: f"V{model.vocab_size}-d{model.hidden_size}-L{model.num_hidden_layers}-m{model.intermediate_size}",
)
def test_other_shapes(model: ModelConfig, machine: HwConfig) -> None:
    """The models have vectors shorter than the pipelines, widths that are no multiples of rows or columns, a single row
    group, and the largest width."""
    run(machine, model=model)


@pytest.mark.slow
def test_the_widest_row_of_the_embedding_fits_its_fifo() -> None:
    """With P = 4, a group of four 16-bit codes fills only a part of a word. The whole row must fit into the FIFO."""
    model = ModelConfig(vocab_size=6, hidden_size=64, num_hidden_layers=1, intermediate_size=64)
    run(
        STREAMED.with_(
            name="wasteful",
            rows=4,
            columns=16,
            word_bytes=13,
            results_per_cycle=4,
            codes_per_cycle=4,
            gain_fifo_words=64,
        ),
        model=model,
    )


WIDE = STREAMED.with_(gain_fifo_words=128, trit_fifo_words=64)
WIDE_MACHINES = {
    config.name: config
    for config in (
        WIDE.with_(name="64-one", word_bytes=8, rows=5, columns=8, codes_per_cycle=4),
        WIDE.with_(name="64-two", word_bytes=8, rows=5, columns=16, codes_per_cycle=4),
        WIDE.with_(name="128-one", word_bytes=16, rows=5, columns=16, codes_per_cycle=8),
        WIDE.with_(name="128-two", word_bytes=16, rows=10, columns=16, results_per_cycle=2, codes_per_cycle=4),
        WIDE.with_(name="256-one", word_bytes=32, rows=10, columns=16, results_per_cycle=2, codes_per_cycle=16),
        WIDE.with_(name="256-two", word_bytes=32, rows=20, columns=16, results_per_cycle=4, codes_per_cycle=16),
        WIDE.with_(name="256-narrow", word_bytes=32, rows=10, columns=32, codes_per_cycle=4),
        WIDE.with_(name="512-one", word_bytes=64, rows=10, columns=32, results_per_cycle=2, codes_per_cycle=16),
        WIDE.with_(name="512-two", word_bytes=64, rows=20, columns=32, results_per_cycle=4, codes_per_cycle=16),
    )
}
"""Each name gives the bits of a word and the number of words in a beat of trits. In words of 256 bits and more, an
operation needs only one word."""
QUICK_WIDE = ("64-one", "256-one")


@pytest.mark.parametrize("pause", ["none", pytest.param("random", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK_WIDE else pytest.mark.slow) for name in WIDE_MACHINES]
)
def test_wide_words(name: str, pause: str) -> None:
    run(WIDE_MACHINES[name], pause=pause)


TORN = ModelConfig(vocab_size=5, hidden_size=22, num_hidden_layers=2, intermediate_size=30)
"""The last word of a row has room for four codes of 2 bytes, but only two of them belong to the row."""
TORN_MACHINES = {
    "resident": preset("tiny").with_(name="torn", word_bytes=8, columns=16, streams=2, max_state=512),
    "stream": STREAMED.with_(name="torn", rows=5, columns=8, word_bytes=8, streams=2),
}


@pytest.mark.parametrize("source", TORN_MACHINES)
def test_rows_that_end_inside_a_word(source: str) -> None:
    run(TORN_MACHINES[source], model=TORN)
    run(TORN_MACHINES[source], model=TORN, pause="random")


NARROW_MACHINES = {
    "16": STREAMED.with_(rows=5, streams=2),
    "32": STREAMED.with_(rows=10, word_bytes=4, results_per_cycle=2),
    "64": STREAMED.with_(rows=5, columns=8, word_bytes=8, streams=2),
}


@pytest.mark.parametrize(
    ("words", "model", "pause"),
    [
        ("16", MODEL, "random"),
        ("64", TORN, "none"),  # a row has six words of items of 16 bits: the second block of four ends inside a word
        *(
            pytest.param(words, model, pause, marks=pytest.mark.slow)
            for words, model, pause in (("16", TORN, "none"), ("32", TORN, "random"), ("64", MODEL, "random"))
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else f"d{value.hidden_size}",
)
def test_embeddings_of_12_bits(words: str, model: ModelConfig, pause: str) -> None:
    run(NARROW_MACHINES[words].with_(name="narrow", gain_fifo_words=128), model=model, pause=pause, embedding_bits=12)


@pytest.mark.parametrize("source", ["resident", pytest.param("stream", marks=pytest.mark.slow)])
def test_mutation_without_reset_after_a_row_is_found(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "ResetInserter", lambda controls: lambda block: block)
    with pytest.raises(AssertionError, match="seed"):
        run(TORN_MACHINES[source], model=TORN)


@pytest.mark.slow
def test_exchanged_users_of_shared_blocks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decoder._share
    monkeypatch.setattr(
        decoder, "_share", lambda m, is_glu, of_mlgru, of_glu, user: right(m, is_glu, of_glu, of_mlgru, user)
    )
    with pytest.raises(AssertionError, match="seed"):
        run(preset("tiny"))
