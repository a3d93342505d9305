"""This package is the gateware's end of the link to the host: line, frames, commands."""

from lutern.hw.link.axi_lite import AxiControl, control_members
from lutern.hw.link.host_port import HostPort
from lutern.hw.link.uart import LOWEST_DIVISOR, Uart

__all__ = ["LOWEST_DIVISOR", "AxiControl", "HostPort", "Uart", "control_members"]
