"""Compiles and calls ``compiled_model.cpp``, which computes the integer network for one token of every stream per call.

    compiled_model.cpp ─► c++ ─► cache/models/<inputs>-<content>.so ─► ctypes

The library is compiled once on each kind of processor (about 3 s) and kept under LUTERN_CACHE. Its file name contains
the digest of all inputs, including the compiler's macros, and the digest of its content. So a damaged file, or a file
for another processor, is never loaded. If the library cannot be compiled or stored, ``library`` returns None, and
``fast_model.py`` computes in NumPy.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.activation import SEGMENT_BASE, SEGMENT_SLOPE
from lutern.model_ref.cache_folder import cache_folder
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.cores import own_cores
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import RECIPROCAL_TABLE, RSQRT_TABLE, Int
from lutern.model_ref.input_files import read_plain
from lutern.model_ref.norm import Gains
from lutern.model_ref.output_files import unfinished_folder
from lutern.model_ref.quantise import IntegerLayer, IntegerWeights, Matrix

SOURCE = Path(__file__).with_suffix(".cpp")
_HEADER = SOURCE.with_name("compiled_numbers.h")
_COMPILER = ("c++", "-std=c++17", "-O3", "-fwrapv", "-fPIC", "-pthread")
"""The compiler and its flags. With ``-fwrapv``, integers overflow as in NumPy."""
_OF_PROCESSOR = (("-march=native",), ())
"""Flags for this processor, which are tried in order, because not every compiler accepts -march=native."""
_KEPT = 4
_MOST_BYTES = 1 << 24
_SECONDS = 120
"""The longest time of a compilation, in seconds."""
THREADED_TRITS = 1 << 23
"""A step with at least this many trits, over all streams, uses several cores. In a smaller step, waking the other cores
costs more time than these cores save."""
MOST_THREADS = 8
"""The largest number of cores that are used. More cores do not help, because reading the trits from memory limits the
speed."""
KINDS = ("i", "S", "h", "gate")
"""The tensors whose clipped values are counted, in the order of ``Counts`` in the C++ source."""


class _Float(Structure):
    _fields_ = [("mantissa", c_int64), ("exponent", c_int64)]


class _Gains(Structure):
    _fields_ = [("mantissa", c_void_p), ("exponent", c_void_p)]


class _Matrix(Structure):
    _fields_ = [
        ("packed", c_void_p),
        *((name, c_int64) for name in ("rows", "columns", "row_bytes", "cut", "frac_bits")),
        *((name, _Float) for name in ("k", "e1", "e2")),
        ("gains", _Gains),
    ]


class _Layer(Structure):
    _fields_ = [
        *((name, _Gains) for name in ("x", "v", "y")),
        ("one_minus_lower_bound", c_void_p),
        *((name, _Matrix) for name in ("f", "i", "g", "o", "gate", "down")),
    ]


class _Network(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("layers", "d", "m")),
        ("layer", POINTER(_Layer)),
        ("final_gains", _Gains),
        ("head", _Matrix),
        *((name, c_void_p) for name in ("reciprocal", "rsqrt", "segment_base", "segment_slope")),
    ]


class CompiledNetwork:
    """The weights of a network in the form that the library reads. No trit is copied."""

    def __init__(self, library: ctypes.CDLL, weights: IntegerWeights) -> None:
        self._library = library
        self._config = config = weights.config
        self._kept: list[NDArray[Any]] = []  # the arrays that the structures point to
        self._stages = list(_stages(config))
        self._layers = (_Layer * config.num_hidden_layers)(*map(self._layer, weights.layers))
        outer, (inner,) = weights.final_gains
        self._network = _Network(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            self._layers,
            self._gains(outer),
            self._matrix(weights.lm_head, inner),
            *map(self._pointer, (RECIPROCAL_TABLE, RSQRT_TABLE, SEGMENT_BASE, SEGMENT_SLOPE)),
        )

    def decode(
        self, h: Int, state: Int, traced: bool
    ) -> tuple[Int, tuple[Int, Int], dict[tuple[str, int], int], list[tuple[str, int, Int]]]:
        """Decode one token of every stream. Return the sums, their scale, the number of clipped values by tensor and
        layer, and the trace calls.

        ``h [B, d]`` and ``state [L, B, d]`` are overwritten (B: streams, L: layers, d: hidden size). If ``traced`` is
        not set, the list of trace calls is empty.
        """
        config, streams = self._config, len(h)
        assert h.flags.c_contiguous and state.flags.c_contiguous and h.dtype == state.dtype == np.int64
        trace = np.empty(streams * sum(width for _, _, width in self._stages) if traced else 0, np.int64)
        sums = np.empty((streams, config.vocab_size), np.int64)
        scale = np.empty((2, streams), np.int64)
        counts = np.zeros((config.num_hidden_layers, len(KINDS)), np.int64)
        threads = thread_count() if streams * config.trits >= THREADED_TRITS else 1
        pointers = [array.ctypes.data for array in (h, state, sums, scale, counts)]
        network = ctypes.byref(self._network)
        if self._library.decode(network, streams, threads, *pointers, trace.ctypes.data if traced else None):
            raise MemoryError
        clipped = {
            (kind, index): int(n) for index, row in enumerate(counts) for kind, n in zip(KINDS, row, strict=True)
        }
        found, at = [], 0
        for stage, index, width in self._stages if traced else ():
            found.append((stage, index, trace[at : at + streams * width].reshape(streams, width)))
            at += streams * width
        return sums, (scale[0], scale[1]), clipped, found

    def _layer(self, layer: IntegerLayer) -> _Layer:
        (x, inner), (v, (of_o,)), (y, (of_gate,)), (_, (of_down,)) = (
            layer.x_gains,
            layer.v_gains,
            layer.y_gains,
            layer.w_gains,
        )
        return _Layer(
            *map(self._gains, (x, v, y)),
            self._pointer(layer.one_minus_lower_bound),
            *map(self._matrix, (layer.f_proj, layer.i_proj, layer.g_proj), inner),
            self._matrix(layer.o_proj, of_o),
            self._matrix(layer.gate_proj, of_gate),
            self._matrix(layer.down_proj, of_down),
        )

    def _matrix(self, matrix: Matrix, gains: Gains) -> _Matrix:
        packed, scale = matrix.packed, matrix.scale
        return _Matrix(
            self._pointer(packed.packed, np.uint8),
            packed.rows,
            packed.columns,
            packed.packed.shape[1],
            matrix.cut,
            matrix.frac_bits,
            *(_Float(*constant) for constant in (scale.k, scale.e1, scale.e2)),
            self._gains(gains),
        )

    def _gains(self, gains: Gains) -> _Gains:
        return _Gains(self._pointer(gains.mantissa), self._pointer(gains.exponent))

    def _pointer(self, array: NDArray[Any], kind: type = np.int64) -> int:
        self._kept.append(np.ascontiguousarray(array, kind))
        return int(self._kept[-1].ctypes.data)


def _stages(config: ModelConfig) -> Iterator[tuple[str, int, int]]:
    """Yield the stage, layer and width of each item that the library writes into a trace, in the order of the trace."""
    d, m, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    yield "h", -1, d
    for index in range(layers):
        for stage, width in (*[("codes", d)] * 3, ("S", d), ("codes", d), ("h", d), ("codes", d), ("codes", m)):
            yield stage, index, width
        yield "h", index, d
    yield "codes", layers, d
    yield "sums", layers, config.vocab_size


def thread_count() -> int:
    """Return the number of cores that this process may use, at most ``MOST_THREADS``."""
    return min(own_cores(), MOST_THREADS)


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled network, or None if it is not in the cache and cannot be compiled."""
    try:
        path = _library_path()
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError, LuternError):
        return None
    loaded.decode.argtypes = [POINTER(_Network), c_int64, c_int64, *[c_void_p] * 6]
    loaded.decode.restype = c_int
    return loaded


