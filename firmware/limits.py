"""Finds the limits of a machine that a model exceeds. Memory comes first, since a board's memory is fixed.

    ModelConfig, HwConfig ─► sizes_of ─► memory_bytes    of the record stream, the embedding table, the state
                         └─► lacks ──┬─► check_fit       an error with the first lack in full, the others in brief
                                     └─► reason_against  the first lack alone, for tables

measure/fits.py compares a machine with the limits of one chip, which are block RAM and LUT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lutern.firmware.schedule import Sizes, program_sizes
from lutern.hw.config import HwConfig
from lutern.hw.layouts import STATE_BITS
from lutern.hw.presets import PRESETS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import NARROW_BITS, WIDE_BITS
from lutern.model_ref.errors import LuternError

STATE_BYTES = STATE_BITS // 8
"""Number of bytes of an element of state."""
MOST_SLOTS = 64
"""Largest number of conversations whose states are stored in memory. A host needs no more for one machine."""
DEEPEST_FIFO = 1 << 16
"""Number of words of a gain FIFO that is long enough for every machine. If the FIFO of a machine is too short, the
size of a program is computed with this length.
"""
MORE_TO_SAY = 2.0
"""Up to this ratio of needed bytes to memory, a text gives the missing bytes. Above it, the text gives the ratio."""


@dataclass(frozen=True)
class Lack:
    """A limit of a machine that a model exceeds: the model needs ``needed``, and the machine has only ``held``.

    ``text`` is a clause with both numbers. ``brief`` is used if another lack comes before this one.
    """

    what: str
    needed: int
    held: int
    text: str
    brief: str


def state_elements(model_config: ModelConfig) -> int:
    """Return the number of elements of state of one stream."""
    return model_config.num_hidden_layers * model_config.hidden_size


@lru_cache(maxsize=256)
def sizes_of(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> Sizes:
    """Return ``program_sizes``, even if the machine's FIFO is too short for gains. ``lacks`` reports such a FIFO."""
    try:
        return program_sizes(model_config, hw_config, embedding_bits)
    except LuternError:
        return program_sizes(model_config, hw_config.with_(gain_fifo_words=DEEPEST_FIFO), embedding_bits)


def state_words(model_config: ModelConfig, hw_config: HwConfig) -> int:
    """Return the number of words of one stream's state in the memory of words; 0 if the state is in block RAM."""
    sizes = sizes_of(model_config, hw_config)
    return sizes.layers * sizes.state_words


