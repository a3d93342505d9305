"""Lets Amaranth write the RTLIL of a machine in less time, and always in the same order.

Amaranth writes the initial value of every memory bit by bit, which takes up to half of the time of a conversion,
and 7 MB of zeros for a large memory. These zeros are not needed, because configuration clears memories, as Verilator's
--x-initial 0 does. Amaranth also lists the clocks of a component in the order of a set, which differs from process to
process, so the digest of equal gateware would differ, too.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import re
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment

_ONE_AT_A_TIME = threading.RLock()
"""Amaranth belongs to all threads, so a thread that ends must not undo what another one has changed."""
_ZERO_MEMORY = re.compile(
    r"^  cell \$meminit_v2 [^\n]*\n(?:    parameter [^\n]*\n|    connect \\(?:ADDR|EN) [^\n]*\n)*"
    r"    connect \\DATA (?:\d+'0+|\{ +\})\n(?:    connect [^\n]*\n)*  end\n",
    re.MULTILINE,
)


@contextlib.contextmanager
def brief_and_ordered() -> Iterator[None]:
    """Change how Amaranth converts to RTLIL while a block runs.

    Initial values that are all 0 become empty, and ``without_zero_memories`` must remove them from the text. The clocks
    that a component does not define become ports in the order of their names, `sync` first. Python's garbage collector
    pauses. Other threads wait before such a block.
    """
    with _ONE_AT_A_TIME, _without_collections(), _changed_amaranth():
        yield


@contextlib.contextmanager
def _changed_amaranth() -> Iterator[None]:
    emit_memory = rtlil.ModuleEmitter.emit_memory
    create_missing_domains = Fragment._create_missing_domains

    def emit_briefly(emitter: Any, index: int, memory: Any) -> None:
        if not any(memory.init):
            memory = copy.copy(memory)
            memory.init = ()
        emit_memory(emitter, index, memory)

    def create_in_order(fragment: Any, *arguments: Any, **options: Any) -> list[ClockDomain]:
        domains = create_missing_domains(fragment, *arguments, **options)
        return sorted(domains, key=lambda domain: (domain.name != "sync", domain.name))

    with (
        mock.patch.object(rtlil.ModuleEmitter, "emit_memory", emit_briefly),
        mock.patch.object(Fragment, "_create_missing_domains", create_in_order),
    ):
        yield


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Pause Python's garbage collector, which takes a quarter of a conversion: a netlist is made of tuples, which it
    visits again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def without_zero_memories(rtlil_text: str) -> str:
    """Return RTLIL without the initial values of memories that are all 0."""
    return _ZERO_MEMORY.sub("", rtlil_text)


__all__ = ["brief_and_ordered", "without_zero_memories"]
