"""What a training step costs on this GPU: time, memory, share of its peak, ours beside others.

    step = forward, backward, gradients clipped, AdamW; parameters, gradients and moments in float32; random token numbers

    plain      the network's modules in PyTorch, products in TF32
    compiled   the same through torch.compile
    eager      the kernels, launched one by one
    fused      the kernels as one CUDA graph
    lean       the same, gate and up computed again in backward
    baseline   the published code from a folder, or fla-core's FusedBitLinear in the network's modules; bfloat16 autocast

Times are medians of single steps by the GPU's own clock; the peak is PyTorch's of allocated memory.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.train.graph import GraphedStep, Loss
from lutern.train.network import BitLinear, Network
from lutern.train.speed import decode_rows

SHAPES = {
    "370M": ModelConfig(32000, 1024, 24, 2816),
    "1.3B": ModelConfig(32000, 2048, 24, 5632),
    "2.7B": ModelConfig(32000, 2560, 32, 6912),
}
CASES = (("370M", 4), ("1.3B", 2), ("1.3B", 8))
"""Shape and batch of the published comparison's kind; sequences of LENGTH."""
LENGTH = 2048
WARM_UP, TIMED = 3, 10
FLA = "fla"
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, by the makers' data sheets."""


@dataclass(frozen=True)
class Row:
    """One line of the table; ``error`` in place of figures where a step did not run."""

    shape: str
    batch: int
    what: str
    ms: float = 0.0
    gib: float = 0.0
    tokens_per_second: float = 0.0
    share: float | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.shape}  batch {self.batch}  {self.what:9} {self.error}"
        share = "" if self.share is None else f"  {self.share:6.1%} of peak"
        return (
            f"{self.shape}  batch {self.batch}  {self.what:9}{self.ms:8.1f} ms {self.gib:7.2f} GiB "
            f"{self.tokens_per_second:9,.0f} tokens/s{share}"
        )


def benchmark(
    cases: tuple[tuple[str, int], ...] = CASES,
    kinds: tuple[str, ...] = ("plain", "fused", "lean"),
    baseline: str = "",
    length: int = LENGTH,
) -> Iterator[Row]:
    """Rows of the table, each when it is measured."""
    if not torch.cuda.is_available():
        raise LuternError("the training benchmark wants a GPU, and PyTorch sees none; run it where there is one.")
    torch.set_float32_matmul_precision("high")
    for name, batch in cases:
        for what in (*kinds, *(["baseline"] if baseline else [])):
            gc.collect()
            torch.cuda.empty_cache()
            try:
                yield _measure(name, batch, what, baseline, length)
            except torch.OutOfMemoryError:
                yield Row(name, batch, what, error="out of memory: a smaller batch fits")


def _measure(name: str, batch: int, what: str, baseline: str, length: int) -> Row:
    config = SHAPES[name]
    torch.manual_seed(1)
    with torch.device("cuda"):
        loss_of, parameters = make(config, what, baseline)
        ids = torch.randint(config.vocab_size, (batch, length + 1))
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    if what in ("fused", "lean"):
        step_of: Loss = GraphedStep(loss_of, parameters)
    else:

        def step_of(inputs: Tensor, targets: Tensor) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(inputs, targets)
            loss.backward()
            return loss

    for parameter in parameters:  # the moments first: recording a graph must count in a peak that has them
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(WARM_UP + TIMED):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step_of(ids[:, :-1], ids[:, 1:])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    ms, gib = median(times[WARM_UP:]), torch.cuda.max_memory_allocated() / 2**30
    tokens = batch * length
    flops = 6 * config.trits * tokens  # two for each trit and token, thrice: forward, and backward to both operands
    peak = next((p for card, p in PEAK_FLOPS.items() if card in torch.cuda.get_device_name()), None)
    return Row(name, batch, what, ms, gib, tokens / ms * 1e3, flops / (ms / 1e3) / peak if peak else None)


