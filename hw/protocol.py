"""The framed protocol between host and gateware: opcodes, records and limits. Host and gateware both import this file.

    END │ opcode u8 │ sequence u8 │ payload 0..520 bytes │ CRC-32C u32 │ END          all numbers little endian
          └────────────── the CRC covers these bytes ──┘

Between the two END bytes SLIP (RFC 1055) writes a byte END as ESC ESC_END and a byte ESC as ESC ESC_ESC. The gateware
sends one response to every command, with the sequence number of the command. The opcode of the response is the opcode
of the command | 0x80, or Opcode.ERROR with one byte of ErrorCode. A frame that is too short, too long or wrongly
escaped, or that has a wrong CRC, is dropped. The gateware counts dropped frames modulo 2^16. The next END synchronises
host and gateware again.

| command  | payload                                     | payload of the response                               |
|----------|---------------------------------------------|-------------------------------------------------------|
| INFO     |                                             | INFO                                                  |
| WRITE    | address u32, k ≥ 1 words of word_bytes each | the address after the last word written, u32          |
| CHECKSUM | address u32, count u32                      | CRC-32C of the bytes of those words, read back, u32   |
| SETUP    | SETUP                                       |                                                       |
| RUN      | RUN, then RUN.streams times FEED            | RUN_DONE, then RUN_DONE.count tokens of u16           |
| LOGITS   | LOGITS                                      | LOGITS_DONE, then LOGITS.count sums of i32            |
| MEMORY_TEST | MEMORY_TEST, a range of words            | MEMORY_TEST_DONE; the words are lost                  |
| PHASE    | PHASE, steps of the SDRAM's clock           | PHASE_DONE, the sum of all steps                      |
| LEVEL    | LEVEL, delay and slip of the reads of a byte| LEVEL_DONE, a bit for each byte whose strobe was seen |
| DAMAGE   |                                             | DAMAGE_DONE, what was wrong when a RUN failed         |
| COUNTERS | COUNTERS                                    | COUNTERS_DONE, then COUNTERS.count numbers of u32     |
| RECORDS  | offset u32, k ≥ 1 words of the record stream| none; see below                                       |
| ROW      | place u16, row u16, k ≥ 1 words of a row    | none; see below                                       |

Addresses and counts of memory are in words. The first byte of a word is its bits 7..0. Addresses from
``config.TRIT_MEMORY`` on name parts of beats. WRITE, CHECKSUM, MEMORY_TEST and LEVEL stop the machine. SETUP starts the
machine, which then reads ahead.

The response to MEMORY_TEST is NOT_AVAILABLE if the words are inside the chip. The response to PHASE is NOT_AVAILABLE if
the words are not in SDRAM. If the memory does not answer, or answers out of order, the response to every command that
needs the memory is MEMORY_SILENT or MEMORY_DISORDER until a reset. Only machines with DDR3 support LEVEL. The response
to LEVEL covers the reads since the previous LEVEL. Only machines with counters support COUNTERS. Each phase of the last
token has COUNTER_STRIDE numbers, and ``COUNTER_NAMES`` names the first of these numbers.

A RUN advances ``streams`` conversations, with one FEED for each conversation, and chooses ``count`` tokens for each
conversation. A RUN is executed step by step, and in each step stream 0 comes first. If ``chained`` is 1, all streams
are one conversation, the FEEDs are the tokens of this conversation in order, and ``count`` is 1. On a machine that
stores only the k largest logits (``top_k``), LOGITS reads 2 k items for each stream: sum, token, sum, token and so on.

A command with the sequence number and the CRC of the previous command is a resend. The gateware does not execute a
resent RUN again, but sends the stored response again. All other commands may be executed twice without harm, but the
response to a resent LEVEL covers no reads. The gateware accepts commands during a RUN. If the same RUN arrives again,
the response follows when the RUN ends. A different RUN is refused.

RECORDS and ROW exist only on machines with memory "host". The host sends the words of such a machine for every token
(hw/memory/host.py). RECORDS and ROW have no response, and the rule for resends ignores them. A machine with memory
"host" has no memory for WRITE. Such a machine also sends frames that answer no command: opcode RECORDS | 0x80, the
sequence number of the last RECORDS or ROW that arrived, and WANT.

Reference: RFC 1055 (SLIP); CRC-32C as in RFC 3720, CRC-32/ISCSI in the catalogue of amaranth.lib.crc.
"""

