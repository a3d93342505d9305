"""What a host and the gateware of a machine with AXI4-Lite control agree upon: registers, and addresses of the bus.

| offset    | name       | read                                      | written                              |
|-----------|------------|-------------------------------------------|--------------------------------------|
| 0x00      | NAME       | ``NAME``                                  | SLVERR                               |
| 0x04      | STATUS     | bytes that have room, above 16 bits those | SLVERR                               |
|           |            | that wait                                 |                                      |
| 0x08      | DATA       | the next byte, ``HAS_BYTE`` if there is   | a byte; SLVERR if it has no room     |
| 0x0C      | BUS_ERRORS | transactions that the bus refused         | SLVERR                               |
| 0x10      | PORTS      | AXI4 masters, each with a BASE            | SLVERR                               |
| 0x80 + 8k | BASE       | low 32 bits of where port k's words begin | the same; SLVERR if no multiple of   |
| 0x84 + 8k |            | its high bits                             | 4,096                                |

All other addresses, and those of masters that the machine has not, are answered with SLVERR. It changes nothing.
"""

AXI_ADDRESS_BITS = 40
"""Of the AXI4 masters, as of an UltraScale+'s slaves."""
BOUNDARY = 4096
"""No burst crosses a multiple of so many bytes: AXI4, A3.4.1."""
ERROR_COUNT_BITS = 16
CONTROL_ADDRESS_BITS = 12
"""A page of 4 KiB."""
NAME = int.from_bytes(b"LTRN", "little")
NAME_AT, STATUS_AT, DATA_AT, BUS_ERRORS_AT, PORTS_AT, BASE_AT = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x80
HAS_BYTE = 1 << 8
