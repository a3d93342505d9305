"""The fused layer and head against the plain modules; every kernel against its plain form, where a GPU runs them."""

from __future__ import annotations

import pytest

from lutern.model_ref.config import ModelConfig

torch = pytest.importorskip("torch", reason="training is an optional extra")

CONFIG = ModelConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, intermediate_size=36)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def gradients(fused: bool, lean: bool = False, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    """Loss, last state and gradients of a small network in float64, the same at every call but for how it is run."""
    from lutern.train.network import Network

    torch.manual_seed(7)
    network = Network(CONFIG, fused=fused, lean=lean, dropout=dropout).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bounds" in name:  # gains of 1 and bounds of 0 hide mistakes
                parameter.add_(0.3 * torch.randn_like(parameter))
    ids = torch.randint(CONFIG.vocab_size, (2, 11))
    torch.manual_seed(3)
    loss, last = network(ids[:, :-1], 0.1 + network.initial_state(2), ids[:, 1:])
    (3 * loss).backward()
    return {"loss": loss.detach(), "last": last.detach()} | {n: p.grad for n, p in network.named_parameters()}


@pytest.mark.parametrize("lean", [False, True])
def test_the_fused_network_has_the_gradients_of_the_plain_one(lean: bool) -> None:
    plain, fused = gradients(fused=False), gradients(fused=True, lean=lean)
    for name, expected in plain.items():
        # rounding passes gradients straight through in both, so only the order of float64 operations differs
        assert torch.allclose(fused[name], expected, rtol=1e-9, atol=1e-12), name
