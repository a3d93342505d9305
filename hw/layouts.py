"""The layouts that host and gateware share: record stream, operations, gains, and the byte code of trits.

This file contains only layouts and their sizes. ``firmware/`` packs data with these layouts, and ``hw/`` unpacks the
data.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

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
"""Number of bits of an item of a record. An item is a gain, a lower bound (1 - LB) or an element of the embedding
table. An item consists of a signed mantissa (the low 12 bits) and an exponent (4 bits). A larger exponent means a
smaller value, because an exponent e shifts the mantissa right by e bits."""
assert ITEM_BITS == WIDE_BITS
NARROW_ITEM_BITS = NARROW_BITS
"""Number of bits of a narrow element of the embedding table. Its mantissa has 8 bits, because the 4 low bits of the
item are 0 and are not stored."""
SPARE_BITS = ITEM_BITS - NARROW_ITEM_BITS
"""Low bits of an item that a narrow element does not store."""
NARROW_WORDS = 3
"""Three words of 12-bit elements hold as many elements as four words of 16-bit elements, see
``packing.pack_narrow_row``."""

TUPLE_GAINS = 4
"""The largest number of gains of an element. These are w1 and one gain G for each of the matrices f, i and g
(hw/norm/statistics.py)."""
VALUE_BITS = 32
"""Number of bits of an element of the elementwise path after the scale. h needs 32 bits, and every other value needs 18
or 21 bits."""
STATE_BITS = 32
"""Number of bits of an element of the state S."""
BOUND_BITS = MANTISSA_BITS
"""Number of bits of 1 - LB, where LB is the lower bound of the forget gate. 1 - LB has 17 fraction bits and no integer
bit (format 0.17)."""
HEADER_KIND_BITS = 4
HEADER_LENGTH_BITS = 20
BLOCKS_OF_CHECK = 512
"""A block has at least this many words for each word of its record CHECK."""
LONGEST_RECORD = 1 << 15
"""Largest number of words of a record. With this limit every block has at most ``signature.LONGEST`` words."""


class RecordKind(IntEnum):
    """Names the kind of a record.

    No kind has the number 0, so a memory of zeros contains no valid record.

    Members
    -------
    OP
        One operation.
    GAINS
        Items, which are gains or bounds.
    TRITS
        Beats of trits.
    SHORT_TRITS
        Beats of trits. Each beat has one word, see ``short_trits``.
    CHECK
        Check bytes. They are chosen so that the signature of all words since the previous CHECK has its expected value.
    """

    OP = 1
    GAINS = 2
    TRITS = 3
    SHORT_TRITS = 4
    CHECK = 5


class Op(IntEnum):
    """Names an operation of the program.

    Members
    -------
    EMBED
        The token's row of the embedding table. This row becomes the first h.
    F, I, G
        f_proj, i_proj and g_proj. Their results enter the MLGRU.
    RESIDUAL
        o_proj or down_proj. Their results are added to h.
    GATE
        The first half of the rows of gate_proj. The results of these rows enter silu.
    UP
        The second half of the rows of gate_proj. The results of these rows are multiplied by the results of silu.
    HEAD
        lm_head. Its results are the logits.
    """

    EMBED = 1
    F = 2
    I = 3
    G = 4
    RESIDUAL = 5
    GATE = 6
    UP = 7
    HEAD = 8


class Eps(IntEnum):
    """Names the norms that add a separate eps term, see ``model_ref.norm.eps_term``.

    Members
    -------
    NONE
        The norms over h. These norms do not add a separate eps term.
    O_PROJ
        The norm before o_proj. Its term follows from the sum of g^2 and the scale of g.
    DOWN_PROJ
        The norm before down_proj. Its term follows from the scale of gate and up.
    """

    NONE = 0
    O_PROJ = 1
    DOWN_PROJ = 2


SCALAR = StructLayout({"mantissa": unsigned(MANTISSA_BITS), "exponent": signed(SCALAR_EXPONENT_BITS)})
"""A short float that is not negative: mantissa * 2^exponent."""

OPERATION = StructLayout(
    {
        "op": 4,
        "eps": 2,
        "new_vector": 1,  # the codes come from the next vector, not from the vector of the previous operation
        "u_index": 2,  # the number k of u_k of the vector
        "reuse": 1,  # UP uses the codes and the scale of the previous operation
        "keep": 1,  # the code memory keeps the codes for the next operation (GATE)
        "makes_vector": 1,  # the results are a vector that enters the norm (the result vector)
        "outer": 1,  # the gains of the result vector include w1
        "matrices": 2,  # number of gains G of each element of the result vector
        "row_groups": 16,
        "column_beats": 12,
        "last_results": 8,  # number of beats of P results to drain from the last row group
        "beats": 16,  # number of beats of Q codes to compute, or for EMBED of beats of P elements
        "cut": 3,  # low bits of a sum that are rounded away
        "frac": signed(7),  # fraction bits: of the scaled value (F, I, GATE, RESIDUAL), of S (G) or of h (EMBED)
        "base": signed(7),  # EMBED: exponent of the table
        "groups": 16,  # number of groups of gains or bounds, each for P elements
        "state_base": STATE_BASE_BITS,  # I, G: first beat of the layer's state
        "k": SCALAR,
        "e1": SCALAR,
        "e2": SCALAR,
    }
)
"""An operation. Its record pads the operation to ``OPERATION_BITS`` bits. k, e1 and e2 are the constants that
``model_ref.norm.ScaleConstants`` describes."""
OPERATION_BITS = 208

ENGINE_OP = StructLayout({"row_groups": 16, "column_beats": 12, "last_results": 8, "keep": 1})
"""Fields of an operation for the code memory and the ternary unit."""
QUANTISE_OP = StructLayout(
    {"u_index": 2, "new_vector": 1, "eps": 2, "beats": 16, "k": SCALAR, "e1": SCALAR, "e2": SCALAR}
)
"""Fields of an operation for the norm. ``beats`` counts beats of Q codes."""
SUPPLY_OP = StructLayout({"items": 3, "groups": 16})
"""Fields of an operation for the supply of gains: the number of items of each element, and the number of groups."""
GAINS_OP = StructLayout({"bounds": 1, "outer": 1, "matrices": 2})
"""Fields of an operation for the gain join. If ``bounds`` is 1, the groups are bounds for the rows of F, otherwise
gains of a vector."""
KEY_BITS = MANTISSA_BITS + 6
"""Number of bits of the key of a short float: mantissa (17 bits, low) and biased exponent (6 bits). The key of 0 is
0."""


SCALE_SHIFT_BITS = SCALAR_EXPONENT_BITS + 1


ITEM = StructLayout({"mantissa": signed(GAIN_MANTISSA_BITS), "exponent": unsigned(GAIN_EXPONENT_BITS)})
"""The fields of an item: a gain, a lower bound or an element of the embedding."""


def header(kind: RecordKind, length: int) -> int:
    """Return the header of a record.

    Parameters
    ----------
    kind : RecordKind
        The kind of the record.
    length : int
        Number of words that follow the header.
    """
    assert 0 <= length < 1 << HEADER_LENGTH_BITS
    return int(kind) | length << HEADER_KIND_BITS


def header_words(config: HwConfig) -> int:
    """Return the number of words of a record's header."""
    return -(-(HEADER_KIND_BITS + HEADER_LENGTH_BITS) // config.word_bits)


def check_words(config: HwConfig) -> int:
    """Return the number of words of a check. These words follow the header of a record CHECK, or begin a row of the
    embedding table."""
    return -(-CHECK_BYTES // config.word_bytes)


def block_words(config: HwConfig) -> int:
    """Return the number of words at which a block of the record stream ends. A block ends after the record with which
    its length reaches this number. The CHECK is 0.2 % of such a block."""
    return BLOCKS_OF_CHECK * (header_words(config) + check_words(config))


def most_blocks(config: HwConfig, words: int) -> int:
    """Return the largest number of blocks that a record stream of ``words`` words can have.

    Up to half of the blocks are shorter than ``block_words``, because a block also ends with a layer.

    Parameters
    ----------
    config : HwConfig
        The machine.
    words : int
        Number of words of the record stream.
    """
    return 2 * (words // block_words(config)) + 1


def group_shape(config: HwConfig, items: int) -> tuple[int, int]:
    """Return the number of groups in a word and the number of words in a group. One of the two numbers is 1.

    Parameters
    ----------
    config : HwConfig
        ``word_bits``, ``results_per_cycle`` (P).
    items : int
        Number of items of each of the P elements of a group.
    """
    bits = config.results_per_cycle * items * ITEM_BITS
    return max(1, config.word_bits // bits), -(-bits // config.word_bits)


def group_words(elements: int, per_element: int, config: HwConfig) -> int:
    """Return the number of words that hold items [elements, per_element], in the layout of ``packing.pack_groups``.

    Parameters
    ----------
    elements : int
        Number of elements of the vector.
    per_element : int
        Number of items of an element.
    config : HwConfig
        The machine.
    """
    groups_a_word, words_a_group = group_shape(config, per_element)
    return -(-elements // (config.results_per_cycle * groups_a_word)) * words_a_group


def takes_narrow_rows(config: HwConfig) -> bool:
    """Return whether a machine can read embedding rows with elements of 12 bits.

    A machine with source "streamed" can read such rows if every item begins at a multiple of the size of an item. For
    other machines such a table is stored in items of 16 bits.
    """
    aligned = config.word_bits % ITEM_BITS == 0 or config.results_per_cycle * ITEM_BITS <= config.word_bits
    return config.source == "streamed" and aligned


def row_formats(config: HwConfig) -> tuple[int, ...]:
    """Return the sizes in bits that an element of an embedding row can have on a machine. SETUP selects one of these
    sizes."""
    return (ITEM_BITS, NARROW_ITEM_BITS) if takes_narrow_rows(config) else (ITEM_BITS,)


def row_item_bits(config: HwConfig, embedding_bits: int) -> int:
    """Return the number of bits that an element of an embedding row has in the memory of a machine.

    Parameters
    ----------
    config : HwConfig
        The machine.
    embedding_bits : int
        Number of bits of an element of the model's table. A machine that cannot read this format stores items of 16
        bits.
    """
    return embedding_bits if embedding_bits in row_formats(config) else ITEM_BITS


def row_words(width: int, item_bits: int, config: HwConfig) -> int:
    """Return the number of words of an embedding row, without its check.

    Parameters
    ----------
    width : int
        Number of elements of the row.
    item_bits : int
        Bits of an element.
    config : HwConfig
        The machine.
    """
    words = group_words(width, 1, config)
    return words if item_bits == ITEM_BITS else words - words // (NARROW_WORDS + 1)


def most_row_words(config: HwConfig) -> int:
    """Return the number of words of the longest embedding row, including the words of its check."""
    return check_words(config) + row_words(config.max_width, ITEM_BITS, config)


def full_parts(config: HwConfig) -> int:
    """Return the number of parts of a resident beat that are whole words. Only these parts store rows of the embedding
    table."""
    parts = config.beat_bytes // config.word_bytes
    if parts == 0:
        raise LuternError(
            f"{config.name}: a beat of trits has {config.beat_bytes} bytes and holds no word of {config.word_bytes}; "
            "choose smaller words."
        )
    return parts


def short_trits(rows: int, config: HwConfig) -> bool:
    """Return whether a last row group is short.

    All rows that are drained from a short row group are in the first word of each beat, so the record omits the other
    words. A row group is never short if a word is a beat, or if beats are resident.

    Parameters
    ----------
    rows : int
        Number of rows of the last row group.
    config : HwConfig
        The machine.
    """
    drained = -(-rows // config.results_per_cycle) * config.results_per_cycle
    return (
        config.source == "streamed"
        and config.word_bytes < config.beat_bytes
        and 0 < drained * config.columns <= config.word_bytes * TRITS_PER_BYTE
    )


def row_fifo_words(config: HwConfig) -> int:
    """Return the depth in words of the FIFO of embedding rows with source "streamed". The FIFO can hold a whole row,
    because the fetch of a row delays the gains."""
    groups, words = group_shape(config, 1)
    beats = -(-config.max_width // config.results_per_cycle)
    return -(-beats // groups) * words + 8


SUM_CLASSES = {"embeds": 1, "to_h": 1, "to_up": 1}
"""Fields of an operation that say where its sums come from and where its values go. `sum_classes` computes them."""


def sum_classes(op: Any) -> dict[str, Any]:
    """Return the fields ``SUM_CLASSES`` of an operation.

    The sequencer computes them ahead, because the path from the operation to the ready of the sums is long.

    Parameters
    ----------
    op : Value or Op
        The operation.

    Returns
    -------
    dict of str to Value or bool
        ``embeds`` is 1 for EMBED, ``to_h`` is 1 for EMBED and RESIDUAL, and ``to_up`` is 1 for UP.
    """
    return {"embeds": op == Op.EMBED, "to_h": (op == Op.EMBED) | (op == Op.RESIDUAL), "to_up": op == Op.UP}


VALUE_CLASSES = {"of_i": 1, "of_g": 1, "of_head": 1}
"""Fields of a value that say which block may stall it. `value_classes` computes them."""


def value_classes(op: Any) -> dict[str, Any]:
    """Return the fields ``VALUE_CLASSES`` of an operation.

    The scale computes them ahead, because the path from the operation to the ready of the values is long.

    Parameters
    ----------
    op : Value or Op
        The operation.

    Returns
    -------
    dict of str to Value or bool
        ``of_i`` is 1 for I, ``of_g`` is 1 for G, and ``of_head`` is 1 for HEAD. Values of other operations never stall.
    """
    return {"of_i": op == Op.I, "of_g": op == Op.G, "of_head": op == Op.HEAD}


def results_op(config: HwConfig) -> StructLayout:
    """Return the fields of an operation for the results stage. ``scaled`` is 1 if the operation has a scale.

    ``bounded`` is 1 for F, whose beats have bounds. `sum_classes` describes the other fields that follow from ``op``.
    """
    return StructLayout(
        {
            "op": 4,
            "scaled": 1,
            "bounded": 1,
            **SUM_CLASSES,
            "cut": 3,
            "frac": signed(7),
            "base": signed(7),
            "state_base": config.state_bits,
            "beats": 16,
        }
    )


# Stream payloads -------------------------------------------------------------------------------------------------
#
# T streams share every block except the adders of the lanes. A payload that belongs to one stream names this stream in
# the field ``stream`` (0 to N - 1 for a run of N streams). Results come in blocks: first the beats of a row group for
# stream 0, then the beats of this row group for stream 1, and so on. ``index`` is the position of the beat in its
# vector, and ``last`` marks the last beat of a vector.


def sum_bits(config: HwConfig) -> int:
    """Return the number of bits that hold the sum of a row of the widest matrix. Payloads of sums always use
    ``SUM_BITS`` for a sum."""
    return (config.max_width * CODE_MAX).bit_length() + 1


def codes_payload(config: HwConfig) -> StructLayout:
    """Return the codes of one beat for the ternary unit: C codes of stream 0, then C codes of stream 1, and so on."""
    return StructLayout(
        {
            "codes": config.streams * config.columns * CODE_BITS,
            "last_column": 1,
            "last_row_group": 1,
            "results": (config.rows // config.results_per_cycle).bit_length(),
        }
    )


def sums_payload(config: HwConfig) -> StructLayout:
    """Return the payload of P sums of consecutive rows."""
    return StructLayout(
        {
            "sums": config.results_per_cycle * SUM_BITS,
            "stream": config.stream_bits,
            "index": config.index_bits,
            "last": 1,
        }
    )


def values_payload(config: HwConfig) -> StructLayout:
    """Return the payload of P values, with the fields of their operation for the elementwise blocks.

    Values are scaled, cut or raw. Only HEAD uses ``scores``, which are the scaled logits, signed, with ``frac``
    fraction bits. `value_classes` describes the fields that follow from ``op``.
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
            **VALUE_CLASSES,
        }
    )


def place_payload(config: HwConfig) -> StructLayout:
    """Return the payload of the place of P values that follow some cycles later. ``adds`` is 1 for RESIDUAL, whose
    values are added to h, and 0 for EMBED and UP."""
    return StructLayout({"adds": 1, "stream": config.stream_bits, "index": config.index_bits, "last": 1})


def x_payload(config: HwConfig) -> StructLayout:
    """Return the payload of P elements of a vector that enters the norm."""
    return StructLayout(
        {"x": config.results_per_cycle * X_BITS, "stream": config.stream_bits, "index": config.index_bits, "last": 1}
    )


def gathered_payload(config: HwConfig) -> StructLayout:
    """Return the payload of P elements with their gains. ``outer`` and ``matrices`` are constant over a vector."""
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
    """Return the payload of the codes of Q consecutive elements of one stream's vector. The streams 0 to N - 1 follow
    one another."""
    return StructLayout({"codes": config.codes_per_cycle * CODE_BITS, "stream": config.stream_bits, "last": 1})


def token_payload(config: HwConfig) -> StructLayout:
    """Return the payload of the token that is chosen for a stream."""
    return StructLayout({"token": 16, "stream": config.stream_bits})


def seed_payload(config: HwConfig) -> StructLayout:
    """Return the payload of the seed of a stream's generator."""
    return StructLayout({"stream": config.stream_bits, "seed": WORD_BITS})


def scale_payload(config: HwConfig) -> StructLayout:
    """Return the payload of P sums with the constants of their operation. ``shift`` is the right shift of the product,
    and `sum_classes` describes the fields that follow from ``op``."""
    return StructLayout(
        {
            "sums": config.results_per_cycle * SUM_BITS,
            "bounds": config.results_per_cycle * BOUND_BITS,
            "op": 4,
            **SUM_CLASSES,
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
    """Return the payload of a code pass: the biased exponent of the largest |u|, the index k of u_k, the number of
    beats and the stream."""
    return StructLayout({"exponent": KEY_BITS - MANTISSA_BITS, "u_index": 2, "beats": 16, "stream": config.stream_bits})


# Five trits in a byte ------------------------------------------------------------------------------------------------

TRIT_OF_CODE = (0, 1, -1)
"""Trit of each two-bit code 0, 1, 2. Code 3 is the escape."""


def decode_byte(byte: int) -> tuple[int, int, int, int, int] | None:
    """Return the five trits of a byte ``t[2] p[3] q[3]`` (t in the top bits), or None for the 13 bytes that the code
    does not use.

    P stands for the second and the third trit, and Q for the fourth and the fifth trit. p and q each name one of the
    eight pairs other than (0, 0). A pair of the two-bit codes a and b has the index 3 a + b - 1. Without an escape, t
    is the code of the first trit, p names the pair P, and q names the pair Q. t = 3 is the escape. After the escape, q
    selects the meaning:

    - q[2] = 0: p names P, Q is (0, 0), and q[1:0] is the code of the first trit.
    - q[2] = 1, q[1:0] != 3: P is (0, 0), p names Q, and q[1:0] is the code of the first trit.
    - q = 7: P and Q are (0, 0), and p[1:0] is the code of the first trit.

    Parameters
    ----------
    byte : int
        The byte.
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
    """Return the number of bits of a layout."""
    return Shape.cast(layout).width


assert shape_bits(OPERATION) <= OPERATION_BITS
assert TRITS_PER_BYTE == 5
