# amaranth: UnusedElaboratable=no
# A component whose simulation is in the cache is never elaborated.
"""Counts the toggles of every net during a token, by block and by layer, in a run on the simulated board.

    prompt ─► run with taps: when the layers end ─► the same run with windows ─► SAIF of each layer ─► Activity

A window is the time of the embedding's row, of a layer or of the head. A net that changes from 0 to 1 or back toggles
once. Values are taken at the two edges of each clock cycle, so glitches within a cycle are not seen. The clock itself
is counted separately. Each net is counted once: a net that enters a block through a port is counted in the block that
drives it, and a net that is an alias of another net is not counted again. The debug taps are left out. Toggles are
counted in the gateware (``Top``) or in the netlist of ECP5 cells that is synthesised from the gateware
(``measure.netlist``). The nets of this netlist are the nets of a chip.

Each machine takes one to five minutes of C++ once. After that, about a thousand cycles/s are simulated.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client
from lutern.firmware.program import Program
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig
from lutern.hw.top import Top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import unfinished_folder
from lutern.sim.board import SimulatedBoard
from lutern.sim.verilate import verilate

PROMPTS = ("once upon a time", "the dog", "a")
"""Prompts after which toggles are counted if no others are given."""
STEPS = 3
"""Steps of the run after the prompt; the windows are in its second step."""
TOP = "top"
CLOCK = "clk"
_MODULE = re.compile(r"^module \\?(\S+?) ?\(([^;]*)\);", re.MULTILINE)
_PART = re.compile(r"(?:\\(\S+) |([A-Za-z_][\w$]*)) *(?:\[(\d+)(?::(\d+))?\])?")
_LINE = re.compile(r"\s*\((?:INSTANCE (\S+)|(\S+) \(T0 .*\(TC (\d+)\)\))|\s*\((DURATION|NET)|\s*(\))")


@dataclass(frozen=True)
class Activity:
    """The toggles in ``cycles`` cycles. ``toggles`` is their number in each block, ``nets`` the number of its nets."""

    name: str
    cycles: int
    toggles: dict[str, int]
    nets: dict[str, int]

    @property
    def total(self) -> int:
        """Number of toggles of all blocks together."""
        return sum(self.toggles.values())


@dataclass(frozen=True)
class Token:
    """The windows of one token of one prompt: the embedding's row, each layer, the head."""

    prompt: str
    windows: list[Activity]

    @property
    def cycles(self) -> int:
        """Cycles from the first element of the embedding's row to the first element of the next token's row."""
        return sum(window.cycles for window in self.windows)

    @property
    def by_block(self) -> dict[str, int]:
        """Number of toggles of the token in each block."""
        found: Counter[str] = Counter()
        for window in self.windows:
            found.update(window.toggles)
        return dict(found)

    @property
    def total(self) -> int:
        """Number of toggles of the whole token."""
        return sum(window.total for window in self.windows)


def ports(verilog_text: str) -> dict[str, set[str]]:
    """Return the names of the ports of every module in a Verilog text."""
    return {name: {port.strip() for port in names.split(",")} for name, names in _MODULE.findall(verilog_text)}


def parse_saif(text: str, known_ports: dict[str, set[str]]) -> tuple[Counter[str], Counter[str]]:
    """Return the numbers of toggles and of nets by instance path (``decoder.norm``) below the top module.

    Of all ports, only the ports of the top module count, because any other port is a net of the module around it.
    Raises ``LuternError`` if there are no nets.
    """
    toggles: Counter[str] = Counter()
    nets: Counter[str] = Counter()
    path: list[str] = []
    depth: list[bool] = []  # whether each open bracket is an instance
    hidden: set[str] = set()
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        instance, net, count, _bracket, closed = found.groups()
        if instance:
            path.append(instance)
            depth.append(True)
            hidden = known_ports.get(".".join(path[1:]), set()) if len(path) > 2 else set()
        elif net:
            name = net.replace("\\", "")
            base = name.split("[")[0]
            if len(path) > 1 and base not in hidden and base != CLOCK and not base.startswith("tap_"):
                toggles[".".join(path[2:])] += int(count)
                nets[".".join(path[2:])] += 1
        elif closed:
            if depth and depth.pop():
                path.pop()
                hidden = known_ports.get(".".join(path[1:]), set()) if len(path) > 2 else set()
        elif line.strip() == "(NET":
            depth.append(False)
    if not toggles:
        raise LuternError("the SAIF file holds no nets; let the run last at least a cycle.")
    return toggles, nets


def block_of(path: str) -> str:
    """Return the block of an instance path or of a flattened name: ``norm`` for ``decoder.norm.quantiser``."""
    parts = [part.split("$")[0] for part in path.split(".")]
    if parts[0] == "decoder":
        return parts[1] if len(parts) > 1 and "__" not in parts[1] else "decoder"  # with "__": a field of a port
    return parts[0] if parts[0] in ("host", "memory") else "top"


