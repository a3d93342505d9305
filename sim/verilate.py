"""Shared libraries that simulate a component: Amaranth ─► Verilog ─► Verilator ─► C++ ─► board.so.

The component has the byte streams `rx` (in) and `tx` (out), or the pins `rx` and `tx` of a serial line and an attribute
`divisor`, which is the number of cycles of a bit. The component may have any number of taps: ports `tap_<name>_valid`
(1 bit) and `tap_<name>_payload` (any width).

A component with an external memory has a second clock, memory_clk, and words that the harness can access. A component
with an attribute `part_timings` contains its memory part (dram.py, or ddr3_pins.py with the second clock tick_clk). The
harness connects a memory of `config.memory_words` words to the port `words` of a component with an attribute
`source_shape` (port_memory.py). The harness accesses words in block RAM by the names of the chip's memories.
harness.cpp is equal for all components. This module writes taps.h, which contains what depends on the component.

The newest few builds are kept by content under LUTERN_CACHE (default ~/.cache/lutern), as boards.cache keeps results. A
build is made in a new folder, which is sealed and renamed at the end. Before a build is used, its files are compared
with their digests. A damaged build is made again.
"""

import contextlib
import errno
import inspect
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

import lutern.hw
import lutern.model_ref
from lutern.boards import cache
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.top import Top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import read_plain
from lutern.model_ref.output_files import clear_unfinished, write_whole
from lutern.sim.convert import convert_rtlil, convert_verilog, digest, list_ports, registered_resets
from lutern.sim.ddr3_phy import MEMORY_TICKS
from lutern.sim.elapsed import elapsed
from lutern.sim.tools import plain_folder, prune, require_compiler, run_program, tail, verilator_environment
from lutern.sim.upsets import with_upsets

LIBRARY, VERILOG = "board.so", "top.v"
_WANTED = LIBRARY, VERILOG
_HARNESS = Path(__file__).with_name("harness.cpp")
_WORDS = Path(__file__).with_name("port_memory.h")
_AXI = Path(__file__).with_name("axi_memory.h")
_SAVED = Path(__file__).with_name("saved_state.h")
_HARNESS_FILES = _HARNESS, _WORDS, _AXI, _SAVED
_RUNTIME = "verilated.o", "verilated_threads.o"
"""Objects of Verilator's runtime. They are compiled once for all components, because they take a third of the time of a
small component."""
_KEPT_BUILDS = 10
_UNKNOWN = "unknown"
_FLAGS = (
    "--cc",
    "--exe",
    "--build",
    "-j",
    "2",
    "--threads",
    "1",
    "--prefix",
    "Vtop",
    "--top-module",
    "top",
    "--Mdir",
    ".",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "0",
    "--noassert",
    "--no-timing",
    "-Wno-fatal",
    "-Wno-lint",
    "-DTICK=top.tick_clk",
    "--output-split-cfuncs",
    "1500",
    "-CFLAGS",
    "-fPIC",
    "-LDFLAGS",
    "-shared",
    "-o",
    LIBRARY,
)
_QUICK_BUILD = "LUTERN_QUICK_BUILD"
"""Environment variable that selects a quick compilation. The tests set it, because they compile many simulations and
run each simulation only briefly."""
_TOGGLE_FLAGS = ("--trace-saif", "--trace-underscore", "-CFLAGS", "-DLUTERN_SAIF")
"""More flags for a simulation that can write the toggles of all nets (see measure.toggles)."""
_SAVABLE_FLAGS = ("--savable", "-CFLAGS", "-DSAVABLE")
"""More flags for a simulation whose state can be written to a file."""
_WAVE_FLAGS = ("--trace-vcd", "-CFLAGS", "-DLUTERN_VCD")
"""More flags for a simulation that can write waves (see waves.py)."""
_OF_TOP_ALONE = ("--trace-depth", "1", "-MAKEFLAGS", "OPT_FAST=-O1")
"""More flags to trace only the nets of `top`. The cells of a netlist contain ten times as many nets. The flags also
select -O1, because with -O2 the compiler takes minutes for each file of a traced netlist."""


@dataclass(frozen=True)
class Part:
    """A model of a memory part: `files` in the folder of this file, and the name of its `words` in the simulation.

    `clock` is the domain that the harness clocks. A cycle of the memory's controller lasts `ticks` cycles of `clock`.
    """

    files: tuple[str, ...]
    words: str
    clock: str = "memory"
    ticks: int = 1


