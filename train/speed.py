"""Measures the speed and the bytes of decoding one stream, with PyTorch's matrices and with packed trits.

    packed     trits with 2 or 1.6 bits (a GPU uses kernels, a CPU unpacks one matrix after another)
    float      ternary matrices in float16 (on a CPU in bfloat16), with PyTorch's kernels

"MB in all" is the memory of the device during decoding: matrices, embeddings, gains, states, and the values of one
token. `lutern bench` and `lutern train --benchmark` print these figures.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lutern.model_ref.config import ModelConfig
from lutern.train.decode import Decoder, HalfDecoder, PackedDecoder, synthetic
from lutern.train.kernels.packed import DIGITS
from lutern.train.network import Network


@torch.no_grad()
def torch_tokens_per_second(config: ModelConfig, tokens: int) -> float:
    """Return the tokens/s of the network for one stream, token by token. The weights are random, since the speed does
    not depend on the values.

    As in training, the weights are made ternary again for every token.
    """
    torch.manual_seed(1)
    network = Network(config).eval()
    state = network.initial_state(1)
    ids = torch.zeros(1, 1, dtype=torch.long)
    network(ids, state)
    begin = time.perf_counter()
    for _ in range(tokens):
        logits, state = network(ids, state)
        ids = logits[:, -1:].argmax(-1)
    return tokens / (time.perf_counter() - begin)


@dataclass(frozen=True)
class DecodeRow:
    """The speed and the size of one decoder for one shape on one device."""

    shape: str
    device: str
    what: str
    weight_bytes: int
    all_bytes: int
    tokens_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.shape}  {self.device:4}  {self.what:9}{self.weight_bytes / 1e6:9.1f} MB of matrices "
            f"{self.all_bytes / 1e6:9.1f} MB in all {self.tokens_per_second:9,.1f} tokens/s"
        )


def decode_rows(shapes: dict[str, ModelConfig], device: str, tokens: int) -> Iterator[DecodeRow]:
    """Yield each row of the table when it is measured, with synthetic weights and batch 1."""
    half = torch.float16 if device == "cuda" else torch.bfloat16
    for shape, config in shapes.items():
        for what in ("float", *DIGITS):
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            weight, gain = synthetic(device)
            decoder: HalfDecoder | PackedDecoder
            if isinstance(what, float):
                decoder, name = PackedDecoder(config, weight, gain, DIGITS[what]), f"{what} bits"
            else:
                decoder, name = HalfDecoder(config, weight, gain, half), str(half).removeprefix("torch.")
            rate, held = _rate(decoder, device, tokens)
            yield DecodeRow(shape, device, name, decoder.weight_bytes, held - before, rate)
            del decoder


def _rate(decoder: Decoder, device: str, tokens: int) -> tuple[float, int]:
    """Return the tokens/s, and the bytes of memory that the decoder needs."""
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    decoder.step()
    begin = _now(on_gpu)
    for _ in range(tokens):
        decoder.step()
    rate = tokens / (_now(on_gpu) - begin)
    return rate, torch.cuda.max_memory_allocated() if on_gpu else decoder.held_bytes


def _now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()
