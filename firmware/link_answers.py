"""Checks the length of an answer, because a frame with a correct CRC may still come from other gateware.

    command ─► length of its answer ─► equal ─► the reader of the answer finds every field
                                    └─► different ─► LinkError

check_version compares the version of the protocol.
"""

from __future__ import annotations

from lutern.firmware.link_errors import LinkError
from lutern.hw import protocol
from lutern.hw.protocol import COUNTERS, LOGITS, RUN, Opcode, WireRecord

_FIXED: dict[Opcode, WireRecord] = {
    Opcode.INFO: protocol.INFO,
    Opcode.WRITE: protocol.WRITE_DONE,
    Opcode.CHECKSUM: protocol.CHECKSUM_DONE,
    Opcode.RUN: protocol.RUN_DONE,
    Opcode.LOGITS: protocol.LOGITS_DONE,
    Opcode.MEMORY_TEST: protocol.MEMORY_TEST_DONE,
    Opcode.PHASE: protocol.PHASE_DONE,
    Opcode.LEVEL: protocol.LEVEL_DONE,
    Opcode.DAMAGE: protocol.DAMAGE_DONE,
    Opcode.COUNTERS: protocol.COUNTERS_DONE,
}
_TOKEN_BYTES, _NUMBER_BYTES = 2, 4


def answer_bytes(opcode: Opcode, command: bytes) -> int:
    """Return the number of bytes of payload in the answer to a command whose payload is ``command``."""
    fixed = _FIXED[opcode].byte_count if opcode in _FIXED else 0
    if opcode == Opcode.RUN:
        run = RUN.unpack(command)
        return fixed + _TOKEN_BYTES * int(run["count"] * run["streams"])
    if opcode in (Opcode.LOGITS, Opcode.COUNTERS):
        asked = (LOGITS if opcode == Opcode.LOGITS else COUNTERS).unpack(command)
        return fixed + _NUMBER_BYTES * int(asked["count"])
    return fixed


def check_answer(opcode: Opcode, command: bytes, answer: bytes) -> bytes:
    """Return the payload of an answer; raise ``LinkError`` if its length is not the length for this command."""
    wanted = answer_bytes(opcode, command)
    if len(answer) != wanted:
        raise LinkError(
            f"The board answered {opcode.name} with {len(answer)} bytes, but {wanted} are expected; use gateware and "
            "program of the same release."
        )
    return answer


def check_version(info: bytes) -> None:
    """Raise ``LinkError`` if the first field of an INFO is another version. The other fields are not read."""
    version = int.from_bytes(info[:2], "little")
    if version != protocol.PROTOCOL_VERSION:
        raise LinkError(
            f"The board speaks protocol version {version}, but this program speaks version "
            f"{protocol.PROTOCOL_VERSION}; use gateware and program of the same release."
        )


__all__ = ["answer_bytes", "check_answer", "check_version"]