_PARTS = {
    "sdram": Part(("sdram.v",), "model.board.chip.words"),
    "ddr3": Part(("ddr3.v",), "model.part.words"),
    "ddr3_pins": Part(
        ("ddr3.v", "ddr3_pins.v", "ecp5_ddr3_cells.v"), "pads.model.part.words", clock="tick", ticks=MEMORY_TICKS
    ),
}


@dataclass(frozen=True)
class Block:
    """A memory of the chip with words that the harness can access.

    The memory has `rows` rows of `bits` bits. Row k is the word at address `first` + k * `step`.
    """

    place: str
    first: int
    step: int
    rows: int
    bits: int


@dataclass(frozen=True)
class Memory:
    """The memory of a machine: `words` words of `word_bytes` bytes.

    The words are in the model of a `part`, in a memory at the machine's port `words` or at `axi_ports` AXI4 masters, or
    in `blocks` of the chip. The `blocks` may lack some addresses.
    """

    word_bytes: int
    words: int
    part: Part | None = None
    axi_ports: int = 0
    blocks: tuple[Block, ...] = ()

    @property
    def is_port(self) -> bool:
        """Whether the memory is connected to ports of the chip."""
        return self.part is None and not self.blocks

    def has(self, first: int, count: int) -> bool:
        """Return whether the memory has `count` words from `first` on. Parts that a beat lacks count as present."""
        spans = {(block.first & -block.step, block.step * block.rows) for block in self.blocks} or {(0, self.words)}
        return any(begin <= first and first + count <= begin + words for begin, words in spans)


