"""Measures a training step on this GPU: time, memory and share of the GPU's peak rate, for several implementations.

    step = forward, backward, gradient clipping, AdamW; parameters, gradients, moments in float32; random token numbers

    plain      the network's modules in PyTorch, products in TF32
    compiled   the network's modules through torch.compile
    eager      the kernels, launched one after another
    fused      the kernels as one CUDA graph
    lean       the kernels as one CUDA graph, with gate and up computed again in backward
    baseline   the published code from a folder, or fla-core's FusedBitLinear in the network's modules, under bfloat16
               autocast

Times are medians of single steps, measured by the GPU's clock. The memory is the largest amount that PyTorch allocated.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterable, Iterator
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
from lutern.train.curves import spread_of_curves
from lutern.train.gpus import peak_flops, training_flops
from lutern.train.graph import Loss, step_by
from lutern.train.network import BitLinear, Network
from lutern.train.speed import decode_rows

SHAPES = {
    "370M": ModelConfig(32000, 1024, 24, 2816),
    "1.3B": ModelConfig(32000, 2048, 24, 5632),
    "2.7B": ModelConfig(32000, 2560, 32, 6912),
}
CASES = {
    ("370M", 4): ("plain", "fused", "lean"),
    ("1.3B", 2): ("plain", "fused", "lean"),
    ("1.3B", 8): ("fused", "lean"),
}
"""The implementations that are measured for each shape and batch. Sequences have LENGTH tokens."""
LENGTH = 2048
WARM_UP, TIMED = 3, 10
FLA = "fla"


@dataclass(frozen=True)
class Row:
    """One line of the table. If a step failed, ``error`` says why, and the line has no figures."""

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
    cases: Iterable[tuple[str, int]] = CASES, kinds: tuple[str, ...] = (), baseline: str = "", length: int = LENGTH
) -> Iterator[Row]:
    """Yield each row of the table when it is measured. Raises ``LuternError`` if there is no GPU."""
    if not torch.cuda.is_available():
        raise LuternError(
            "the training benchmark needs a GPU, and PyTorch finds none; run it on a computer with a GPU."
        )
    torch.set_float32_matmul_precision("high")
    for name, batch in cases:
        for what in (*(kinds or CASES[name, batch]), *(["baseline"] if baseline else [])):
            gc.collect()
            torch.cuda.empty_cache()
            try:
                yield _measure(name, batch, what, baseline, length)
            except torch.OutOfMemoryError:
                yield Row(name, batch, what, error="out of memory: a smaller batch fits")


def _measure(name: str, batch: int, what: str, baseline: str, length: int) -> Row:
    config, before = SHAPES[name], torch.cuda.memory_allocated()  # libraries keep memory from earlier rows
    torch.manual_seed(1)
    with torch.device("cuda"):
        loss_of, parameters = make(config, what, baseline)
        ids = torch.randint(config.vocab_size, (batch, length + 1))
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    step_of = step_by(loss_of, parameters, graphed=what in ("fused", "lean"))
    for parameter in parameters:  # allocate the moments, so that the peak of recording a graph includes them
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
    ms, gib = median(times[WARM_UP:]), (torch.cuda.max_memory_allocated() - before) / 2**30
    tokens = batch * length
    flops = training_flops(config.trits) * tokens
    peak = peak_flops(torch.cuda.get_device_name())
    return Row(name, batch, what, ms, gib, tokens / ms * 1e3, flops / (ms / 1e3) / peak if peak else None)


def make(config: ModelConfig, what: str, baseline: str = "") -> tuple[Loss, list[nn.Parameter]]:
    """Return a function that computes the loss from inputs and targets [batch, length], and the parameters to train."""
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
    """Replace every projection by fla-core's fused BitLinear."""
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
    """Return the loss function and the parameters of the published model in a clone of its repository."""
    import triton.language as tl

    if not hasattr(tl.math, "round"):  # newer versions of Triton have this function in another module
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


def tables(baseline: str = "") -> Iterator[str]:
    """Yield the lines of `lutern train --benchmark`: the speed of training and of decoding on a GPU if there is one,
    then the speed of decoding on the CPU."""
    on_gpu = torch.cuda.is_available()
    yield f"{torch.cuda.get_device_name() if on_gpu else 'no GPU'}, PyTorch {torch.__version__}"
    if on_gpu:
        yield f"training: sequences of {LENGTH}, AdamW included"
        yield from map(str, benchmark(baseline=baseline))
        yield "decoding: one stream, synthetic weights"
        yield from map(str, decode_rows(SHAPES, "cuda", 500))
    yield from map(str, decode_rows({"370M": SHAPES["370M"]}, "cpu", 3))


def main(arguments: list[str]) -> None:
    """Run `python -m lutern.train.benchmark KIND,... SHAPE:BATCH,... [BASELINE]` for some rows, or `... curves
    TEXT`."""
    if arguments[0] == "curves":
        for line in spread_of_curves(Path(arguments[1])):
            print(line, flush=True)
        return
    cases = tuple((shape, int(batch)) for shape, batch in (case.split(":") for case in arguments[1].split(",")))
    for row in benchmark(cases, tuple(arguments[0].split(",")), arguments[2] if arguments[2:] else ""):
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
