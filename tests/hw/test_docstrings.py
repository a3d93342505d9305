"""The docstring of every component has five sections, lists every member, and states the real latency of the class.

    Parameters   Members   Numerics   Latency   Reference          "None." where a section does not apply

A line of Members is ``name : shape, direction``. The shape may be ``8 bits``, ``8 bits signed``, ``stream of 8 bits``
or any other text. Several names may share a line, and a name may end with ``*``. A figure under Latency has two forms::

    ``latency`` = 3 cycles ...
    ``latency`` by ``columns``: 4 for 2, 5 for 4, 6 for 8 and 16.          a field of the config, or a function of it
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.hdl import Shape
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Flow, In, Out

import lutern.hw
from hw_components import FACTORIES, STATE, TINY
from lutern.hw.activation import sigmoid_signature
from lutern.hw.config import HwConfig
from lutern.hw.state_dma import window_signature
from lutern.hw.ternary import TernaryUnit

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

SECTIONS = ("Parameters", "Members", "Numerics", "Latency", "Reference")
DIRECTION = {Flow.In: "input", Flow.Out: "output"}
LINE = re.compile(r"^(\S.*?) : (.+)$", re.MULTILINE)
"""A line of the section Members, which describes one member or several members."""
BITS = re.compile(r"(stream of )?(\d+) bits?( signed)?")
FIGURE = re.compile(r"``(\w+)`` = (\d+)")
TABLE = re.compile(r"``(\w+)`` by ``(\w+)``: ([^.]+)\.")


def components() -> set[type[wiring.Component]]:
    """Return all components of the gateware."""
    modules = [importlib.import_module(info.name) for info in pkgutil.walk_packages(lutern.hw.__path__, "lutern.hw.")]
    classes = [(module.__name__, value) for module in modules for value in vars(module).values()]
    return {
        value
        for module, value in classes
        if inspect.isclass(value) and issubclass(value, wiring.Component) and value.__module__ == module
    }


def sections(component: Any) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring, and the text of each section by its title, in order."""
    first, *rest = re.split(r"^(\w+)\n-{3,}$", inspect.cleandoc(component.__doc__ or ""), flags=re.MULTILINE)
    titles = (title.strip() for title in rest[::2])
    return first.partition("\n\n")[0].strip(), dict(zip(titles, (text.strip() for text in rest[1::2]), strict=True))


def wrong_sections(component: type) -> Iterator[str]:
    """Yield a sentence for each error in the sections."""
    first, found = sections(component)
    if len(first.split()) < 3 or not first.endswith("."):
        yield f"it begins with {first!r}; begin with a sentence"
    if tuple(found) != SECTIONS:
        yield f"its sections are {', '.join(found) or 'none'}; give {', '.join(SECTIONS)}"
    yield from (f"{title} is empty; write None. if it does not apply" for title, text in found.items() if not text)