@dataclass(frozen=True)
class Tap:
    """A debug output. The port `payload` is valid in every cycle in which the port `valid` is 1."""

    name: str
    bits: int
    is_signed: bool

    @property
    def byte_count(self) -> int:
        return -(-self.bits // 8)


def list_taps(component: wiring.Component) -> list[Tap]:
    """Return the taps of `component`, in the order of its signature. Raises LuternError if a port of a tap
    is missing."""
    ports = {port.name: port for port in list_ports(component)}
    for name in ("rx__valid", "rx__ready", "rx__payload", "tx__valid", "tx__ready", "tx__payload"):
        if name not in ports and not _is_serial(component) and "s_axi_awaddr" not in ports:
            raise LuternError(
                f"{type(component).__name__} has no port {name}; a simulated board needs the byte streams "
                "rx: In(stream.Signature(8)) and tx: Out(stream.Signature(8))."
            )
    taps = []
    for name, port in ports.items():
        if name.startswith("tap_") and name.endswith("_payload"):
            tap = name.removeprefix("tap_").removesuffix("_payload")
            if f"tap_{tap}_valid" not in ports:
                raise LuternError(f"{type(component).__name__} has the tap {name} but no port tap_{tap}_valid; add it.")
            taps.append(Tap(tap, port.bits, port.is_signed))
    return taps


def _is_serial(component: wiring.Component) -> bool:
    """Return whether rx and tx are pins of a serial line."""
    return {"rx", "tx"} <= {port.name for port in list_ports(component)} and hasattr(component, "divisor")


def cache_folder() -> Path:
    """Return the folder in which builds are kept."""
    return cache.cache_folder("boards")


def _flags(*more: str) -> tuple[str, ...]:
    """Return Verilator's flags.

    With -O2 a simulation is 4 % faster than with -O1, but takes 1.5 times as long to compile. One file takes half as
    long as several files, of which each reads the same headers, but several files are compiled in parallel.
    """
    level, lines = ("-O1", "0") if os.environ.get(_QUICK_BUILD) else ("-O2", "15000")
    optimizations = f"OPT_FAST={level} OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    return (*_FLAGS, "--output-split", lines, "-MAKEFLAGS", optimizations, *more)


def verilate(
    component: wiring.Component,
    *,
    toggles: bool = False,
    waves: bool = False,
    upsets: bool = False,
    savable: bool = False,
) -> Path:
    """Return the path of the shared library of `component`. The library is built if it is not in the cache.

    If `toggles` is true, the library can count toggles, but is slow. If `waves` is true and `toggles` is false, the
    library can write waves. If `upsets` is true, registers and memories can be upset (upsets.py). If `savable` is true,
    the state of the simulation can be saved and restored. Raises LuternError if a compiler is missing or fails.
    """
    header = _header(component, upsets=upsets)
    traced = _TOGGLE_FLAGS if toggles else _WAVE_FLAGS if waves else ()
    flags = _flags(*traced, *(_SAVABLE_FLAGS if savable else ()))
    built_with: tuple[str | bytes, ...] = (*_harness_text(), *_part_text(component), header, *flags, platform.machine())
    known = _known_as(component, *built_with)
    folder = cache_folder() / (_noted(known) if known else _UNKNOWN)
    if not cache.is_whole(folder, _WANTED):
        name = _name_of(component)
        cache.require_writable(cache_folder(), "The simulated board cannot be built")
        with elapsed(f"Compiling {name} (once; kept in {cache_folder()})"):
            rtlil_text = convert_rtlil(component)
            folder = cache_folder() / f"board-{digest(rtlil_text, *built_with)[:32]}"
            if not cache.is_whole(folder, _WANTED):
                require_compiler()
                verilog_text = registered_resets(convert_verilog(rtlil_text))
                verilog_text = with_upsets(verilog_text) if upsets else verilog_text
                _build(name, verilog_text, header, folder, flags, _part_sources(component))
        if known:
            _note(known, folder.name)
    return _used(folder)


def verilate_text(
    component: wiring.Component, make: Callable[[], str], *made_from: str, toggles: bool = False, upsets: bool = False
) -> Path:
    """Return the path of the shared library for the Verilog that `make` returns, a module `top` with the ports of
    `component`.

    A library from the cache is used if it was built with equal `made_from`. If `toggles` is true, the library can count
    the toggles of the nets in `top`, but not below `top`. If `upsets` is true, the Verilog must already have the inputs
    for upsets.
    """
    header = _header(component, upsets=upsets, has_blocks=False)
    flags = _flags(*_TOGGLE_FLAGS, *_OF_TOP_ALONE) if toggles else _flags()
    sources = (*_harness_text(), *_part_text(component))
    key = digest(*made_from, *sources, header, *flags, platform.machine())
    folder = cache_folder() / f"board-{key[:32]}"
    if not cache.is_whole(folder, _WANTED):
        cache.require_writable(cache_folder(), "The simulated board cannot be built")
        require_compiler()
        name = _name_of(component)
        with elapsed(f"Compiling a netlist of {name} (once; kept in {cache_folder()})"):
            _build(name, make(), header, folder, flags, _part_sources(component))
    return _used(folder)


def _name_of(component: wiring.Component) -> str:
    """Return the name of a component's machine, or the name of the component's class if it has no machine."""
    return str(getattr(getattr(component, "config", None), "name", type(component).__name__))


def _used(folder: Path) -> Path:
    """Return the path of the library in a folder of the cache, and mark the folder as the newest."""
    with contextlib.suppress(OSError):
        os.utime(folder)
    clear_unfinished(folder.parent)
    for pattern in ("board-*", "runtime-*"):
        prune(folder.parent, _KEPT_BUILDS, pattern)
    return folder / LIBRARY


def _known_as(component: wiring.Component, *built_with: str | bytes) -> Path | None:
    """Return the path of the note that names the build of a component, so that a second start need not elaborate the
    component.

    The note's name is a digest of everything that determines the gateware: the component's class, the digest of its
    config, the text of all sources that a component may use, and `built_with`. Only a component whose parameters are
    among `config`, `timings` of a memory part and `divisor` of a serial line has a note. The result is None for other
    components.
    """
    config: Any = getattr(component, "config", None)
    parameters = list(inspect.signature(type(component).__init__).parameters)
    if not set(parameters) <= {"self", "config", "divisor", "timings"} or not hasattr(config, "digest"):
        return None
    folders = [Path(lutern.hw.__file__).parent, Path(lutern.model_ref.__file__).parent]
    models = set(Path(__file__).parent.glob("*.py"))
    sources = sorted(models.union(*(folder.rglob("*.py") for folder in folders)))
    sources.append(Path(inspect.getfile(type(component))))
    texts = [text for path in sources for text in (path.name, path.read_bytes())]
    name = f"{type(component).__module__}.{type(component).__qualname__}"
    timings = repr(getattr(component, "timings", None))
    return cache_folder() / f"note-{digest(name, config.digest, timings, *texts, *built_with)[:32]}"


def _note(path: Path, board: str) -> None:
    """Write the note that names the build of a component. The digest in the note shows that the note is whole and
    belongs to this component."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or not path.is_file():
        path.unlink(missing_ok=True)  # without this, the target of a link would be overwritten
    write_whole(path, f"{board} {digest(path.name, board)}")
    for old in cache.newest(cache_folder().name, "note-*")[4 * _KEPT_BUILDS :]:
        with contextlib.suppress(OSError):
            old.unlink()


def _noted(path: Path) -> str:
    """Return the build that a note names; `_UNKNOWN` for a damaged note."""
    try:
        board, check = read_plain(path, 1000, "note").decode().split(" ")
    except (OSError, ValueError, LuternError):
        return _UNKNOWN
    return board if check == digest(path.name, board) else _UNKNOWN


def _header(component: wiring.Component, *, upsets: bool, has_blocks: bool = True) -> str:
    """Return taps.h, the part of the harness that depends on the ports of the component. If `has_blocks` is true,
    taps.h also depends on the names of the chip's memories."""
    taps = list_taps(component)
    names = [tap.name.replace("__", "___05F") for tap in taps]  # as Verilator writes them
    items = " ".join(f"X({i}, {name}, {tap.byte_count})" for i, (name, tap) in enumerate(zip(names, taps, strict=True)))
    line = f"#define BIT_CYCLES {component.divisor}\n" if _is_serial(component) else ""
    line += "#define UPSETS\n" if upsets else ""
    memory = memory_of(component)
    words = "" if memory is None or (memory.blocks and not has_blocks) else _memory_header(component, memory)
    return f"#pragma once\n{line}{words}#define TAP_COUNT {len(taps)}\n#define TAPS(X) {items}\n"


def memory_of(component: wiring.Component) -> Memory | None:
    """Return the memory whose words the simulated board of `component` can access; None if there is no such memory."""
    if isinstance(component, Top) and (blocks := _blocks(component.config)):
        return Memory(component.config.word_bytes, blocks[-1].first + blocks[-1].step * blocks[-1].rows, blocks=blocks)
    timings: Any = getattr(component, "part_timings", None)
    shape: Any = getattr(component, "source_shape", None)
    config: Any = getattr(component, "config", None)
    if timings is not None:
        return Memory(config.word_bytes, timings.words, _PARTS[getattr(component, "part_model", config.memory)])
    if shape is not None:
        return Memory(
            shape.word_bits // 8, config.memory_words, axi_ports=config.memory_ports if config.memory == "axi" else 0
        )
    return None


def _blocks(config: HwConfig) -> tuple[Block, ...]:
    """Return the memories of the chip that store a machine's words (hw/memory/block.py, trit_parts.py)."""
    if config.memory != "block" or config.state == "memory" or config.cells == "ecp5":  # "ecp5" has other banks
        return ()
    found = [Block("memory__DOT__memory", 0, 1, config.memory_words, config.word_bits)]
    if config.source == "resident":
        step = 1 << config.part_bits
        for part, begin in enumerate(range(0, config.beat_bits, config.word_bits)):
            bits = min(config.word_bits, config.beat_bits - begin)
            place = f"memory__DOT__parts__DOT__part_0_{part}"
            found.append(Block(place, TRIT_MEMORY + part, step, config.trit_beats, bits))
    return tuple(found)


def _part_sources(component: wiring.Component) -> list[Path]:
    """Return the source files of the model of the component's memory part."""
    memory = memory_of(component)
    names = () if memory is None or memory.part is None else memory.part.files
    return [Path(__file__).with_name(name) for name in names]


def _harness_text() -> tuple[bytes, ...]:
    return tuple(source.read_bytes() for source in _HARNESS_FILES)


def _part_text(component: wiring.Component) -> tuple[bytes, ...]:
    return tuple(source.read_bytes() for source in _part_sources(component))


def _memory_header(component: wiring.Component, memory: Memory) -> str:
    """Return definitions for the harness: the place and number of a component's words, and the layout of its jobs."""
    lines: dict[str, object] = {"MEMORY_BYTES": memory.word_bytes, "MEMORY_COUNT": f"{memory.words}ull"}
    if memory.blocks:
        items = (f"X(rootp->top__DOT__{b.place}, {b.first}, {b.step}, {b.rows}, {b.bits})" for b in memory.blocks)
        lines["BLOCKS(X)"] = " ".join(items)
        return "".join(f"#define {name} {value}\n" for name, value in lines.items())
    if memory.axi_ports:
        width = memory.word_bytes // memory.axi_ports
        lines |= {"AXI_BYTES": width, "AXI_STROBES": f"{(1 << width) - 1}ull"}
        lines["AXI_PORTS(X)"] = " ".join(f"X({index})" for index in range(memory.axi_ports))
        if hasattr(component, "s_axi_awaddr"):
            lines["AXI_CONTROL"] = ""
        return "".join(f"#define {name} {value}\n" for name, value in lines.items())
    clock = "memory" if memory.part is None else memory.part.clock
    lines |= {"MEMORY_CLOCK": f"{clock}_clk", "MEMORY_RESET": f"{clock}_rst"}
    if memory.part is None:
        shape: Any = component.source_shape
        lines |= {"PORT_MEMORY": "", "JOB_BITS": shape.job.size}
        lines |= {f"JOB_{name.upper()}": f"{field.offset}, {field.width}" for name, field in shape.job}
    else:
        place = memory.part.words.replace(".", "__DOT__")
        lines |= {"PART_WORDS": f"rootp->top__DOT__{place}", "PART_TICKS": memory.part.ticks}
    if "wires" in {port.name for port in list_ports(component)}:
        lines["HAS_WIRES"] = ""
    return "".join(f"#define {name} {value}\n" for name, value in lines.items())


def _build(
    name: str, verilog_text: str, header: str, folder: Path, flags: tuple[str, ...], parts: Sequence[Path] = ()
) -> None:
    cache.keep(folder, _WANTED, lambda work: _compile(name, verilog_text, header, work, flags, parts))


def _compile(
    name: str, verilog_text: str, header: str, work: Path, flags: tuple[str, ...], parts: Sequence[Path]
) -> None:
    """Compile the library in a new folder of the cache."""
    runtime = cache_folder() / f"runtime-{digest(*flags, platform.machine())[:32]}"
    with plain_folder(work) as place:
        (place / VERILOG).write_text(verilog_text)
        (place / "taps.h").write_text(header)
        for source in (*_HARNESS_FILES, *parts):
            shutil.copy(source, place)
        is_compiled = cache.is_whole(runtime, _RUNTIME)
        if is_compiled:
            _copy_runtime(runtime, place)
            flags += ("-MAKEFLAGS", " ".join(f"--assume-old={name}" for name in _RUNTIME))
        command = ["verilator", *flags, "top.v", *(source.name for source in parts), "harness.cpp"]
        with open(place / "build.log", "w") as log:
            environment = {**os.environ, **verilator_environment()}
            status = run_program(command, cwd=place, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if status or not (place / LIBRARY).exists():
            raise _failed(name, status, place / "build.log")
        if not is_compiled:
            cache.keep(runtime, _RUNTIME, lambda folder: _copy_runtime(place, folder))
        for item in place.iterdir():  # sources and objects are many times larger than the library
            if item.name not in (*_WANTED, "taps.h", "build.log"):
                item.unlink()


def _copy_runtime(source: Path, target: Path) -> None:
    for name in _RUNTIME:
        shutil.copy(source / name, target)


def _failed(name: str, status: int, log: Path) -> LuternError:
    """Return the error for a failed compiler. The compiler's log is kept next to the builds, if there is room on the
    disk."""
    if os.strerror(errno.ENOSPC) in log.read_text(errors="replace"):
        return LuternError(
            f"{name} cannot be compiled ({os.strerror(errno.ENOSPC)} in {cache_folder()} or {tempfile.gettempdir()}); "
            "make room, or set LUTERN_CACHE and TMPDIR to other folders."
        )
    kept = cache_folder() / "failed.log"
    with contextlib.suppress(OSError):
        shutil.copy(log, kept)
        log = kept
    return LuternError(
        f"Verilator or the C++ compiler failed on {name} (exit code {status}); read the log:\n{tail(log, 20)}"
    )
