"""Multiplies codes and trits on tensor cores, with bfloat16 by PyTorch or with int8 by Triton.

Every partial sum is an integer below 127 * 8192 < 2^24, so float32 represents it exactly. Rows of int8 codes and trits
must have a multiple of 16 columns, because the hardware copies tiles whose rows begin at multiples of 16 bytes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lutern.train.kernels.rows import PROGRAMS

TILE = {"M": 128, "N": 128, "K": 128}
SETTINGS = {"GROUP": 8, "num_warps": 4, "num_stages": 3}


@triton.jit
def _int8_product(  # type: ignore[no-untyped-def]
    codes,
    trits,
    out,
    batches,
    rows,
    width,
    columns,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    GROUP: tl.constexpr,
):
    tiles_m, tiles_n = tl.cdiv(rows, M), tl.cdiv(width, N)
    # A program computes many tiles, and loads the next tile while it multiplies. Tiles are computed in groups of GROUP
    # rows of tiles, because neighbouring tiles then find their operands in the L2 cache.
    for tile in tl.range(tl.program_id(0), batches * tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        batch, at = tile // (tiles_m * tiles_n), tile % (tiles_m * tiles_n)
        first = at // (GROUP * tiles_n) * GROUP
        tall = min(tiles_m - first, GROUP)
        m = (first + at % (GROUP * tiles_n) % tall) * M
        n = at % (GROUP * tiles_n) // tall * N
        sums = tl.zeros((M, N), tl.int32)
        for k in range(0, columns, K):
            # The descriptors read zeros after the last column. After the last row of a batch they may read rows of the
            # next batch, whose sums are not stored.
            left = codes.load([batch * rows + m, k])
            right = trits.load([batch * width + n, k])
            sums = tl.dot(left, right.T, sums, out_dtype=tl.int32)
        row, column = m + tl.arange(0, M)[:, None], n + tl.arange(0, N)[None, :]
        put = out + (batch.to(tl.int64) * rows + row) * width + column
        tl.store(put, sums.to(tl.float32).to(out.dtype.element_ty), mask=(row < rows) & (column < width))


def product(codes: Tensor, trits: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``plain.product`` on a GPU. The type of the codes, int8 or bfloat16, selects the kernel."""
    if codes.dtype != torch.int8:
        if dtype == codes.dtype:
            return codes @ trits.transpose(-1, -2)
        return _wide(codes, trits.transpose(-1, -2), dtype)
    (rows, columns), width = codes.shape[-2:], trits.shape[-2]
    batches = codes.numel() // (rows * columns)
    out = torch.empty(*codes.shape[:-1], width, dtype=dtype, device=codes.device)
    left = TensorDescriptor.from_tensor(codes.view(-1, columns), [TILE["M"], TILE["K"]])
    right = TensorDescriptor.from_tensor(trits.view(-1, columns), [TILE["N"], TILE["K"]])
    grid = (min(2 * PROGRAMS, batches * triton.cdiv(rows, TILE["M"]) * triton.cdiv(width, TILE["N"])),)
    _int8_product[grid](left, right, out, batches, rows, width, columns, **TILE, **SETTINGS)
    return out


def weight_gradient(d: Tensor, codes: Tensor, dtype: torch.dtype, onto: Tensor | None = None) -> Tensor:
    """Compute ``plain.weight_gradient`` on a GPU."""
    if onto is None or not d.is_cuda:
        dweight = _wide(d.transpose(-1, -2), codes, dtype)
        return dweight if onto is None else onto.add_(dweight)
    return torch.addmm(onto, d.transpose(-1, -2), codes, out_dtype=dtype, out=onto)


def _wide(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a @ b of narrow operands. The sums and the result have the type ``dtype``."""
    if not a.is_cuda:  # Triton's interpreter
        return a.to(dtype) @ b.to(dtype)
    return torch.bmm(a, b, out_dtype=dtype) if a.ndim == 3 else torch.mm(a, b, out_dtype=dtype)