import struct
from enum import IntEnum
from typing import Any

import google_crc32c
import numpy as np
from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data
from numpy.typing import NDArray

PROTOCOL_VERSION = 7

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD  # RFC 1055
RESPONSE = 0x80  # set in the opcode of a response
HEADER_BYTES = 2  # opcode, sequence
CRC_BYTES = 4
CHUNK_BYTES = 512  # CRC-32C finds all errors of up to 5 bits in frames of this length (Koopman 2002)
PAYLOAD_BYTES = CHUNK_BYTES + 8
FRAME_BYTES = HEADER_BYTES + PAYLOAD_BYTES + CRC_BYTES  # before escaping
RUN_TOKENS = 128  # largest number of tokens of one RUN, the sum over all streams
LOGITS_COUNT = 128  # largest number of sums of one LOGITS, because 128 sums of 4 bytes fill a chunk
LANE_COUNTERS = ("beats", "barrier", "codes", "trits", "sums")
"""Causes of the lanes. Each cycle counts for one cause:

- beats: the lanes take a beat of trits.
- barrier: no code of the next vector is written yet.
- codes: the first row group waits for further codes.
- trits: no trits are available.
- sums: the sums of the previous row group are not in the drain yet (hw/ternary.py).
"""
RECORD_COUNTERS = ("words", "memory", "operations", "gains", "trit_fifo")
"""Causes of the record stream. Each cycle counts for one cause:

- words: the decoder takes a word.
- memory: the memory supplies no word.
- operations: the queues of operations stall the word.
- gains: the FIFO of gains stalls the word.
- trit_fifo: the FIFO of trits stalls the word.
"""
COUNTER_NAMES = (*LANE_COUNTERS, *RECORD_COUNTERS)
COUNTER_STRIDE = 16
COUNTERS_COUNT = 128  # largest number of counters in one COUNTERS
LEVEL_DELAYS = 8
"""Number of delays that the reads of a byte from DDR3 can have. One step is a quarter of a cycle of the DRAM's
clock."""
LEVEL_SLIPS = 4
"""Number of slips. A slip is the number of DDR3 beats by which the word of a byte begins later within a cycle."""
WRONG_BYTES = 8
"""Number of bytes of a word that the march test distinguishes. In wider words, bytes that share data pins count
together."""
STEP_LIMIT_CYCLES = 1 << 12
"""Unit of the limit of a step. A step that exceeds its limit ends the RUN with RUN_TOO_LONG."""
DIGEST_BYTES = 16


class Opcode(IntEnum):
    """Names the commands of the host.

    The table in this module's docstring lists the payloads. ERROR is the opcode of a response only.
    """

    INFO = 0x01
    WRITE = 0x02
    CHECKSUM = 0x03
    SETUP = 0x04
    RUN = 0x05
    LOGITS = 0x06
    RECORDS = 0x07
    MEMORY_TEST = 0x08
    PHASE = 0x09
    ROW = 0x0A
    COUNTERS = 0x0B
    LEVEL = 0x0C
    DAMAGE = 0x0D
    ERROR = 0xFF  # response only


