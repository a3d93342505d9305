"""Decodes recorded sessions of the link: a second implementation, written from docs/protocol.md alone.

    recording ─► lines of bytes ─► frames of each direction ─► one line for each frame, then a summary

This module imports nothing from the host's or the chip's end of the link, so either end can be compared with this
module.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lutern.model_ref.errors import LuternError

HEAD = "lutern link record 1"
DIRECTIONS = ("<", ">", "=")
MOST_OF_LINE = 10**9
"""Limit of the seconds (31 years) and of the baud rates in a recording."""
END, ESCAPE = 0xC0, 0xDB
ESCAPED = {0xDC: 0xC0, 0xDD: 0xDB}
FEWEST, MOST = 6, 526
ANSWER, ERROR = 0x80, 0xFF
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "16 bytes": "16s"}


@dataclass(frozen=True)
class Shape:
    """The shape of a payload: ``fields`` of fixed length, written as in docs/protocol.md, and then any number of
    items. ``rest`` is (name of the items, bytes per item)."""

    fields: str = ""
    rest: tuple[str, int] | None = None

    def names_and_format(self) -> tuple[list[str], str]:
        """Return the names of the fields, and their format for ``struct``."""
        pairs = [entry.strip().split(" ", 1) for entry in self.fields.split(",") if entry.strip()]
        return [name for name, _ in pairs], "<" + "".join(CODES[kind] for _, kind in pairs)


WORDS = ("bytes of words", 1)
RANGE = "address u32, count u32"
NAMES = {
    0x01: "INFO",
    0x02: "WRITE",
    0x03: "CHECKSUM",
    0x04: "SETUP",
    0x05: "RUN",
    0x06: "LOGITS",
    0x07: "RECORDS",
    0x08: "MEMORY_TEST",
    0x09: "PHASE",
    0x0A: "ROW",
    0x0B: "COUNTERS",
    0x0C: "LEVEL",
    0x0D: "DAMAGE",
}
COMMANDS = {
    0x01: Shape(),
    0x02: Shape("address u32", WORDS),
    0x03: Shape(RANGE),
    0x04: Shape(
        "record_words u32, trit_beats u32, embedding_base u32, embedding_row_words u16, embedding_stride u16, "
        "embedding_bits u8, state_base u32, state_words u16, layers u16, vocab u16, "
        "image u32, trit_state u64, step_limit u16"
    ),
    0x05: Shape("count u16, temperature u16, streams u8, chained u8", ("feeds", 11)),
    0x06: Shape("stream u8, offset u16, count u16"),
    0x07: Shape("offset u32", WORDS),
    0x08: Shape("first u32, count u32"),
    0x09: Shape("steps i16"),
    0x0A: Shape("place u16, row u16", WORDS),
    0x0B: Shape("offset u16, count u16"),
    0x0C: Shape("byte u8, delay u8, slip u8"),
    0x0D: Shape(),
}
ANSWERS = {
    0x01: Shape(
        "protocol_version u16, word_bytes u16, rows u16, columns u16, streams u8, results_per_cycle u8, "
        "codes_per_cycle u8, memory_words u32, trit_beats u32, max_width u16, max_state u32, max_vocab u16, "
        "clock_hz u32, hw_digest 16 bytes, dropped_frames u32"
    ),
    0x02: Shape("next_address u32"),
    0x03: Shape("crc u32"),
    0x04: Shape(),
    0x05: Shape("count u16, cycles u32, beats u32, words u32, saturations u16", ("tokens", 2)),
    0x06: Shape("scale_mantissa u32, scale_exponent i16", ("sums", 4)),
    0x07: Shape("offset u32, taken u32, row u16, place u16, token u16"),  # WANT
    0x08: Shape("errors u32, address u32, wanted u32, got u32, cycles u32, wrong_bytes u8"),
    0x09: Shape("place i16"),
    0x0B: Shape("phases u16", ("numbers", 4)),
    0x0C: Shape("burst_seen u8"),
    0x0D: Shape("count u16, kind u8, place u32"),
}
ERRORS = {
    1: "UNKNOWN_OPCODE",
    2: "BAD_LENGTH",
    3: "BAD_ADDRESS",
    4: "BAD_COUNT",
    5: "NOT_SET_UP",
    6: "BAD_TOKEN",
    7: "BAD_SETUP",
    8: "NOT_AVAILABLE",
    9: "BUSY",
    10: "MEMORY_SILENT",
    11: "MEMORY_DISORDER",
    12: "RUN_TOO_LONG",
    13: "WEIGHTS_DAMAGED",
    14: "MEMORY_REFUSED",
}


def crc32c(data: bytes) -> int:
    """Return CRC-32C of ``data``, by a table with one entry for each value of a byte."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


_TABLE = [_entry(byte) for byte in range(256)]


