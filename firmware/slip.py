"""Encodes and decodes frames for the host, as hw/link/slip.py does in the gateware.

`encode_frame` makes a frame. `FrameDecoder` finds frames in a stream of bytes, which may be cut anywhere, and drops
damaged frames. hw/protocol.py has the formats.

Reference: RFC 1055.
"""

from typing import NamedTuple

from lutern.hw.protocol import CRC_BYTES, END, ESC, ESC_END, ESC_ESC, FRAME_BYTES, HEADER_BYTES, crc32c

_END, _ESC = bytes([END]), bytes([ESC])
_ESCAPED_END, _ESCAPED_ESC = bytes([ESC, ESC_END]), bytes([ESC, ESC_ESC])


class Frame(NamedTuple):
    """The content of a frame, checked and without its CRC."""

    opcode: int
    sequence: int
    payload: bytes


def encode_frame(opcode: int, sequence: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame, from END to END."""
    body = bytes([opcode, sequence]) + payload
    body += crc32c(body).to_bytes(CRC_BYTES, "little")
    return _END + body.replace(_ESC, _ESCAPED_ESC).replace(_END, _ESCAPED_END) + _END


def decode_body(body: bytes) -> Frame | None:
    """Return the frame in the bytes between two END bytes; None if these bytes are damaged."""
    raw = body
    if _ESC in body:
        if any(part[:1] not in (b"\xdc", b"\xdd") for part in body.split(_ESC)[1:]):
            return None  # an ESC before a byte that is never escaped
        raw = body.replace(_ESCAPED_END, _END).replace(_ESCAPED_ESC, _ESC)
    if not HEADER_BYTES + CRC_BYTES <= len(raw) <= FRAME_BYTES:
        return None
    if crc32c(raw[:-CRC_BYTES]) != int.from_bytes(raw[-CRC_BYTES:], "little"):
        return None
    return Frame(raw[0], raw[1], raw[HEADER_BYTES:-CRC_BYTES])


class FrameDecoder:
    """Splits a byte stream into frames. `dropped_count` counts the damaged frames."""

    def __init__(self) -> None:
        self.dropped_count = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        *bodies, self._rest = (self._rest + data).split(_END)
        if len(self._rest) > 2 * FRAME_BYTES:  # a line that sends bytes without END must not fill the memory
            self._rest = self._rest[: 2 * FRAME_BYTES]
        frames = []
        for body in filter(None, bodies):
            frame = decode_body(body)
            if frame is None:
                self.dropped_count += 1
            else:
                frames.append(frame)
        return frames

    def clear(self) -> None:
        """Forget an unfinished frame."""
        self._rest = b""
