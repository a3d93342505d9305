"""The fused layer and head compared with the plain modules, packed trits, and the GPU kernels against plain forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lutern.model_ref.config import ModelConfig

torch = pytest.importorskip("torch", reason="training is an optional extra")

CONFIG = ModelConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, intermediate_size=36)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def gradients(fused: bool, lean: bool = False, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    """Return loss, last state and gradients of a small network in float64. All forms use the same network and text."""
    from lutern.train.network import Network

    torch.manual_seed(7)
    network = Network(CONFIG, fused=fused, lean=lean, dropout=dropout).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bounds" in name:  # with gains of 1 and bounds of 0, some mistakes have no effect
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
        # Both pass gradients unchanged through rounding, so only the order of float64 operations differs.
        assert torch.allclose(fused[name], expected, rtol=1e-9, atol=1e-12), name


def test_dropout_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    from lutern.train.kernels import plain

    generator = torch.Generator().manual_seed(6)
    masks = [2.0 * torch.randint(2, (2, 10, CONFIG.hidden_size), generator=generator) for _ in range(2)]
    calls = iter([None, 0, 1, 0, 1, None])  # the embedding, two mixers in each of two layers, the last hidden vector

    def dropout(x: torch.Tensor, share: float, training: bool = True) -> torch.Tensor:
        use = next(calls)
        return x if use is None else x * masks[use]

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    expected = gradients(fused=False, dropout=0.5)
    calls = iter([None, None])
    monkeypatch.setattr(plain, "kept", lambda shape, dropout, like: masks[dropout[1]].view(shape))
    got = gradients(fused=True, dropout=0.5)
    for name, value in expected.items():
        assert torch.allclose(got[name], value, rtol=1e-9, atol=1e-12), name


def test_results_may_be_written_over_tensors_that_are_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from lutern.train.kernels import plain

    def overwrite(name: str, targets: dict[int, Callable[..., torch.Tensor | None]]) -> None:
        """Let plain form ``name`` write some results over tensors among its arguments, as the kernel does."""
        form = getattr(plain, name)

        def run(*arguments: Any) -> tuple[Any, ...]:
            results = list(form(*arguments))
            for index, target in targets.items():
                over = target(*arguments)
                results[index] = None if over is None else over.copy_(results[index])
            return tuple(results)

        monkeypatch.setattr(plain, name, run)

    expected = gradients(fused=True)
    overwrite("norm_codes_backward", {0: lambda *a: a[7], 4: lambda *a: a[9][0][0] if a[9:] else None})
    overwrite("gated_codes_backward", {0: lambda *a: a[8], 1: lambda *a: a[0][0]})
    overwrite("swish_codes_backward", {0: lambda *a: a[5], 1: lambda *a: a[0][0]})
    overwrite("gated_scan_backward", {0: lambda *a: a[0][0], 1: lambda *a: a[1][0]})
    overwrite("cross_entropy", {1: lambda *a: a[0]})
    for lean in (False, True):
        for name, value in gradients(fused=True, lean=lean).items():
            assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("head", [False, True])
def test_a_second_backward_is_refused(head: bool) -> None:
    from lutern.train.network import Network

    network = Network(CONFIG, fused=True).double()
    ids = torch.randint(CONFIG.vocab_size, (1, 5))
    out, _ = network(ids, network.initial_state(1), ids if head else None)
    out.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("digits", [4, 5])
def test_packed_trits_are_restored_and_multiplied(digits: int) -> None:
    from lutern.train.kernels import packed

    torch.manual_seed(2)
    trits = torch.randint(-1, 2, (3, 52))
    words = packed.pack(trits, digits)
    assert words.shape[1] == packed.words_of(52, digits)
    assert torch.equal(packed.unpack_rows(words, 52, digits), trits.to(torch.int8))
    codes = torch.randint(-127, 128, (1, 52), dtype=torch.int8)
    assert torch.equal(packed.products_of(words[None], codes, digits)[0], (trits @ codes[0].long()).float())


@pytest.mark.parametrize("digits", [4, 5])
def test_decoders_write_what_the_network_writes(digits: int) -> None:
    from lutern.train.decode import HalfDecoder, PackedDecoder, parameters_of
    from lutern.train.network import Network

    torch.manual_seed(4)
    network = Network(CONFIG, fused=False).eval()
    with torch.no_grad():
        network.model.embeddings.weight.copy_(network.model.embeddings.weight.half())  # the decoder has float16
    of = parameters_of(network)
    packed, dense = PackedDecoder(CONFIG, of, of, digits), HalfDecoder(CONFIG, of, of, torch.float64)
    ids, state = torch.tensor([[3, 17, 8]]), network.initial_state(1)
    with torch.no_grad():
        expected, _ = network(ids, state)
    for position in range(3):
        for decoder in (packed, dense):
            decoder.token.fill_(ids[0, position])
        got = packed.logits()
        # Codes and sums are the same, but floats are added in another order.
        assert (got - expected[0, position]).norm() <= 1e-5 * expected[0, position].norm(), position
        # This decoder does not round activations to codes of 8 bits, and has no other difference.
        assert (dense.logits() - expected[0, position]).norm() <= 0.1 * expected[0, position].norm(), position
    assert packed.weight_bytes < dense.weight_bytes / 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_kernels_on_a_gpu_have_the_results_of_their_plain_forms() -> None:
    from kernel_cases import LARGE, cases, dropout_errors, error

    for name, pairs in cases("cuda", LARGE):
        for index, (got, exact) in enumerate(pairs):
            # bfloat16 rounds by at most 2^-9, float32 is summed in another order, and a code near one half may be
            # rounded up or down.
            limit = 3e-3 if got.dtype == torch.bfloat16 else 3e-6
            assert error(got, exact) <= limit, f"{name}, result {index}"
    share, backward, kept, independent = dropout_errors("cuda")
    assert abs(share) < 0.01 and backward == 0 and kept == 0 and abs(independent) < 0.01
