"""The arithmetic of the compiled network, function by function, for random and extreme operands."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref import activation, compiled_model, fixed, norm, ternary
from lutern.model_ref.compiled_model import CompiledNetwork, _Network
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fixed import MANTISSA_MAX, MANTISSA_ONE, S18_MAX, S32_MAX, Int
from lutern.model_ref.packed_trits import PackedTrits
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 3
COUNT = 20_000
# Each function takes the arrays a, b, c, d [n] and writes x, y [n].
WRAPPER = """
#include "compiled_numbers.h"
#define EACH(NAME, ...) extern "C" void NAME(const Network *net, Int n, const Int *a, const Int *b, const Int *c, \\
    const Int *d, Int *x, Int *y) { for (Int j = 0; j < n; j++) { __VA_ARGS__; } }
#define PAIR(VALUE) Float v = VALUE; x[j] = v.mantissa, y[j] = v.exponent
EACH(test_rsh, x[j] = rsh(a[j], b[j]))
EACH(test_saturate, y[j] = 0; x[j] = saturate(a[j], b[j], y[j]))
EACH(test_to_float, PAIR(to_float(a[j])))
EACH(test_multiply, PAIR(multiply({a[j], b[j]}, {c[j], d[j]})))
EACH(test_add, PAIR(add({a[j], b[j]}, {c[j], d[j]})))
EACH(test_reciprocal, x[j] = reciprocal(*net, a[j]))
EACH(test_rsqrt, PAIR(rsqrt(*net, {a[j], b[j]})))
EACH(test_sigmoid, x[j] = sigmoid(*net, a[j], b[j]))
EACH(test_silu, x[j] = silu(*net, a[j], b[j]))
EACH(test_square_sum, SquareSum s; for (Int i = 0; i < c[0]; i++) s.add({a[j * c[0] + i], b[j * c[0] + i]});
    PAIR(s.value()))
