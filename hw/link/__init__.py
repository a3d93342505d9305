"""The gateware's end of the link to the host: the line, the frames and the commands."""

from lutern.hw.link.axi_lite import AxiControl, control_members
from lutern.hw.link.host_port import HostPort
from lutern.hw.link.uart import LOWEST_DIVISOR, Uart

__all__ = ["LOWEST_DIVISOR", "AxiControl", "HostPort", "Uart", "control_members"]