def make(config: ModelConfig, what: str, baseline: str = "") -> tuple[Loss, list[nn.Parameter]]:
    """Loss of inputs and targets [B, T], and what it trains."""
    if what == "baseline" and baseline != FLA:
        return _published(config, Path(baseline))
    network = Network(config, fused=what in ("eager", "fused", "lean"), lean=what == "lean").train()
    half = what == "baseline"
    if half:
        _use_fla(network)
    run: Any = torch.compile(network) if what == "compiled" else network

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            loss: Tensor = run(inputs, network.initial_state(len(inputs)), targets)[0]
        return loss

    return loss_of, list(network.parameters())


def _use_fla(network: Network) -> None:
    """fla-core's fused BitLinear in every projection's place."""
    try:
        fused = importlib.import_module("fla.modules.fused_bitlinear").FusedBitLinear
    except ImportError as error:
        raise LuternError(f"fla-core cannot be imported ({error}); pip install fla-core, or name a folder.") from error
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BitLinear):
                rows, columns = child.weight.shape
                setattr(module, name, fused(columns, rows, bias=False))


def _published(config: ModelConfig, folder: Path) -> tuple[Loss, list[nn.Parameter]]:
    """The published model from its repository's folder."""
    import triton.language as tl

    if not hasattr(tl.math, "round"):  # gone in newer Triton; the same function under its later name
        tl.math.round = importlib.import_module("triton.language.extra.cuda.libdevice").round
    sys.path.insert(0, str(folder))
    try:
        models = importlib.import_module("mmfreelm.models")
    except ImportError as error:
        raise LuternError(
            f"{folder} has no package mmfreelm that can be imported ({error}); name the folder of a clone of "
            "matmulfreellm."
        ) from error
    finally:
        sys.path.remove(str(folder))
    keys = {k: v for k, v in config.to_dict().items() if k not in ("architectures", "model_type")}
    model = models.HGRNBitForCausalLM(models.HGRNBitConfig(**keys, use_cache=False)).train()

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(inputs).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return loss_of, list(model.parameters())


def loss_curves(ids: Tensor, config: ModelConfig, steps: int = 500, seeds: int = 3) -> Iterator[tuple[str, Tensor]]:
    """Losses [steps] of plain and fused training on a text, each with every seed; the same crops, weights and rates."""
    device, batch, length = ids.device, 32, 512
    for seed in range(seeds):
        for what in ("plain", "fused"):
            torch.manual_seed(seed)
            with torch.device(device):
                network = Network(config, fused=what == "fused").train()
            optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.1)
            generator = torch.Generator().manual_seed(seed)
            losses = []
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = 4e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
                begins = torch.randint(len(ids) - length - 1, (batch, 1), generator=generator)
                crops = ids[(begins + torch.arange(length + 1)).to(device)].long()
                optimizer.zero_grad(set_to_none=True)
                loss, _ = network(crops[:, :-1], network.initial_state(batch), crops[:, 1:])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                losses.append(loss.detach())
            yield f"{what}, seed {seed}", torch.stack(losses).cpu()


def main(arguments: list[str]) -> None:
    """`python -m lutern.train.benchmark [KIND,...] [SHAPE:BATCH,...] [BASELINE]`; KIND may be decode, or curves=FILE."""
    kinds = tuple(arguments[0].split(",")) if arguments else ("plain", "fused", "lean")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "PyTorch", torch.__version__)
    if kinds[0] == "decode":
        shapes = {name: SHAPES[name] for name in (arguments[1].split(",") if arguments[1:] else SHAPES)}
        device = arguments[2] if arguments[2:] else "cuda"
        for line in decode_rows(shapes, device, 300 if device == "cuda" else 5):
            print(line, flush=True)
        return
    cases = tuple((c.split(":")[0], int(c.split(":")[1])) for c in arguments[1].split(",")) if arguments[1:] else CASES
    for row in benchmark(cases, kinds, arguments[2] if arguments[2:] else ""):
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