@dataclass
class Deframer:
    """Splits the bytes of one direction into bodies between ENDs, and reports why a body is damaged."""

    _body: bytearray = field(default_factory=bytearray)
    _is_escaped: bool = False
    _fault: str = ""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Yield (body, "") for each frame that ends in ``data``. The body is opcode, sequence number and payload.

        For a damaged frame, yield (b"", what is wrong with the frame).
        """
        for byte in data:
            if byte == END:
                if self._body or self._is_escaped or self._fault:
                    yield self._ended()
                self._body, self._is_escaped, self._fault = bytearray(), False, ""
            elif self._is_escaped:
                self._is_escaped = False
                if byte not in ESCAPED:
                    self._fault = self._fault or f"0xDB before 0x{byte:02X}"
                self._body.append(ESCAPED.get(byte, byte))
            elif byte == ESCAPE:
                self._is_escaped = True
            elif len(self._body) <= MOST:  # a line without END must not fill the memory
                self._body.append(byte)

    def _ended(self) -> tuple[bytes, str]:
        body = bytes(self._body)
        if self._is_escaped:
            return b"", "0xDB before END"
        if self._fault:
            return b"", self._fault
        if not FEWEST <= len(body) <= MOST:
            return b"", f"{len(body)} bytes" if len(body) < FEWEST else f"more than {MOST} bytes"
        wanted, found = crc32c(body[:-4]), int.from_bytes(body[-4:], "little")
        if wanted != found:
            return b"", f"CRC {found:08x}, {wanted:08x} wanted, {len(body)} bytes"
        return body[:-4], ""


def describe(body: bytes, to_board: bool) -> str:
    """Return a text that describes one frame."""
    opcode, sequence, payload = body[0], body[1], body[2:]
    if to_board:
        shapes, number, name = COMMANDS, opcode, NAMES.get(opcode)
    else:
        if opcode == ERROR:
            code = payload[0] if len(payload) == 1 else None
            return f"{sequence:3} ERROR {ERRORS.get(code, code) if code is not None else f'of {len(payload)} bytes'}"
        shapes, number = ANSWERS, opcode - ANSWER
        name = "WANT" if number == 0x07 else NAMES.get(number)
    shape = shapes.get(number)
    if name is None or shape is None:
        return f"{sequence:3} unknown opcode 0x{opcode:02X}, {len(payload)} bytes"
    return f"{sequence:3} {name} {_fields(shape, payload)}".rstrip()


def _fields(shape: Shape, payload: bytes) -> str:
    names, layout = shape.names_and_format()
    size = struct.calcsize(layout)
    rest = len(payload) - size
    if rest < 0 or (rest and (shape.rest is None or rest % shape.rest[1])):
        return f"of a wrong length, {len(payload)} bytes"
    values = struct.unpack_from(layout, payload)
    texts = [
        f"{name}={value.hex() if isinstance(value, bytes) else f'{value:08x}' if name == 'crc' else value}"
        for name, value in zip(names, values, strict=True)
    ]
    if shape.rest is not None:
        texts.append(f"+ {rest // shape.rest[1]} {shape.rest[0]}")
    return " ".join(texts)


def pieces(lines: Iterable[str]) -> Iterator[tuple[float, str, str]]:
    """Yield (seconds, direction, bytes or baud rate) of each line of a recording."""
    source = iter(lines)
    head = next(source, "").rstrip("\n")
    if head != HEAD:
        raise LuternError(
            f"line 1 is {head[:40]!r}, but a recording begins with {HEAD!r}; give a file written by --record."
        )
    for number, line in enumerate(source, 2):
        parts = line.split()
        try:
            seconds, direction, rest = float(parts[0]), parts[1], parts[2]
            if direction not in DIRECTIONS or len(parts) != 3 or not 0 <= seconds < MOST_OF_LINE:
                raise ValueError
            if direction != "=":
                bytes.fromhex(rest)
            elif not 0 < int(rest) < MOST_OF_LINE:
                raise ValueError
        except (ValueError, IndexError):
            raise LuternError(
                f"line {number} is {line[:40].rstrip()!r}, but it must be seconds, one of < > = and bytes in "
                "hexadecimal or a baud rate; give a file written by --record."
            ) from None
        yield seconds, direction, rest


def dump(lines: Iterable[str]) -> Iterator[str]:
    """Yield a line for each frame of a recording and each change of the baud rate, then a summary."""
    deframers = {">": Deframer(), "<": Deframer()}
    counts: Counter[tuple[str, bool]] = Counter()
    again_count = 0
    asked: dict[int, bytes] = {}
    for seconds, direction, rest in pieces(lines):
        if direction == "=":
            yield f"{seconds:12.6f} = {int(rest):,} baud"
            continue
        for body, fault in deframers[direction].feed(bytes.fromhex(rest)):
            counts[direction, not fault] += 1
            if fault:
                yield f"{seconds:12.6f} {direction} damaged: {fault}"
                continue
            again = ""
            if direction == ">":
                again = " (again)" if asked.get(body[1]) == body else ""
                again_count += bool(again)
                asked[body[1]] = body
            yield f"{seconds:12.6f} {direction} {describe(body, direction == '>')}{again}"
    yield (
        f"to the board: {counts['>', True]:,} frames, {again_count:,} of them sent again, "
        f"{counts['>', False]:,} damaged; from the board: {counts['<', True]:,} frames, {counts['<', False]:,} damaged"
    )


__all__ = ["ANSWERS", "COMMANDS", "ERRORS", "NAMES", "Deframer", "crc32c", "describe", "dump"]
