"""Packs trits row by row for products with one vector of codes, with 2 bits per trit or 1.6 bits (five trits per byte).

    byte b of word w of a row contains the digits k = 0, 1, ...     digit k: trit of column 4 W k + 4 w + b, plus 1
                                                                    W: number of words in a row

So digit k of a word belongs to four neighbouring columns, whose codes are one 32-bit word. A single instruction (dp4a)
computes and adds these four products. With 2 bits, digit k is at bit 2 k of its byte. With 1.6 bits, the byte is the
fraction 0.d0 d1 d2 d3 d4 in base 3, times 256, rounded up. If the byte is multiplied by 3, its overflow is the next
digit.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIGITS = {2.0: 4, 1.6: 5}  # digits per byte, by bits per trit


def words_of(columns: int, digits: int) -> int:
    """Return W, the number of 32-bit words in a row."""
    return -(-columns // (4 * digits))


def pack(trits: Tensor, digits: int) -> Tensor:
    """Pack trits [rows, columns] into int32 words [rows, W]."""
    rows, columns = trits.shape
    width = words_of(columns, digits)
    table = torch.ones(rows, digits * 4 * width, dtype=torch.int32, device=trits.device)
    table[:, :columns] += trits.to(torch.int32)
    table = table.view(rows, digits, 4 * width)
    if digits == 4:
        value = sum(table[:, k] << (2 * k) for k in range(4))
    else:
        value = (sum(table[:, k] * 3 ** (4 - k) for k in range(5)) * 256 + 242) // 243
    assert isinstance(value, Tensor)
    return value.to(torch.uint8).view(torch.int32)


def unpack_rows(words: Tensor, columns: int, digits: int) -> Tensor:
    """Unpack words into int8 trits [rows, columns]."""
    value = words.view(torch.uint8).to(torch.int32)
    if digits == 4:
        parts = [(value >> (2 * k)) & 3 for k in range(4)]
    else:
        parts = []
        for _ in range(5):
            value = (value & 255) * 3
            parts.append(value >> 8)
    return (torch.cat(parts, 1)[:, :columns] - 1).to(torch.int8)


def products_of(words: Tensor, codes: Tensor, digits: int) -> Tensor:
    """Compute ``packed_kernel.products_of`` without a kernel: sums [J, rows] of words [J, rows, W] and codes [J,
    columns], for J matrices."""
    columns = codes.shape[-1]
    trits = torch.stack([unpack_rows(matrix, columns, digits) for matrix in words]).to(torch.float32)
    return (trits @ codes.to(torch.float32).unsqueeze(-1)).squeeze(-1)