def wrong_members(component: Any, instances: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for each error in Members, compared with the signatures of all instances."""
    members = [item for instance in instances for item in instance.signature.members.items()]
    named = []
    for left, right in LINE.findall(sections(component)[1].get("Members", "")):
        names = [name.split()[0] for name in left.split(",")]
        named += names
        some = [(name, member) for name, member in members if any(fnmatchcase(name, each) for each in names)]
        flows = {DIRECTION[member.flow] for _, member in some}
        said = set(re.findall(r", (input|output)\b", right)[:1])
        if len(flows) == 1 and said != flows:
            yield f"{left} is an {flows.pop()}; its line says {' or '.join(said) or 'no direction'}"
        yield from (f"{name} is {right}, and has {held}" for name, held in wrong_bits(right, some))
    names_of_members = {name for name, _ in members}
    for name in sorted(names_of_members):
        if not any(fnmatchcase(name, each) for each in named):
            yield f"{name} is a member that Members does not name"
    yield from (f"{each} is no member" for each in named if not any(fnmatchcase(n, each) for n in names_of_members))


def wrong_bits(text: str, some: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the shape of each member whose shape differs from a text of the form ``BITS``."""
    said = BITS.fullmatch(re.split(r", (?:always ready, )?(?:input|output)", text)[0])
    for name, member in some if said else ():
        shape = member.signature if member.is_signature else member.shape
        is_stream = isinstance(shape, stream.Signature)
        held = Shape.cast(shape.members["payload"].shape if is_stream else shape) if not member.dimensions else None
        wanted = (is_stream, held and held.width, bool(held and held.signed))
        if said and wanted != (bool(said[1]), int(said[2]), bool(said[3])):
            yield name, f"{'stream of ' if is_stream else ''}{held}"


def entries(text: str) -> dict[str, int]:
    """Return the cycles of a table such as "5 for 4, 6 for 8 and 16", by the key that follows "for"."""
    found = {}
    for clause in re.split(r",\s+", text):
        cycles, keys = re.fullmatch(r"(\d+)\s+for\s+(.+)", clause).groups()  # type: ignore[union-attr]
        found |= dict.fromkeys(re.split(r"\s+and\s+", keys), int(cycles))
    return found


def key_of(instance: Any, key: str) -> str:
    """Return a field of the instance's config, or the result of a function of its class for that config. The fields of
    an instance without config are its own."""
    config = getattr(instance, "config", instance)
    return str(getattr(config, key) if hasattr(config, key) else getattr(instance, key)(config))


def wrong_latencies(component: type, instances: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for each wrong figure under Latency."""
    text = sections(component)[1].get("Latency", "")
    figures = FIGURE.findall(text)
    tables = [(name, key, entries(cycles)) for name, key, cycles in TABLE.findall(text)]
    for name, cycles in figures:
        real = {getattr(instance, name, None) for instance in instances}
        if real != {int(cycles)}:
            yield f"{name} is said to be {cycles}, and is {real}"
    for name, key, said in tables:
        is_ = {key_of(instance, key): getattr(instance, name, None) for instance in instances}
        if is_ != said:
            yield f"{name} by {key} is said to be {said}, and is {is_}"
    stated = {name for name, *_ in [*figures, *tables]}
    if hasattr(instances[0], "latency") and "latency" not in stated:
        yield "it has an attribute latency; write ``latency`` = N or ``latency`` by ``FIELD``: N for VALUE, ..."


def test_every_component_has_a_factory() -> None:
    missing = {f"{component.__module__}.{component.__name__}" for component in components() - set(FACTORIES)}
    assert not missing, f"add these components to FACTORIES: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("component", FACTORIES, ids=lambda component: component.__name__)
def test_docstring(component: type[wiring.Component]) -> None:
    instances = FACTORIES[component]()
    wrong = [*wrong_sections(component), *wrong_members(component, instances), *wrong_latencies(component, instances)]
    where = f"{component.__module__}.{component.__name__}"
    assert not wrong, "\n".join(f"{where}: {sentence}" for sentence in wrong)


@pytest.mark.parametrize("function", [sigmoid_signature, window_signature])
def test_docstring_of_a_signature(function: Callable[[HwConfig], wiring.Signature]) -> None:
    wrong = [*wrong_members(function, [SimpleNamespace(signature=function(STATE))])]
    assert not wrong, "\n".join(f"{function.__name__}: {sentence}" for sentence in wrong)


GOOD = """Adds one to a number.

    Parameters
    ----------
    None.

    Members
    -------
    a, b_* : 8 bits, input
        Numbers.
    i : stream of 4 bits signed, input
        More numbers.
    o : P values, output, with ``debug_tap``
        The sum.

    Numerics
    --------
    Exact.

    Latency
    -------
    ``latency`` = 2 cycles.

    Reference
    ---------
    None.
    """


class Example(wiring.Component):
    __doc__ = GOOD
    latency = 2

    def __init__(self) -> None:
        super().__init__(
            {"a": In(8), "b_0": In(8), "b_1": In(8), "i": In(stream.Signature(Shape(4, True))), "o": Out(9)}
        )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("Exact.", "Exact.", ""),
        ("Adds one to a number.", "See above.", "begin with a sentence"),
        ("Numerics\n    --------\n    Exact.\n", "", "its sections are Parameters, Members, Latency, Reference;"),
        ("Exact.", "", "Numerics is empty"),
        ("a, b_* :", "b_* :", "a is a member that Members does not name"),
        ("a, b_* :", "a, b_*, c :", "c is no member"),
        ("P values, output", "P values, input", "o is an output; its line says input"),
        ("P values, output", "P values", "o is an output; its line says no direction"),
        ("8 bits", "9 bits", "a is 9 bits, input, and has unsigned(8)"),
        ("stream of 4 bits signed", "stream of 4 bits", "i is stream of 4 bits, input, and has stream of signed(4)"),
        ("``latency`` = 2", "``latency`` = 3", "latency is said to be 3, and is {2}"),
        ("``latency`` = 2", "2", "it has an attribute latency"),
    ],
)
def test_docstring_checks_can_fail(monkeypatch: pytest.MonkeyPatch, old: str, new: str, sentence: str) -> None:
    assert GOOD.count(old) == 1
    monkeypatch.setattr(Example, "__doc__", GOOD.replace(old, new))
    instances = [Example()]
    wrong = [*wrong_sections(Example), *wrong_members(Example, instances), *wrong_latencies(Example, instances)]
    assert bool(wrong) == bool(sentence)
    assert not sentence or any(sentence in found for found in wrong), wrong


@pytest.mark.parametrize(
    ("table", "is_right"),
    [("4 for 2, 6 for 8 and 16", True), ("4 for 2, 6 for 8", False), ("5 for 2, 6 for 8 and 16", False)],
)
def test_a_table_can_fail(monkeypatch: pytest.MonkeyPatch, table: str, is_right: bool) -> None:
    text = GOOD.replace("``latency`` = 2 cycles.", f"``latency`` by ``columns``: {table}. It counts cycles.")
    monkeypatch.setattr(TernaryUnit, "__doc__", text)
    instances = [TernaryUnit(TINY.with_(columns=columns)) for columns in (2, 8, 16)]
    assert bool([*wrong_latencies(TernaryUnit, instances)]) != is_right
