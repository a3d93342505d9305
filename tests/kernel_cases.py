"""Every kernel on random inputs, compared with its plain form in float64: relative errors |got - exact| / |exact|.

.venv/bin/python tests/kernel_cases.py        prints the errors; runs on a GPU, or on a CPU with TRITON_INTERPRET=1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lutern.train.kernels import fast, plain

EPS = 1e-6
# Shapes: streams, length, d, m, vocabulary; no power of two, and one segment more than a whole number of them.
SMALL = (2, 131, 48, 36, 77)
LARGE = (4, 1031, 1024, 2816, 32000)


class Inputs:
    """Random tensors on a device, and a method that calls a kernel and its plain form with them."""

    def __init__(self, device: str, seed: int = 5) -> None:
        self.device, self.generator = device, torch.Generator(device).manual_seed(seed)
        self.narrow = torch.bfloat16 if device == "cuda" else torch.float32

    def floats(self, *shape: int, narrow: bool = False) -> Tensor:
        x = torch.randn(shape, generator=self.generator, device=self.device)
        return x.to(self.narrow) if narrow else x

    def gain(self, *shape: int) -> Tensor:
        return 1 + 0.2 * self.floats(*shape)

    def factor(self, *shape: int) -> Tensor:
        return 20 + 10 * torch.rand(shape, generator=self.generator, device=self.device)

    def product(self, rows: int, width: int) -> plain.Product:
        sums = (300 * self.floats(rows, width)).round().to(self.narrow)
        return sums, self.factor(rows), torch.tensor(0.1, device=self.device)

    def both(self, name: str, *arguments: Any) -> list[tuple[Tensor, Tensor]]:
        """Results of kernel ``name`` and of its plain form in float64; the kernel may write over its own copies."""
        exact = getattr(plain, name)(*(_exact(argument) for argument in arguments))
        got = getattr(fast, name)(*(_copy(argument) for argument in arguments))
        return [pair for pair in zip(_tuple(got), _tuple(exact), strict=True) if pair[1] is not None]


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(_copy(v) for v in value) if isinstance(value, tuple | list) else value


def _exact(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, torch.dtype):
        return torch.float64
    return type(value)(_exact(v) for v in value) if isinstance(value, tuple | list) else value


def error(got: Tensor, exact: Tensor) -> float:
    """Return the relative error by norms, or infinity if the error is not a number."""
    value = float((got.double() - exact.double()).norm() / exact.double().norm().clamp(min=1e-30))
    return value if value == value else float("inf")


def cases(device: str, shape: tuple[int, ...]) -> Iterator[tuple[str, list[tuple[Tensor, Tensor]]]]:
    """Yield the name of every kernel and the pairs of its results."""
    streams, length, d, m, vocab = shape
    rows, x = streams * length, Inputs(device)
    thin, no_drop = x.narrow, (None, 0, 0.0)
    h, dh = 3 * x.floats(rows, d), x.floats(rows, d)
    added, again = (x.product(rows, d), no_drop), (x.product(rows, d), no_drop)
    scale = torch.tensor([0.1, 0.2, 0.3], device=device)
    for j in (1, 3):
        norm = (h, x.gain(d), EPS, x.gain(j, d), EPS)
        yield f"norm_codes {j}", (forward := x.both("norm_codes", *norm, thin))
        dcodes = x.floats(j, rows, d, narrow=True)
        before = (*norm, forward[1][0], scale[:j], dcodes)
        yield f"norm_codes_backward {j}", x.both("norm_codes_backward", *before, dh)
        yield f"norm_codes_backward {j} alone", x.both("norm_codes_backward", *before, None)
    yield "norm_codes of a sum", (forward := x.both("norm_codes", *norm, thin, added))
    before = (*norm, forward[1][0], scale, dcodes)
    yield "norm_codes_backward of a sum", x.both("norm_codes_backward", *before, dh, added)
    g, states = x.product(rows, d), x.floats(rows, d)
    gated = (g, states, x.gain(d), EPS, x.gain(d), EPS)
    yield "gated_codes", (forward := x.both("gated_codes", *gated, thin))
    dcodes = x.floats(rows, d, narrow=True)
    yield "gated_codes_backward", x.both("gated_codes_backward", *gated, forward[1][0], scale[0], dcodes)
    p, gain = x.product(rows, 2 * m), x.gain(m)
    yield "swish_codes", (forward := x.both("swish_codes", p, gain, EPS, thin))
    dcodes = x.floats(rows, m, narrow=True)
    yield "swish_codes_backward", x.both("swish_codes_backward", p, gain, EPS, forward[1][0], scale[0], dcodes)
    bound, start = torch.rand(d, generator=x.generator, device=device), x.floats(streams, d)
    scan = (x.product(rows, d), x.product(rows, d), bound, start)
    states, carried = fast.gated_scan(*scan)
    exact, _ = plain.gated_scan(*_exact(scan))
    yield "gated_scan", [(states, exact), (fast.gated_scan(*scan, carried)[0], exact)]
    yield "gated_scan_backward", x.both("gated_scan_backward", *scan, states, dh.view(states.shape))
    yield "add_products", [*x.both("add_products", h, added), *x.both("add_products", h, added, again)]
    yield "add_product_backward", x.both("add_product_backward", dh, g[1], no_drop, thin)
    weights = [0.02 * x.floats(d, d), 0.02 * x.floats(2 * m, d), 0.02 * x.floats(7, 5)]
    scales = fast.scales_of(weights)
    trits, packed = fast.ternarise(weights, scales, thin)
    exact, _ = plain.ternarise(weights, scales, torch.float64)
    yield "ternarise", list(zip(trits, exact, strict=True))
    shapes = [weight.shape for weight in weights]
    yield "unpack", list(zip(fast.unpack(packed, shapes, thin), exact, strict=True))
    codes = (40 * x.floats(3, rows, d)).round().clamp(-127, 127)
    trits3 = torch.stack([trits[0], trits[0].roll(1), -trits[0]])
    sums = codes.double() @ trits3.double().transpose(-1, -2)
    for kind in (thin, torch.int8):
        # float32 can store these sums exactly, so the error must be zero
        yield f"product of {kind}", [(fast.product(codes.to(kind), trits3.to(kind), torch.float32), sums)]
    narrow = (h.to(thin), codes[0].to(thin), torch.float32)
    yield "weight_gradient", [*x.both("weight_gradient", *narrow), *x.both("weight_gradient", *narrow, dh[:d])]
    few = min(rows, 300)
    logits = (400 * x.floats(few, vocab)).round()
    targets = torch.randint(vocab, (few,), generator=x.generator, device=device)
    yield "cross_entropy", x.both("cross_entropy", logits, x.factor(few), scale[0], targets, 1 / few, thin)


def dropout_errors(device: str) -> list[float]:
    """Return four errors of the kernels' dropout: the fraction of zeros minus the wanted fraction, the relative error
    of the backward kernel's result against the forward kernel's result, the largest error of a kept value, and the
    fraction of elements that agree for two numbers of the dropout minus the expected fraction."""
    rows, d, share = 512, 384, 0.25
    ones, factor = torch.ones(rows, d, device=device), torch.ones(rows, device=device)
    one, seed = torch.ones((), device=device), torch.tensor([11], device=device)
    forward = fast.add_products(torch.zeros_like(ones), ((ones, factor, one), (seed, 0, share)))
    backward = fast.add_product_backward(ones, factor, (seed, 0, share), torch.float32)
    other = fast.add_product_backward(ones, factor, (seed, 1, share), torch.float32)
    values = forward[forward != 0] - 1 / (1 - share)
    same = float((other == forward).float().mean()) - (share**2 + (1 - share) ** 2)
    return [float((forward == 0).float().mean()) - share, error(backward, forward), float(values.abs().max()), same]


def check(device: str, shape: tuple[int, ...], report: Callable[[str], None] = print) -> float:
    """Report the error of every result, and return the largest error."""
    worst = 0.0
    for name, pairs in cases(device, shape):
        errors = [error(got, exact) for got, exact in pairs]
        worst = max(worst, *errors)
        report(f"{name:32}" + " ".join(f"{e:.1e}" for e in errors))
    return worst


if __name__ == "__main__":
    on = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"largest: {check(on, LARGE if on == 'cuda' else SMALL):.1e}")
    print("dropout:", dropout_errors(on))
