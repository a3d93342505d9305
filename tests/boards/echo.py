"""A chip without a machine, which is built in seconds. It sends back the bytes that come over the serial line.

If this file is run as a program, it is `lutern` with this chip in place of every machine.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

import lutern.boards.system
from lutern.cli.main import main
from lutern.hw.pipeline import join_streams


class Echo(wiring.Component):
    """A block that sends bytes back. Members: ``rx`` and ``tx``, as in ``Top``."""

    def __init__(self, *_: Any) -> None:
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        join_streams(m, self.rx, self.tx)
        return m


if __name__ == "__main__":
    lutern.boards.system.Top = Echo  # type: ignore[assignment, misc]
    main()
