"""The registers of a machine with AXI4-Lite control. Host and gateware both import this file.

| offset    | name       | read                                      | written                              |
|-----------|------------|-------------------------------------------|--------------------------------------|
| 0x00      | NAME       | ``NAME``                                  | SLVERR                               |
| 0x04      | STATUS     | low half: number of bytes for which DATA  | SLVERR                               |
|           |            | has room; high half: number of bytes that |                                      |
|           |            | wait to be read                           |                                      |
| 0x08      | DATA       | the next byte, and ``HAS_BYTE`` if a byte | a byte; SLVERR if there is no room   |
|           |            | waits                                     |                                      |
| 0x0C      | BUS_ERRORS | number of transactions that were refused  | SLVERR                               |
| 0x10      | PORTS      | number of AXI4 masters, each with a BASE  | SLVERR                               |
| 0x80 + 8k | BASE       | address of port k's words, low 32 bits    | the new address; SLVERR if it is not |
| 0x84 + 8k |            | address of port k's words, high bits      | a multiple of 4,096                  |

All other addresses are answered with SLVERR, and so is the BASE of a master that the machine does not have. An access
that is answered with SLVERR changes nothing.
"""

AXI_ADDRESS_BITS = 40
"""Address bits of the AXI4 masters. The slaves of an UltraScale+ have the same number of address bits."""
BOUNDARY = 4096
"""A burst must not cross an address that is a multiple of this number (AXI4, section A3.4.1)."""
ERROR_COUNT_BITS = 16
CONTROL_ADDRESS_BITS = 12
"""Address bits of the AXI4-Lite slave, which has a page of 4 KiB."""
NAME = int.from_bytes(b"LTRN", "little")
NAME_AT, STATUS_AT, DATA_AT, BUS_ERRORS_AT, PORTS_AT, BASE_AT = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x80
HAS_BYTE = 1 << 8
