"""The whole decoder against the integer model: every h, S and code, tokens and logits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from lutern.hw.config import HwConfig, preset
from lutern.hw.decoder import Decoder
from lutern.model_ref.config import ModelConfig
from lutern.sim.runner import run_bench

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 20


def run(config: HwConfig, *, model: ModelConfig = MODEL, pause: str = "none", seed: int = SEED, **more: Any) -> None:
    """The decoder's bench on one machine and one random model."""
    parameters = {"config": asdict(config), "model": asdict(model), "pause": pause, **more}
    run_bench(Decoder(config), "lutern.sim.tb_decoder", parameters=parameters, seed=seed)


@pytest.mark.parametrize("pause", ["none", "random", "bursty", "alternating"])
def test_equal_to_the_model(pause: str) -> None:
    run(preset("tiny"), pause=pause)


def test_reset_in_mid_token() -> None:
    run(preset("tiny"), resets=2500)


@pytest.mark.parametrize(
    "shape",
    [
        {"rows": 8, "columns": 8, "results_per_cycle": 2, "codes_per_cycle": 4},
        {"rows": 4, "columns": 16, "results_per_cycle": 1, "codes_per_cycle": 1},
        {"rows": 8, "columns": 8, "results_per_cycle": 4, "codes_per_cycle": 8},
    ],
    ids=lambda shape: "x".join(str(value) for value in shape.values()),
)
def test_other_machines(shape: dict[str, int]) -> None:
    run(preset("tiny").with_(name="shaped", gain_fifo_words=64, **shape))