EACH(test_scaled, Matrix m = {}; m.cut = c[j]; y[j] = 0; x[j] = Scaled(m, {b[j], d[j]}, 0, S32_MAX)(a[j], y[j]))
extern "C" int32_t test_product(const uint8_t *packed, const int8_t *codes, Int row_bytes) {
    return product(packed, codes, row_bytes);
}
"""


class Numbers:
    """The functions of the header; each takes and returns arrays of int64."""

    def __init__(self, folder: Path) -> None:
        shutil.copy(compiled_model._HEADER, folder)
        (folder / "wrapper.cpp").write_text(WRAPPER)
        command = [*compiled_model._compiler()[0], "-O1", "-shared", "-o", "numbers.so", "wrapper.cpp"]
        subprocess.run(command, cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "numbers.so"))
        config = ModelConfig(vocab_size=2, hidden_size=2, num_hidden_layers=1, intermediate_size=2)
        loaded = compiled_model.library()
        assert loaded is not None
        self.network = CompiledNetwork(loaded, integer_weights(random_checkpoint(config, SEED)))  # sets the tables

    def __call__(self, name: str, *given: Int | int, count: int | None = None) -> tuple[Int, Int]:
        shape = np.broadcast_shapes(*(np.shape(x) for x in given))
        arrays = [np.ascontiguousarray(np.broadcast_to(x, shape), np.int64) for x in given]
        count = count or arrays[0].size
        out = np.zeros((2, count), np.int64)
        function = self.library[f"test_{name}"]
        function.argtypes = [ctypes.POINTER(_Network), ctypes.c_int64, *[ctypes.c_void_p] * 6]
        padded = [*arrays, *[arrays[0]] * (4 - len(arrays))]
        function(self.network._network, count, *(x.ctypes.data for x in padded), out[0].ctypes.data, out[1].ctypes.data)
        return out[0], out[1]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return Numbers(tmp_path_factory.mktemp("numbers"))


def integers(random: np.random.Generator, bits: int, count: int = COUNT) -> Int:
    """Return integers of both signs and of every length up to ``bits`` bits, with the ends of each length."""
    lengths = random.integers(0, bits + 1, count)
    values = random.integers(0, 1 << bits, count) >> (bits - lengths)
    ends = np.concatenate([[0], *((1 << k) + np.array([-1, 0, 1]) for k in range(bits))])
    ends = ends[ends < 1 << bits]
    values[: len(ends)] = ends
    return np.where(random.random(count) < 0.5, -values, values)


def mantissas(random: np.random.Generator) -> Int:
    """Return normalised mantissas that are not negative; many are at an end of the range, and some are 0."""
    values = random.integers(MANTISSA_ONE, MANTISSA_MAX + 1, COUNT)
    return np.where(random.random(COUNT) < 0.3, random.choice([0, MANTISSA_ONE, MANTISSA_MAX], COUNT), values)


def exponents(random: np.random.Generator, most: int = 60) -> Int:
    return random.integers(-most, most + 1, COUNT)


def assert_same(got: tuple[Int, Int], wanted: tuple[Int, Int] | Int) -> None:
    pairs = zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got[0], wanted)]
    for found, value in pairs:
        wrong = np.flatnonzero(found != np.asarray(value).ravel())
        assert not len(wrong), f"seed {SEED}, element {wrong[0]}: {found[wrong[0]]}"


def test_integers(numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    x, shift = integers(random, 52), random.integers(-10, 70, COUNT)
    assert_same(numbers("rsh", x, shift), fixed.rsh(x, shift))
    assert_same(numbers("to_float", x), fixed.to_float(x))
    x = np.concatenate([integers(random, 20), S18_MAX + np.arange(-2, 3), -S18_MAX + np.arange(-2, 3)])
    got, clipped = numbers("saturate", x, S18_MAX)
    counts: list[int] = []
    assert_same((got, got), fixed.saturate(x, S18_MAX, counts.append))
    assert counts == [int(clipped.sum())]


def test_short_floats(numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    a, b = mantissas(random), mantissas(random)
    e, f = exponents(random, 20), exponents(random, 20)
    assert_same(numbers("add", a, e, b, f), fixed.add_float((a, e), (b, f)))
    signed = np.where(random.random(COUNT) < 0.5, -a, a)
    assert_same(numbers("multiply", signed, e, b, f), fixed.multiply_float((signed, e), (b, f)))
    around = 1 << 16 | np.arange(1 << 16)  # products that round up to 2^17 lie at 2^33 and 2^34
    other = (1 << 34) // around
    assert_same(numbers("multiply", around, 0, other, 0), fixed.multiply_float((around, 0), (other, 0)))
    assert_same(numbers("rsqrt", a, e), fixed.rsqrt_float((a, e)))
    assert_same(numbers("reciprocal", a), fixed.reciprocal(a))
    whole = np.arange(1 << 17)
    assert_same(numbers("rsqrt", whole, 1), fixed.rsqrt_float((whole, np.ones_like(whole))))
    assert_same(numbers("reciprocal", whole), fixed.reciprocal(whole))


def test_activations(numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    for frac_bits in range(31):
        x = integers(random, 31)
        assert_same(numbers("sigmoid", x, frac_bits), activation.sigmoid(x, frac_bits))
        x = np.clip(x, -S18_MAX, S18_MAX)
        assert_same(numbers("silu", x, frac_bits), activation.silu(x, frac_bits))
    assert S32_MAX.bit_length() == 31


@pytest.mark.parametrize("length", [1, 7, 8192])
def test_square_sum(length: int, numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    rows = 20_000 // length + 2
    size = rows, length
    mantissa = random.integers(MANTISSA_ONE, MANTISSA_MAX + 1, size) * random.choice([-1, 0, 1], size)
    exponent = random.integers(-32, 18, size)
    mantissa[0], exponent[0] = MANTISSA_MAX, 17
    mantissa[1] = 0
    got = numbers("square_sum", mantissa, exponent, length, count=rows)
    assert_same(got, norm.square_sum((mantissa, exponent)))
    small = random.integers(-2, 3, size)  # sums of fewer than 17 bits
    got = numbers("square_sum", small, 0, length, count=rows)
    assert_same(got, norm.square_sum((small, np.zeros_like(small))))


def test_scaled_sums(numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    sums, mantissa, exponent = integers(random, 20), mantissas(random), exponents(random)
    sums[-1], sums[-2] = 127 * 8192, -127 * 8192
    for cut in range(4):
        counts: list[int] = []
        wanted = ternary.scale_sums(sums[:, None], cut, (mantissa, exponent), 0, S32_MAX, counts.append)
        got, clipped = numbers("scaled", sums, mantissa, cut, exponent)
        assert_same((got, got), wanted)
        assert counts == [int(clipped.sum())]


@pytest.mark.parametrize("columns", [1, 5, 128, 1000, 8192])
def test_products(columns: int, numbers: Numbers) -> None:
    random = np.random.default_rng(SEED)
    trits = random.integers(-1, 2, (6, columns)).astype(np.int8)
    trits[0], trits[1] = 1, -1
    product = numbers.library.test_product
    product.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    packed = PackedTrits.of(trits).packed
    for codes in (np.full(columns, 127), np.full(columns, -127), random.integers(-127, 128, columns)):
        planes = np.zeros((packed.shape[1], 4), np.int8)
        planes.ravel()[:columns] = codes
        planes = np.ascontiguousarray(planes.T)
        for row, wanted in zip(packed, trits.astype(np.int64) @ codes, strict=True):
            got = product(row.ctypes.data, planes.ctypes.data, len(row)) - codes.sum()
            assert got == wanted, f"seed {SEED}"