def _library_path() -> Path:
    """Return the library's file in the cache. If there is no such file, compile the library."""
    folder = cache_folder("models")
    command, macros = _compiler()
    sources = SOURCE.read_bytes() + _HEADER.read_bytes()
    made_from = hashlib.sha256(repr(command).encode() + macros + sources).hexdigest()[:32]
    for path in folder.glob(f"{made_from}-*.so"):
        with contextlib.suppress(LuternError):  # the path is no plain file
            if path.stem == _name(made_from, read_plain(path, _MOST_BYTES, "library")):
                os.utime(path)
                return path
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder) as work:
        made = work / "model.so"
        _run(*command, "-shared", str(SOURCE), "-o", str(made))
        path = made.replace(folder / f"{_name(made_from, made.read_bytes())}.so")
    with contextlib.suppress(OSError):  # another process may remove the same file
        for old in sorted(folder.glob("*.so"), key=lambda item: item.lstat().st_mtime)[:-_KEPT]:
            old.unlink()
    return path


def _compiler() -> tuple[tuple[str, ...], bytes]:
    """Return the compiler's command and macros. The macros name the compiler's version and the processor's
    extensions."""
    *others, last = ((*_COMPILER, *flags) for flags in _OF_PROCESSOR)
    macros = ("-dM", "-E", "-x", "c++", os.devnull)
    for command in others:
        with contextlib.suppress(subprocess.CalledProcessError):
            return command, _run(*command, *macros)
    return last, _run(*last, *macros)


def _name(made_from: str, content: bytes) -> str:
    return f"{made_from}-{hashlib.sha256(content).hexdigest()[:32]}"


def _run(*command: str) -> bytes:
    """Return the output of a program. If an error or a signal ends the wait, the program and its children are also
    ended."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as child:
        try:
            printed = child.communicate(timeout=_SECONDS)[0]
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return printed


__all__ = ["CompiledNetwork", "library", "thread_count"]