class ErrorCode(IntEnum):
    """Names the reason for which the gateware refused a command that arrived intact, or ended a RUN.

    Members
    -------
    UNKNOWN_OPCODE
        The machine does not support this command.
    BAD_LENGTH
        The payload is too short or too long.
    BAD_ADDRESS
        The range ends beyond the memory.
    BAD_COUNT
        A count is 0 or too large.
    NOT_SET_UP
        The machine is not set up, or another command stopped it during the RUN.
    BAD_TOKEN
        A token is not in the vocabulary of SETUP.
    BAD_SETUP
        An address or the vocabulary does not fit the machine.
    NOT_AVAILABLE
        The machine does not have the hardware for this command.
    BUSY
        Another RUN is in progress.
    MEMORY_SILENT
        The memory did not answer. The error stays until a reset.
    MEMORY_DISORDER
        The memory answered out of order. The error stays until a reset.
    RUN_TOO_LONG
        A step took longer than its limit. SETUP must follow.
    WEIGHTS_DAMAGED
        A signature of the weights was wrong, so the RUN returns no token. SETUP must follow.
    MEMORY_REFUSED
        The bus of the memory refused a transaction. The error stays until a reset.
    """

    UNKNOWN_OPCODE = 1
    BAD_LENGTH = 2
    BAD_ADDRESS = 3
    BAD_COUNT = 4
    NOT_SET_UP = 5
    BAD_TOKEN = 6
    BAD_SETUP = 7
    NOT_AVAILABLE = 8
    BUSY = 9
    MEMORY_SILENT = 10
    MEMORY_DISORDER = 11
    RUN_TOO_LONG = 12
    WEIGHTS_DAMAGED = 13
    MEMORY_REFUSED = 14


class Damage(IntEnum):
    """Names the data whose signature was wrong.

    Members
    -------
    NONE
        No damage.
    RECORDS
        A block of the record stream.
    ROW
        A row of the embedding table.
    TRITS
        The trits of a resident machine.
    """

    NONE = 0
    RECORDS = 1
    ROW = 2
    TRITS = 3


DAMAGE_LAYOUT = data.StructLayout({"count": 16, "kind": 2, "place": 32})


class WireRecord:
    """Describes a little-endian record without gaps, as a struct for the host and as a layout for the gateware.

    Parameters
    ----------
    **fields : str
        Names of the fields, with codes of the struct module. B, H, I and Q are unsigned, h and i are signed, and 16s is
        a digest.

    Members
    -------
    names : tuple of str
        Names of the fields, in order.
    layout : StructLayout
        The record in the gateware.
    byte_count : int
        Bytes of the record.
    """

    def __init__(self, **fields: str) -> None:
        self.names = tuple(fields)
        self._struct = struct.Struct("<" + "".join(fields.values()))
        self.layout = data.StructLayout({name: self._shape(code) for name, code in fields.items()})

    @staticmethod
    def _shape(code: str) -> Shape:
        """Return the shape of a field with this code."""
        bits = 8 * struct.calcsize("<" + code)
        return signed(bits) if code in "bhi" else unsigned(bits)

    @property
    def byte_count(self) -> int:
        """Bytes of the record."""
        return self._struct.size

    def pack(self, **values: Any) -> bytes:
        """Return the bytes of `values`, one for each field."""
        if set(values) != set(self.names):
            raise TypeError(f"the fields are {sorted(values)}; give {sorted(self.names)}")
        return self._struct.pack(*(values[name] for name in self.names))

    def unpack(self, payload: bytes) -> dict[str, Any]:
        """Return the fields of the first bytes of `payload`, by name."""
        return dict(zip(self.names, self._struct.unpack_from(payload), strict=True))


