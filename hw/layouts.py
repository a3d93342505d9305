"""Layouts that host and gateware share: record stream, operations, gains, the byte code of trits.

Everything here is data; ``firmware/`` packs with it, ``hw/`` unpacks with it.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib.data import StructLayout

from lutern.hw.config import STATE_BASE_BITS, TRITS_PER_BYTE, HwConfig
from lutern.model_ref.embedding import NARROW_BITS, WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import MANTISSA_BITS, SCALAR_EXPONENT_BITS
from lutern.model_ref.norm import CODE_MAX, GAIN_EXPONENT_BITS, GAIN_MANTISSA_BITS, X_BITS
from lutern.model_ref.sampling import WORD_BITS
from lutern.model_ref.signature import CHECK_BYTES
from lutern.model_ref.ternary import SUM_BITS

CODE_BITS = CODE_MAX.bit_length() + 1
ITEM_BITS = GAIN_MANTISSA_BITS + GAIN_EXPONENT_BITS
"""An item of a record, 16 bits: a gain, a lower bound (1 - LB) or an element of the embedding table. Each is a signed
mantissa (12 bits, low) and an exponent (4 bits) that counts down from the largest."""
assert ITEM_BITS == WIDE_BITS
NARROW_ITEM_BITS = NARROW_BITS
"""An element of the embedding table whose mantissa has 8 bits: an item without the 4 low bits, which are 0."""
SPARE_BITS = ITEM_BITS - NARROW_ITEM_BITS
"""Low bits of such an item."""
NARROW_WORDS = 3
"""So many words of 12 bits an element hold what one word more holds at 16, see ``packing.pack_narrow_row``."""

TUPLE_GAINS = 4
"""Most gains an element has: w1 and one G for each of f, i, g."""
VALUE_BITS = 32
"""An element of the elementwise path after the scale: h needs 32 bits, everything else 18 or 21."""
STATE_BITS = 32
"""An element of the state S."""
BOUND_BITS = MANTISSA_BITS
"""1 - LB, 0.17."""
HEADER_KIND_BITS = 4
HEADER_LENGTH_BITS = 20
BLOCKS_OF_CHECK = 512
"""So many times the words of a CHECK a block has at least."""
LONGEST_RECORD = 1 << 15
"""Words of a record, so that a block is no longer than ``signature.LONGEST``."""


class RecordKind(IntEnum):
    """Kind of a record. 0 is no record: erased memory is not a program. SHORT_TRITS: a word is a beat,
    see ``short_trits``. CHECK: makes the signature of all words since the last CHECK what it must be."""

    OP = 1
    GAINS = 2
    TRITS = 3
    SHORT_TRITS = 4
    CHECK = 5


class Op(IntEnum):
    """Operation of the program: one matrix (UP: the second half of gate_proj's rows), or the embedding row."""

    EMBED = 1
    F = 2
    I = 3
    G = 4
    RESIDUAL = 5
    GATE = 6
    UP = 7
    HEAD = 8


class Eps(IntEnum):
    """What the eps term of an operation's norm is made of; see ``model_ref.norm.eps_term``."""

    NONE = 0
    O_PROJ = 1
    DOWN_PROJ = 2


SCALAR = StructLayout({"mantissa": unsigned(MANTISSA_BITS), "exponent": signed(SCALAR_EXPONENT_BITS)})
"""Short float that is not negative: mantissa * 2^exponent."""

OPERATION = StructLayout(
    {
        "op": 4,
        "eps": 2,
        "new_vector": 1,  # the quantiser waits for the vector that the results make
        "u_index": 2,  # which u of the vector
        "reuse": 1,  # codes and scale of the operation before (UP)
        "keep": 1,  # the engine leaves the codes for the operation after (GATE)
        "makes_vector": 1,  # results enter the norm
        "outer": 1,  # ... with gains w1
        "matrices": 2,  # ... and so many G
        "row_groups": 16,
        "column_beats": 12,
        "last_results": 8,  # P-beats drained of the last row group
        "beats": 16,  # codes to make, in beats of Q; EMBED: elements, in beats of P
        "cut": 3,
        "frac": signed(7),  # fraction bits of the scaled value (F, I, GATE, RESIDUAL); G: of S; EMBED: of h
        "base": signed(7),  # EMBED: exponent of the table
        "groups": 16,  # of gains, for P elements each
        "state_base": STATE_BASE_BITS,  # I, G: first word of the layer's state, in beats of P
        "k": SCALAR,
        "e1": SCALAR,
        "e2": SCALAR,
    }
)
"""One operation, padded to ``OPERATION_BITS`` in its record."""
OPERATION_BITS = 208

ENGINE_OP = StructLayout({"row_groups": 16, "column_beats": 12, "last_results": 8, "keep": 1})
"""What the engine needs of an operation."""
QUANTISE_OP = StructLayout(
    {"u_index": 2, "new_vector": 1, "eps": 2, "beats": 16, "k": SCALAR, "e1": SCALAR, "e2": SCALAR}
)
"""What the norm needs of an operation; ``beats`` of Q codes."""
SUPPLY_OP = StructLayout({"items": 3, "groups": 16})
"""How many groups of gains an operation has, and of how many items an element."""
GAINS_OP = StructLayout({"bounds": 1, "outer": 1, "matrices": 2})
"""Whose gains come next: ``bounds`` for the rows of f, else those of a vector."""
KEY_BITS = MANTISSA_BITS + 6
"""Key of a short float: mantissa (17 bits, low) and biased exponent (6 bits); 0 for 0."""


SCALE_SHIFT_BITS = SCALAR_EXPONENT_BITS + 1


ITEM = StructLayout({"mantissa": signed(GAIN_MANTISSA_BITS), "exponent": unsigned(GAIN_EXPONENT_BITS)})
"""An item taken apart: a gain, a lower bound or an element of the embedding."""


def header(kind: RecordKind, length: int) -> int:
    """Header word of a record with ``length`` words behind it."""
    assert 0 <= length < 1 << HEADER_LENGTH_BITS
    return int(kind) | length << HEADER_KIND_BITS


def header_words(config: HwConfig) -> int:
    """Words of a record's header."""
    return -(-(HEADER_KIND_BITS + HEADER_LENGTH_BITS) // config.word_bits)


def check_words(config: HwConfig) -> int:
    """Words of a check: of a record CHECK after its header, and at the begin of a row of the embedding table."""
    return -(-CHECK_BYTES // config.word_bytes)


def block_words(config: HwConfig) -> int:
    """Words from which on a block of the record stream ends with its record: its CHECK is 0.2 % of them."""
    return BLOCKS_OF_CHECK * (header_words(config) + check_words(config))


def most_blocks(config: HwConfig, words: int) -> int:
    """Blocks of a record stream of so many words, at most: every second one may be shorter, at the end of a layer."""
    return 2 * (words // block_words(config)) + 1


def group_shape(config: HwConfig, items: int) -> tuple[int, int]:
    """(groups a word, words a group) of groups of ``items`` for each of P elements; one of the two is 1."""
    bits = config.results_per_cycle * items * ITEM_BITS
    return max(1, config.word_bits // bits), -(-bits // config.word_bits)


def group_words(elements: int, per_element: int, config: HwConfig) -> int:
    """Words that ``pack_groups`` makes of items [elements, per_element]."""
    groups_a_word, words_a_group = group_shape(config, per_element)
    return -(-elements // (config.results_per_cycle * groups_a_word)) * words_a_group


def takes_narrow_rows(config: HwConfig) -> bool:
    """Whether a machine takes embedding rows of 12 bits an element: where every item begins at a multiple of its bits.

    Of other machines such a table is laid out in items of 16 bits.
    """
    aligned = config.word_bits % ITEM_BITS == 0 or config.results_per_cycle * ITEM_BITS <= config.word_bits
    return config.source == "streamed" and aligned


def row_formats(config: HwConfig) -> tuple[int, ...]:
    """Bits of an element of the embedding rows that a machine takes; SETUP chooses one."""
    return (ITEM_BITS, NARROW_ITEM_BITS) if takes_narrow_rows(config) else (ITEM_BITS,)


def row_item_bits(config: HwConfig, embedding_bits: int) -> int:
    """Bits of an element of an embedding row in the memory of a machine; ``embedding_bits``: of the model's table."""
    return embedding_bits if embedding_bits in row_formats(config) else ITEM_BITS


def row_words(width: int, item_bits: int, config: HwConfig) -> int:
    """Words of an embedding row of ``width`` elements of ``item_bits``."""
    words = group_words(width, 1, config)
    return words if item_bits == ITEM_BITS else words - words // (NARROW_WORDS + 1)


def most_row_words(config: HwConfig) -> int:
    """Words of the longest embedding row, with those of its check."""
    return check_words(config) + row_words(config.max_width, ITEM_BITS, config)


def full_parts(config: HwConfig) -> int:
    """Parts of a resident beat that are whole words; these hold the rows of the embedding table."""
    parts = config.beat_bytes // config.word_bytes
    if parts == 0:
        raise LuternError(
            f"{config.name}: a beat of trits has {config.beat_bytes} bytes and holds no word of {config.word_bytes}; "
            "choose smaller words."
        )
    return parts


def short_trits(rows: int, config: HwConfig) -> bool:
    """Whether a last row group of so many rows is short: all that is drained of it is in the first word of each
    beat, so that the record leaves the others out. Never where a word is a beat, or beats are resident."""
    drained = -(-rows // config.results_per_cycle) * config.results_per_cycle
    return (
        config.source == "streamed"
        and config.word_bytes < config.beat_bytes
        and 0 < drained * config.columns <= config.word_bytes * TRITS_PER_BYTE
    )


def row_fifo_words(config: HwConfig) -> int:
    """Depth of the FIFO between a streamed memory and the row: a whole row, for its fetch delays the gains."""
    groups, words = group_shape(config, 1)
    beats = -(-config.max_width // config.results_per_cycle)
    return -(-beats // groups) * words + 8


def results_op(config: HwConfig) -> StructLayout:
    """What the results stage needs of an operation; ``scaled``: a scale belongs to it."""
    return StructLayout(
        {
            "op": 4,
            "scaled": 1,
            "cut": 3,
            "frac": signed(7),
            "base": signed(7),
            "state_base": config.state_bits,
            "beats": 16,
        }
    )


# Stream payloads -------------------------------------------------------------------------------------------------
#
# T streams share every block but the lanes' sums. Whatever belongs to one of them names it in ``stream`` (0 to N - 1 of
# the run's N streams). Results come in blocks: a row group's P-beats of stream 0, then of stream 1, ...; ``index`` is
# the beat's place in its vector, ``last`` marks the last beat of its stream's vector.


def sum_bits(config: HwConfig) -> int:
    """Bits that hold the sum of a row of the widest matrix; the streams of sums have ``SUM_BITS`` all the same."""
    return (config.max_width * CODE_MAX).bit_length() + 1


def codes_payload(config: HwConfig) -> StructLayout:
    """Codes of one beat for the ternary unit: C codes of stream 0, then of stream 1, ..."""
    return StructLayout(
        {
            "codes": config.streams * config.columns * CODE_BITS,
            "last_column": 1,
            "last_row_group": 1,
            "results": (config.rows // config.results_per_cycle).bit_length(),
        }
    )


def sums_payload(config: HwConfig) -> StructLayout:
    """P sums of consecutive rows."""
    return StructLayout(
        {
            "sums": config.results_per_cycle * SUM_BITS,
            "stream": config.stream_bits,
            "index": config.index_bits,
            "last": 1,
        }
    )


def values_payload(config: HwConfig) -> StructLayout:
    """P scaled (or cut, or raw) values with what the elementwise blocks need to know of their operation.

    ``scores``: of HEAD, the scaled logits, signed, with ``frac`` fraction bits; else unused.
    """
    return StructLayout(
        {
            "values": config.results_per_cycle * VALUE_BITS,
            "scores": config.results_per_cycle * VALUE_BITS,
            "bounds": config.results_per_cycle * BOUND_BITS,
            "op": 4,
            "frac": signed(7),
            "state_base": config.state_bits,
            "stream": config.stream_bits,
            "index": config.index_bits,
            "last": 1,
        }
    )


def place_payload(config: HwConfig) -> StructLayout:
    """Where P values belong that follow some cycles later; ``adds``: to h (else they are the new h)."""
    return StructLayout({"adds": 1, "stream": config.stream_bits, "index": config.index_bits, "last": 1})


def x_payload(config: HwConfig) -> StructLayout:
    """P elements of a vector that enters the norm."""
    return StructLayout(
        {"x": config.results_per_cycle * X_BITS, "stream": config.stream_bits, "index": config.index_bits, "last": 1}
    )


def gathered_payload(config: HwConfig) -> StructLayout:
    """P elements with their gains; ``outer`` and ``matrices`` are constant over a vector."""
    return StructLayout(
        {
            "x": config.results_per_cycle * X_BITS,
            "gains": config.results_per_cycle * TUPLE_GAINS * ITEM_BITS,
            "outer": 1,
            "matrices": 2,
            "stream": config.stream_bits,
            "index": config.index_bits,
            "last": 1,
        }
    )


def quantised_payload(config: HwConfig) -> StructLayout:
    """Q codes of consecutive elements of one stream's vector; passes of streams 0 to N - 1 follow one another."""
    return StructLayout({"codes": config.codes_per_cycle * CODE_BITS, "stream": config.stream_bits, "last": 1})


def token_payload(config: HwConfig) -> StructLayout:
    """The token that a stream has chosen."""
    return StructLayout({"token": 16, "stream": config.stream_bits})


def seed_payload(config: HwConfig) -> StructLayout:
    """The seed of a stream's generator."""
    return StructLayout({"stream": config.stream_bits, "seed": WORD_BITS})


def scale_payload(config: HwConfig) -> StructLayout:
    """P sums with the constants of their operation; ``shift`` counts from ``SHIFT_MIN``."""
    return StructLayout(
        {
            "sums": config.results_per_cycle * SUM_BITS,
            "bounds": config.results_per_cycle * BOUND_BITS,
            "op": 4,
            "cut": 3,
            "mantissa": MANTISSA_BITS,
            "shift": signed(SCALE_SHIFT_BITS),
            "frac": signed(7),
            "state_base": config.state_bits,
            "stream": config.stream_bits,
            "index": config.index_bits,
            "last": 1,
        }
    )


def pass_payload(config: HwConfig) -> StructLayout:
    """A code pass: the biased exponent of the largest, which u of which stream, how many beats."""
    return StructLayout({"exponent": KEY_BITS - MANTISSA_BITS, "u_index": 2, "beats": 16, "stream": config.stream_bits})


# Five trits in a byte ------------------------------------------------------------------------------------------------

TRIT_OF_CODE = (0, 1, -1)
"""Two-bit code of a trit: 0, 1, 2; code 3 escapes."""


def decode_byte(byte: int) -> tuple[int, int, int, int, int] | None:
    """Five trits of a byte ``t[2] p[3] q[3]`` (t in the top bits), None for the 13 bytes that no encoder writes.

    p and q name one of the eight pairs other than (0, 0): index + 1 = 3 a + b in two-bit codes. t = 3 escapes:
    q[2] = 0: Q is (0, 0), first trit q[1:0]; q[2] = 1, q[1:0] != 3: P is (0, 0), Q is coded in p, first trit q[1:0];
    q = 7: both are (0, 0), first trit p[1:0].
    """
    t, p, q = byte >> 6, byte >> 3 & 7, byte & 7

    def pair(index: int) -> tuple[int, int]:
        return divmod(index + 1, 3)

    if t != 3:
        codes = (t, *pair(p), *pair(q))
    elif q < 4:
        codes = (q, *pair(p), 0, 0)
    elif q < 7:
        codes = (q & 3, 0, 0, *pair(p))
    else:
        codes = (p & 3, 0, 0, 0, 0)
    if codes[0] == 3 or (t == 3 and q == 7 and p > 2):
        return None
    return tuple(TRIT_OF_CODE[c] for c in codes)  # type: ignore[return-value]


def shape_bits(layout: StructLayout) -> int:
    """Bits of a layout."""
    return Shape.cast(layout).width


assert shape_bits(OPERATION) <= OPERATION_BITS
assert TRITS_PER_BYTE == 5