def _grouped(counts: Counter[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path, count in counts.items():
        found[block_of(path)] += count
    return dict(sorted(found.items()))


def _run(session: Session, prompt: Sequence[int]) -> None:
    """Run all tokens of the prompt except the last one. The state starts at zero."""
    for place, token in enumerate(prompt[:-1]):
        session.run([Feed(token, fresh=place == 0)], 1)


def layer_edges(program: Program, h_cycles: NDArray[np.uint64]) -> list[int]:
    """Return the cycles in which the windows of a run's second token begin, and the cycle in which the last one ends.

    ``h_cycles`` are the cycles in which h was written. Raises ``LuternError`` if h was not written often enough.
    """
    model, results = program.model_config, program.hw_config.results_per_cycle
    beats = model.hidden_size // results
    token = beats * (1 + 2 * model.num_hidden_layers)
    if len(h_cycles) < 2 * token + 1:
        raise LuternError(
            f"h was written {len(h_cycles)} times in a run of {STEPS} tokens that writes it {STEPS * token} times; "
            "choose a machine with debug_tap."
        )
    places = [token, *(token + beats * (1 + 2 * layer) for layer in range(model.num_hidden_layers + 1))]
    return [int(h_cycles[place - (index > 0)]) + (index > 0) for index, place in enumerate(places)] + [
        int(h_cycles[2 * token])
    ]


def _edges(program: Program, prompt: Sequence[int]) -> list[int]:
    """Return the edges of a token's windows, in cycles since the run began."""
    with SimulatedBoard(Top(program.hw_config)) as board:
        session = Session(Client(board), program)
        _run(session, prompt)
        board.record("h")
        board.taps("h", clear=True)
        start = board.cycles
        session.run([Feed(prompt[-1], fresh=len(prompt) == 1)], STEPS)
        return [edge - start for edge in layer_edges(program, board.taps("h").cycles)]


def count_toggles(
    program: Program, prompts: Mapping[str, Sequence[int]], *, netlist: Path | None = None
) -> list[Token]:
    """Count toggles of the second token after each prompt. If ``netlist`` is given, count in this simulation of cells.

    Raises ``LuternError`` if there is no prompt, or if the run ends too early.
    """
    chip: HwConfig = program.hw_config.with_(debug_tap=False, cells="ecp5") if netlist else program.hw_config
    if not prompts or not all(len(prompt) for prompt in prompts.values()):
        raise LuternError("there is no prompt whose toggles could be counted; give a prompt of at least one token.")
    component = Top(chip)
    library = netlist or verilate(component, toggles=True)
    verilog = (library.parent / "top.v").read_text()
    known, same = ({}, aliases(verilog)) if netlist else (ports(verilog), set[str]())
    names = ["row", *(f"layer {layer}" for layer in range(program.model_config.num_hidden_layers)), "head"]
    found = []
    with unfinished_folder(Path(tempfile.gettempdir())) as folder:
        for prompt_name, prompt in prompts.items():
            edges = _edges(program, prompt)
            traced = SimulatedBoard(component, library=library)
            with traced as board:
                session = Session(Client(board), replace(program, hw_config=chip))
                _run(session, prompt)
                start = board.cycles
                path = Path(folder) / "toggles"
                traced.trace(path, [start + edge for edge in edges])
                session.run([Feed(prompt[-1], fresh=len(prompt) == 1)], STEPS)
                windows = [
                    _activity(
                        name,
                        Path(f"{path}.{index}"),
                        edges[index + 1] - edges[index],
                        (lambda text: parse_flat(text, same)) if netlist else (lambda text: parse_saif(text, known)),
                    )
                    for index, name in enumerate(names)
                ]
            found.append(Token(prompt_name, windows))
    return found


def _activity(
    name: str, path: Path, cycles: int, parse: Callable[[str], tuple[Counter[str], Counter[str]]]
) -> Activity:
    if not path.exists():
        raise LuternError(f"the run ended before {name}; no toggles of it were written.")
    text = path.read_text()
    path.unlink()
    toggles, nets = parse(text)
    return Activity(name, cycles, _grouped(toggles), _grouped(nets))


def aliases(verilog: str) -> set[str]:
    """Return the nets of a netlist's module `top` that an `assign` makes aliases of other nets. A bit of a net is
    written as ``name[3]``."""
    body = verilog.partition(f"module {TOP}(")[2].partition("endmodule")[0]
    found = set()
    for line in body.splitlines():
        if not line.startswith("  assign "):
            continue
        for escaped, plain, high, low in _PART.findall(line[len("  assign ") :].partition("= ")[0]):
            name = escaped or plain
            if high:
                found |= {f"{name}[{bit}]" for bit in range(int(low or high), int(high) + 1)}
            else:
                found.add(name)
    return found


def parse_flat(text: str, same: Set[str] = frozenset()) -> tuple[Counter[str], Counter[str]]:
    """Return the numbers of toggles and of nets of a flattened netlist, by the path in the nets' names. Nets inside
    cells are not counted.

    ``same`` are the nets that are aliases of other nets (``aliases``), and are not counted again. Raises
    ``LuternError`` if there are no nets.
    """
    toggles: Counter[str] = Counter()
    nets: Counter[str] = Counter()
    instances = 0
    depth: list[bool] = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        instance, net, count, _bracket, closed = found.groups()
        if instance:
            instances += 1
            depth.append(True)
        elif net:
            name = net.replace("\\", "")
            # At 2 instances, a net is directly in Verilator's root.
            if instances == 2 and name != CLOCK and not {name, name.rpartition("[")[0]} & same:
                path = name.rpartition(".")[0]
                toggles[path] += int(count)
                nets[path] += 1
        elif closed:
            if depth and depth.pop():
                instances -= 1
        elif line.strip() == "(NET":
            depth.append(False)
    if not toggles:
        raise LuternError("the SAIF file holds no nets; let the run last at least a cycle.")
    return toggles, nets


def zero_share(trits: Sequence[NDArray[np.int8]]) -> float:
    """Return the fraction of zeros among the trits of matrices."""
    return sum(int((matrix == 0).sum()) for matrix in trits) / sum(matrix.size for matrix in trits)