INFO = WireRecord(
    protocol_version="H",
    word_bytes="H",
    rows="H",
    columns="H",
    streams="B",
    results_per_cycle="B",
    codes_per_cycle="B",
    memory_words="I",
    trit_beats="I",
    max_width="H",
    max_state="I",
    max_vocab="H",
    clock_hz="I",
    hw_digest="16s",
    dropped_frames="I",
)
WRITE = WireRecord(address="I")  # then the words
WRITE_DONE = WireRecord(next_address="I")
CHECKSUM = WireRecord(address="I", count="I")
CHECKSUM_DONE = WireRecord(crc="I")
SETUP = WireRecord(
    record_words="I",
    trit_beats="I",
    embedding_base="I",
    embedding_row_words="H",
    embedding_stride="H",
    embedding_bits="B",  # bits of an element of the embedding table
    state_base="I",  # state "memory": the first word of S; 0 for S in block RAM
    state_words="H",  # state "memory": number of words of one layer's S of one stream; 0 for S in block RAM
    layers="H",
    vocab="H",
    image="I",  # image number, which every check includes, see model_ref.signature
    trit_state="Q",  # resident: the signature's last state after the beats of trits
    step_limit="H",  # largest number of cycles between two tokens of a run, in STEP_LIMIT_CYCLES; 0: no limit
)
RUN = WireRecord(
    count="H", temperature="H", streams="B", chained="B"
)  # then the feeds; temperature: u4.12, 0 selects the largest logit
FEED = WireRecord(token="H", state_base="I", fresh="B", seed="I")  # seed: the generator's state, see model_ref.sampling
RUN_DONE = WireRecord(count="H", cycles="I", beats="I", words="I", saturations="H")  # then the tokens
LOGITS = WireRecord(stream="B", offset="H", count="H")
LOGITS_DONE = WireRecord(scale_mantissa="I", scale_exponent="h")  # then the sums
MEMORY_TEST = WireRecord(first="I", count="I")
MEMORY_TEST_DONE = WireRecord(
    errors="I",
    address="I",  # address of the first wrong word; wanted and got are bits of this word
    wanted="I",
    got="I",
    cycles="I",
    wrong_bytes="B",  # bit k is 1 if a byte whose number modulo WRONG_BYTES is k was wrong in some word
)
PHASE = WireRecord(steps="h")
PHASE_DONE = WireRecord(place="h")
LEVEL = WireRecord(byte="B", delay="B", slip="B")
LEVEL_DONE = WireRecord(burst_seen="B")
# count: how often damage was found since power-up, modulo 256; kind: Damage
# place: number of the damaged block, token of the damaged row, or 0
DAMAGE_DONE = WireRecord(count="H", kind="B", place="I")
COUNTERS = WireRecord(offset="H", count="H")  # number of the first counter to read, and number of counters to read
COUNTERS_DONE = WireRecord(phases="H")  # number of phases of the last token; 0: no token was chosen since the run began
RECORDS = WireRecord(offset="I")  # number of the first word in the record stream, modulo 2^32; then the words
ROW = WireRecord(place="H", row="H")  # place of the first word in the row, count of the requested rows; then the words
WANT = WireRecord(offset="I", taken="I", row="H", place="H", token="H")  # see hw/memory/host.py
ERROR = WireRecord(code="B")

# Payload bytes of the commands of fixed length, and of RUN without its feeds. All other commands carry words.
COMMAND_BYTES = {
    Opcode.INFO: 0,
    Opcode.CHECKSUM: CHECKSUM.byte_count,
    Opcode.SETUP: SETUP.byte_count,
    Opcode.RUN: RUN.byte_count,
    Opcode.LOGITS: LOGITS.byte_count,
    Opcode.MEMORY_TEST: MEMORY_TEST.byte_count,
    Opcode.PHASE: PHASE.byte_count,
    Opcode.LEVEL: LEVEL.byte_count,
    Opcode.DAMAGE: 0,
    Opcode.COUNTERS: COUNTERS.byte_count,
}

# Payloads of the ports between host port, memory and decoder.
SETUP_LAYOUT = SETUP.layout
STREAM_BITS = 4
"""Number of bits that name a stream of any machine."""
# A run chooses `count` tokens for each of `final_stream` + 1 streams. The feeds of these streams come before the run.
RUN_LAYOUT = data.StructLayout({"count": 16, "final_stream": STREAM_BITS, "chained": 1, "temperature": 16})
TOKEN_LAYOUT = data.StructLayout({"token": 16, "last": 1})  # last: the token is the last token of its run
SCALE_LAYOUT = data.StructLayout({"mantissa": 17, "exponent": signed(12)})
# The decoder reports these figures of each step together with the last token of the step.
STATUS = data.StructLayout({"cycles": 32, "beats": 32, "words": 32, "saturations": 16})


