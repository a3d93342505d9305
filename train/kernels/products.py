"""Multiplies codes and trits on tensor cores, with bfloat16 by PyTorch or with int8 by Triton.

Every partial sum is an integer below 127 * 8192 < 2^24, which float32 and int32 represent exactly. So the sums are
exact, and are rounded once, to the type of the result.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = {"M": 128, "N": 256, "K": 128, "GROUP": 8, "num_warps": 8, "num_stages": 3}


@triton.jit
def _int8_product(  # type: ignore[no-untyped-def]
    codes, trits, out, rows, width, columns, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr
):
    batch = tl.program_id(1).to(tl.int64)
    codes += batch * rows * columns
    trits += batch * width * columns
    out += batch * rows * width
    # Programs run in groups of GROUP row tiles, so that neighbouring programs share tiles in the L2 cache.
    tiles_m, tiles_n = tl.cdiv(rows, M), tl.cdiv(width, N)
    program = tl.program_id(0)
    first = program // (GROUP * tiles_n) * GROUP
    tall = min(tiles_m - first, GROUP)
    m = (first + program % (GROUP * tiles_n) % tall) * M + tl.arange(0, M)
    n = (program % (GROUP * tiles_n) // tall) * N + tl.arange(0, N)
    k = tl.arange(0, K)
    a = codes + (m % rows)[:, None].to(tl.int64) * columns + k[None, :]
    b = trits + (n % width)[None, :].to(tl.int64) * columns + k[:, None]
    sums = tl.zeros((M, N), tl.int32)
    for begin in range(0, columns, K):
        left = tl.load(a, mask=k[None, :] < columns - begin, other=0)
        right = tl.load(b, mask=k[:, None] < columns - begin, other=0)
        sums = tl.dot(left, right, sums, out_dtype=tl.int32)
        a += K
        b += K
    at = m[:, None].to(tl.int64) * width + n[None, :]
    tl.store(out + at, sums.to(tl.float32).to(out.dtype.element_ty), mask=(m[:, None] < rows) & (n[None, :] < width))


def product(codes: Tensor, trits: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``plain.product`` on a GPU. The type of the codes, int8 or bfloat16, selects the kernel."""
    if codes.dtype != torch.int8:
        if dtype == codes.dtype:
            return codes @ trits.transpose(-1, -2)
        return _wide(codes, trits.transpose(-1, -2), dtype)
    (rows, columns), width = codes.shape[-2:], trits.shape[-2]
    out = torch.empty(*codes.shape[:-1], width, dtype=dtype, device=codes.device)
    grid = (triton.cdiv(rows, TILE["M"]) * triton.cdiv(width, TILE["N"]), codes.numel() // (rows * columns))
    _int8_product[grid](codes, trits, out, rows, width, columns, **TILE)
    return out


def weight_gradient(d: Tensor, codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``plain.weight_gradient`` on a GPU."""
    return _wide(d.transpose(-1, -2), codes, dtype)


def _wide(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a @ b of narrow operands. The sums and the result have the type ``dtype``."""
    if not a.is_cuda:  # Triton's interpreter
        return a.to(dtype) @ b.to(dtype)
    return torch.bmm(a, b, out_dtype=dtype) if a.ndim == 3 else torch.mm(a, b, out_dtype=dtype)
