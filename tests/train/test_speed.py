"""The network in PyTorch, whose speed `lutern bench` measures for comparison."""

from __future__ import annotations

import pytest

from lutern.model_ref.config import ModelConfig

pytest.importorskip("torch")


def test_baseline_decodes() -> None:
    from lutern.train.speed import torch_tokens_per_second

    model = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    assert torch_tokens_per_second(model, 3) > 0
