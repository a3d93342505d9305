"""Decodes token by token with packed trits or, for comparison, with the network's matrices as float16 in PyTorch.

    token ─► embedding ─► layers: codes ─► packed product ─► gates ─► ... ─► head ─► next token

Both decoders keep all tensors on the device. On a GPU both decoders compute a token in one CUDA graph. The decoder with
packed trits computes the same network as training (8-bit codes, exact sums). The decoder with float16 matrices uses no
codes, so that PyTorch needs as few kernels as possible.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lutern.model_ref.config import NORM_EPS, ModelConfig
from lutern.train.kernels import packed, plain
from lutern.train.kernels.layer import forms
from lutern.train.network import Network


def _products(words: Tensor, codes: Tensor, digits: int) -> Tensor:
    if words.is_cuda:
        from lutern.train.kernels import packed_kernel

        return packed_kernel.products_of(words, codes, digits)
    return packed.products_of(words, codes, digits)


class Decoder(ABC):
    """The common part of both decoders. ``step`` replaces ``token`` by the next token. ``states`` contains the state of
    each layer."""

    def __init__(self, config: ModelConfig, embeddings: Tensor, bounds: Tensor) -> None:
        self.config, self.embeddings, self.bounds = config, embeddings, bounds
        self.states = torch.zeros(config.num_hidden_layers, 1, config.hidden_size, device=embeddings.device)
        self.token = torch.zeros(1, dtype=torch.long, device=embeddings.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    @abstractmethod
    def logits(self) -> Tensor:
        """Advance the states by ``token``, and return the logits [V] of the next token (V: vocabulary)."""

    @property
    def held_bytes(self) -> int:
        """The number of bytes of all tensors that the decoder keeps."""

        def of(value: Any) -> int:
            if isinstance(value, Tensor):
                return value.numel() * value.element_size()
            return sum(map(of, value)) if isinstance(value, list | tuple) else 0

        return sum(map(of, vars(self).values()))

    def step(self) -> None:
        """Replace ``token`` by the likeliest next token."""
        if not self.token.is_cuda:
            self.token.copy_(self.logits().argmax(-1))
            return
        if self._graph is None:
            self._graph = _recorded(lambda: self.token.copy_(self.logits().argmax(-1)))
        self._graph.replay()


def _recorded(work: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


Parameters = Callable[[str, tuple[int, ...]], Tensor]  # a function from a name and a shape to a tensor


class PackedDecoder(Decoder):
    """The network with trits of 2 or 1.6 bits, embeddings in float16, gains in float32."""

    def __init__(self, config: ModelConfig, weight: Parameters, gain: Parameters, digits: int) -> None:
        d, m = config.hidden_size, config.intermediate_size
        super().__init__(
            config, weight("model.embeddings.weight", (config.vocab_size, d)).half(), _bounds(config, gain)
        )
        self.digits, self.layers = digits, []

        def matrices(prefix: str, names: str, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
            """Return the words, scales and gains of several matrices with the same shape."""
            words, scales, gains = [], [], []
            for name in names.split():
                latent = weight(f"{prefix}{name}.weight", (rows, columns))
                scale = plain.scales_of([latent])
                words.append(packed.pack((latent / scale).round().clamp(-1, 1), digits))
                scales.append(scale)
                gains.append(gain(f"{prefix}{name}.norm.weight", (columns,)))
            return torch.stack(words), torch.cat(scales), torch.stack(gains)

        for layer in range(config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            self.layers.append(
                (
                    matrices(prefix, "attn.i_proj attn.f_proj attn.g_proj", d, d),
                    matrices(prefix, "attn.o_proj", d, d),
                    matrices(prefix, "mlp.gate_proj", 2 * m, d),
                    matrices(prefix, "mlp.down_proj", d, m),
                    [gain(f"{prefix}{name}.weight", (d,)) for name in ("attn_norm", "attn.g_norm", "mlp_norm")],
                )
            )
        self.head = matrices("", "lm_head", config.vocab_size, d)
        self.norm = gain("model.norm.weight", (d,))

    @torch.no_grad()
    def logits(self) -> Tensor:
        eps, bit_eps = self.config.rms_norm_eps, NORM_EPS
        h = self.embeddings[self.token].float()
        no_drop: plain.Dropout = (None, 0, 0.0)
        k, digits = forms(h), self.digits

        def normed(h: Tensor, outer: Tensor, of: tuple[Tensor, Tensor, Tensor]) -> list[plain.Product]:
            words, scales, gains = of
            codes, factors = k.norm_codes(h, outer, eps, gains, bit_eps, torch.int8)
            sums = _products(words, codes[:, 0], digits)
            return [(sums[n : n + 1], factors[n], scales[n]) for n in range(len(words))]

        for index, (ifg, o, gate, down, (attn_norm, g_norm, mlp_norm)) in enumerate(self.layers):
            state = self.states[index]
            i, f, g = normed(h, attn_norm, ifg)
            states = k.gated_scan(i, f, self.bounds[index], state)[0][:, 0]
            state.copy_(states)
            codes, factor = k.gated_codes(g, states, g_norm, eps, o[2][0], bit_eps, torch.int8)
            h = k.add_products(h, ((_products(o[0], codes, digits), factor, o[1]), no_drop))
            (p,) = normed(h, mlp_norm, gate)
            codes, factor = k.swish_codes(p, down[2][0], bit_eps, torch.int8)
            h = k.add_products(h, ((_products(down[0], codes, digits), factor, down[1]), no_drop))
        (out,) = normed(h, self.norm, self.head)
        return plain.value_of(out)[0]

    @property
    def weight_bytes(self) -> int:
        """The number of bytes of the ternary matrices alone."""
        matrices = [self.head] + [part for layer in self.layers for part in layer[:4]]
        return sum(words.numel() * 4 + scales.numel() * 4 for words, scales, _ in matrices)


class HalfDecoder(Decoder):
    """The network with its ternary matrices as float16 (trits times scale), computed by PyTorch's own kernels."""

    def __init__(self, config: ModelConfig, weight: Parameters, gain: Parameters, dtype: torch.dtype) -> None:
        d, m = config.hidden_size, config.intermediate_size
        embeddings = weight("model.embeddings.weight", (config.vocab_size, d)).to(dtype)
        super().__init__(config, embeddings, _bounds(config, gain).to(dtype))
        self.states, self.layers = self.states.to(dtype), []

        def matrix(name: str, rows: int, columns: int) -> tuple[Tensor, Tensor]:
            latent = weight(f"{name}.weight", (rows, columns))
            scale = plain.scales_of([latent])
            return ((latent / scale).round().clamp(-1, 1) * scale).to(dtype), gain(
                f"{name}.norm.weight", (columns,)
            ).to(dtype)

        for layer in range(config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            shapes = [(d, d)] * 4 + [(2 * m, d), (d, m)]
            names = ("attn.i_proj", "attn.f_proj", "attn.g_proj", "attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
            norms = [gain(f"{prefix}{n}.weight", (d,)).to(dtype) for n in ("attn_norm", "attn.g_norm", "mlp_norm")]
            self.layers.append(([matrix(prefix + n, *s) for n, s in zip(names, shapes, strict=True)], norms))
        self.head, self.norm = matrix("lm_head", config.vocab_size, d), gain("model.norm.weight", (d,)).to(dtype)

    @torch.no_grad()
    def logits(self) -> Tensor:
        eps = self.config.rms_norm_eps
        h = self.embeddings[self.token]

        def norm(x: Tensor, by: Tensor) -> Tensor:
            return F.rms_norm(x, by.shape, by, eps)

        def project(x: Tensor, of: tuple[Tensor, Tensor]) -> Tensor:
            return F.linear(F.rms_norm(x, of[1].shape, of[1], NORM_EPS), of[0])

        for index, ((i, f, g, o, gate, down), (attn_norm, g_norm, mlp_norm)) in enumerate(self.layers):
            x, bound, state = norm(h, attn_norm), self.bounds[index], self.states[index]
            forget = torch.lerp(torch.sigmoid(project(x, f)), torch.ones_like(bound), bound)
            state.copy_(torch.lerp(F.silu(project(x, i)), state, forget))
            h = h + project(norm(project(x, g), g_norm) * F.silu(state), o)
            opened, up = project(norm(h, mlp_norm), gate).chunk(2, -1)
            h = h + project(F.silu(opened) * up, down)
        return project(norm(h, self.norm), self.head)[0]

    @property
    def weight_bytes(self) -> int:
        """The number of bytes of the ternary matrices alone."""
        matrices = [self.head[0]] + [w for projections, _ in self.layers for w, _ in projections]
        return sum(w.numel() * w.element_size() for w in matrices)


def _bounds(config: ModelConfig, gain: Parameters) -> Tensor:
    """Return the lower bounds [L, d], as ``Network._bounds`` does (L: layers, d: hidden size)."""
    bounds = gain("model.lower_bounds", (config.num_hidden_layers, config.hidden_size))
    if not config.use_lower_bound:
        return torch.zeros_like(bounds)
    shares = bounds.softmax(0)
    return shares.cumsum(0) - shares[0]


def parameters_of(network: Network) -> Parameters:
    """Return a function that returns the parameters of a network by name."""
    tensors = network.state_dict()
    return lambda name, shape: tensors[name].detach()


def synthetic(device: str) -> tuple[Parameters, Parameters]:
    """Return random weights, and gains of 1. The speed does not depend on the values."""
    generator = torch.Generator(device).manual_seed(1)

    def weight(name: str, shape: tuple[int, ...]) -> Tensor:
        return 0.02 * torch.randn(shape, generator=generator, device=device)

    return weight, lambda name, shape: torch.ones(shape, device=device)