def memory_bytes(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> int:
    """Return the number of bytes that a model of this shape needs in the memories of a machine.

    These bytes include the state of one stream if the state is in the memory of words.
    """
    sizes = sizes_of(model_config, hw_config, embedding_bits)
    words = sizes.words + state_words(model_config, hw_config)
    return words * hw_config.word_bytes + sizes.beats * hw_config.beat_bytes


@lru_cache(maxsize=256)
def lacks(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> tuple[Lack, ...]:
    """Return every limit of a machine that a shape exceeds, the most important first."""
    return (
        *_memory_lacks(model_config, hw_config, embedding_bits),
        *_limit_lacks(model_config, hw_config),
        *_layout_lacks(model_config, hw_config),
    )


def _memory_lacks(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int) -> Iterator[Lack]:
    if hw_config.memory == "host":
        return
    try:
        found = [sizes_of(model_config, hw_config, bits) for bits in (embedding_bits, NARROW_BITS)]
    except LuternError:  # no model can be laid out for such a machine; ``_layout_lacks`` gives the reason
        return
    state = state_words(model_config, hw_config)
    words, beats = ([getattr(sizes, name) for sizes in found] for name in ("words", "beats"))
    resident = hw_config.source == "resident"
    for (needed, narrow), item_bytes, held, what, field in (
        (beats, hw_config.beat_bytes, hw_config.trit_beats, "block RAM for trits and embeddings", "trit_beats"),
        (
            [count + state for count in words],
            hw_config.word_bytes,
            hw_config.memory_words,
            "block RAM for operations and gains" if resident else "memory",
            "memory_words",
        ),
    ):
        if needed > held:
            yield _memory_lack(
                what, field, needed * item_bytes, held * item_bytes, narrow * item_bytes, hw_config, state
            )


def _memory_lack(what: str, field: str, needed: int, held: int, narrow: int, hw_config: HwConfig, state: int) -> Lack:
    """Return the lack of a memory that is too small.

    The text of the lack says whether the model would fit with the narrowest elements of the embedding table.
    """
    text = (
        f"the model needs {needed:,} bytes of {what}, {hw_config.name} has {held:,} ({field}): {excess(needed, held)}"
    )
    if state:
        text += f", of which its state takes {state * hw_config.word_bytes:,}"
    if narrow <= held:
        text += f" (with `lutern convert --embedding-bits {NARROW_BITS}` it would need {narrow:,}, which fit)"
    return Lack(what, needed, held, text, f"{what} of {needed:,} bytes (at most {held:,})")


def excess(needed: int, held: int) -> str:
    """Return by how much a memory is too small, in a few words."""
    if needed > MORE_TO_SAY * held:
        return f"{needed / held:,.{0 if needed >= 10 * held else 1}f} times as much is needed"
    over = needed - held
    size = next(f"{over / unit:.3g} {name}" for unit, name in ((1e6, "MB"), (1e3, "KB"), (1, "bytes")) if over >= unit)
    share = 100 * over / held
    return f"{size} ({share:.{0 if share >= 10 else 2}f} %) too many"


def _limit_lacks(model_config: ModelConfig, hw_config: HwConfig) -> Iterator[Lack]:
    for what, needed, field in (
        ("hidden size", model_config.hidden_size, "max_width"),
        ("intermediate size", model_config.intermediate_size, "max_width"),
        ("state (layers x hidden size)", state_elements(model_config), "max_state"),
        ("vocabulary", model_config.vocab_size, "max_vocab"),
    ):
        held = getattr(hw_config, field)
        if needed > held and (field != "max_state" or hw_config.state == "block"):
            text = f"the model's {what} is {needed}, but {hw_config.name} holds at most {held} ({field})"
            yield Lack(what, needed, held, text, f"{what} {needed} (at most {held})")


def _layout_lacks(model_config: ModelConfig, hw_config: HwConfig) -> Iterator[Lack]:
    """Yield a lack if a size is not a multiple of the results per cycle, or if the records cannot be laid out, for
    example because a FIFO is too short for the gains.
    """
    results = hw_config.results_per_cycle
    for what, value in (
        ("hidden size", model_config.hidden_size),
        ("intermediate size", model_config.intermediate_size),
    ):
        if value % results:
            text = (
                f"the model's {what} is {value}, not a multiple of the {results} results per cycle of "
                f"{hw_config.name}; choose a preset with fewer results per cycle"
            )
            yield Lack(what, value, results, text, f"{what} {value} (no multiple of {results})")
            return
    try:
        program_sizes(model_config, hw_config)
    except LuternError as error:
        yield Lack("layout", 0, 0, str(error).rstrip("."), "its layout")


def check_fit(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> None:
    """Raise ``LuternError`` if a model of this shape does not fit the machine."""
    found = lacks(model_config, hw_config, embedding_bits)
    if found:
        larger = preset_for(model_config, embedding_bits)
        instead = f"a preset that holds it, such as {larger}, or a smaller model" if larger else "a smaller model"
        advice = "" if "choose" in found[0].text else f"; choose {instead}"
        raise LuternError(f"{reasons(found)}{advice}.")


def preset_for(model_config: ModelConfig, embedding_bits: int = WIDE_BITS) -> str | None:
    """Return the first preset that a model of this shape fits; None if it fits no preset."""
    return next((name for name, of in PRESETS.items() if not lacks(model_config, of, embedding_bits)), None)


def reasons(found: Sequence[Lack], numbers: bool = True) -> str:
    """Return a clause with the first lack in full, and the other lacks in brief if ``numbers``, else only by name."""
    first, *others = found
    if not others:
        return first.text
    listed = ", ".join(lack.brief if numbers else lack.what for lack in others)
    return f"{first.text}; other limits are also exceeded: {listed}"


def reason_against(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> str | None:
    """Return the first reason why a machine does not hold a shape; None if it holds the shape."""
    found = lacks(model_config, hw_config, embedding_bits)
    return found[0].text.partition(";")[0] if found else None


def state_slots(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> int:
    """Return the number of conversations whose states a machine can store.

    The number is at most the streams of the machine, or ``MOST_SLOTS`` if S is in the memory of words.
    """
    if hw_config.state == "block":
        return min(hw_config.streams, hw_config.max_state // state_elements(model_config))
    room = max(0, hw_config.memory_words - sizes_of(model_config, hw_config, embedding_bits).words)
    return min(MOST_SLOTS, room // state_words(model_config, hw_config))


__all__ = [
    "MOST_SLOTS",
    "STATE_BYTES",
    "Lack",
    "check_fit",
    "excess",
    "lacks",
    "memory_bytes",
    "reason_against",
    "reasons",
    "sizes_of",
    "state_elements",
    "state_slots",
    "state_words",
]