def write_layout(config: Any) -> data.StructLayout:
    """Return the layout of one word to be written to the memory."""
    return data.StructLayout({"address": config.address_bits, "word": 8 * config.word_bytes})


def read_layout(config: Any) -> data.StructLayout:
    """Return the layout of a request for words. A count has one more bit than an address, so that one request can read
    all words."""
    return data.StructLayout({"address": config.address_bits, "count": config.address_bits + 1})


def range_layout(config: Any) -> data.StructLayout:
    """Return the layout of a range of words to be tested."""
    return data.StructLayout({"first": config.address_bits, "count": config.address_bits + 1})


def fault_bits(config: Any) -> int:
    """Return the number of fault bits of a memory over a word source. The bits mean that the memory does not answer,
    that the memory answers out of order, and that the bus of the memory refused a transaction."""
    return 3 if config.memory == "axi" else 2


def level_bytes(config: Any) -> int:
    """Return the number of bytes of the data pins of a machine's DDR3. A word is a burst of 8 DDR3 beats."""
    return int(config.word_bytes) // 8


def level_layout(byte_count: int) -> data.StructLayout:
    """Return the layout of a setting of read leveling.

    Parameters
    ----------
    byte_count : int
        Bytes of the data pins. The setting names one of these bytes.
    """
    return data.StructLayout(
        {"byte": range(max(2, byte_count)), "delay": range(LEVEL_DELAYS), "slip": range(LEVEL_SLIPS)}
    )


def feed_layout(config: Any) -> data.StructLayout:
    """Return the layout of a stream's first token, state and seed. ``state_base`` is in beats of P, or in words with
    state "memory"."""
    return data.StructLayout(
        {"stream": STREAM_BITS, "token": 16, "state_base": config.base_bits, "fresh": 1, "seed": 32}
    )


WANT_LAYOUT = data.StructLayout({"sequence": 8, "want": WANT.layout})


def host_word_layout(word_bytes: int) -> data.StructLayout:
    """Return the layout of a word of a RECORDS or ROW frame.

    ``row`` is 1 if the frame is a ROW. ``place`` is the offset of the word in the record stream, or, for a ROW, the
    place of the word (low half) and the count of the requested rows. ``last`` is 1 if the word is the last word of its
    frame. ``sequence`` is the sequence number of the frame.

    Parameters
    ----------
    word_bytes : int
        Bytes of a word.
    """
    return data.StructLayout({"row": 1, "place": 32, "last": 1, "sequence": 8, "word": 8 * word_bytes})


def capability(config: Any, dropped_frames: int = 0) -> bytes:
    """Return the INFO record of a configuration.

    Parameters
    ----------
    config
        Any object with the attributes of the record, and with ``chip_digest``, a hexadecimal text.
    dropped_frames : int
        Number of frames that were dropped so far.
    """
    digest = bytes.fromhex(config.chip_digest)[:DIGEST_BYTES]
    names = (
        "word_bytes",
        "rows",
        "columns",
        "streams",
        "results_per_cycle",
        "codes_per_cycle",
        "memory_words",
        "trit_beats",
        "max_width",
        "max_state",
        "max_vocab",
        "clock_hz",
    )
    return INFO.pack(
        protocol_version=PROTOCOL_VERSION,
        hw_digest=digest,
        dropped_frames=dropped_frames,
        **{name: int(getattr(config, name)) for name in names},
    )


def crc32c(payload: bytes | NDArray[np.uint8], before: int = 0) -> int:
    """Return the CRC-32C of bytes.

    Parameters
    ----------
    payload : bytes or ndarray
        The bytes.
    before : int
        The CRC of the preceding bytes, so that crc32c(b, crc32c(a)) == crc32c(a + b).
    """
    return int(google_crc32c.extend(before, payload))
