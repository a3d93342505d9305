"""Faults of a memory next to the chip: weights that change after loading, before or while they are read.

    1, 2, 3 bits   anywhere in a block of records or in a row of the embedding table
    burst          up to 64 successive bits, of which the first and the last are wrong
    page           a copy of another page in place of the page with the word
    swap           two blocks, or two rows, exchanged
    stale          a block or a row of another model of the same shape
    address        up to 16 words from another address

A fault hits words that the run reads: the record stream, or the rows of the tokens that are fed.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.program import lay_out
from lutern.hw.config import OUTSIDE, HwConfig
from lutern.measure.inject.campaign import Campaign, Settings
from lutern.measure.inject.trial import FIRST, SECOND, Scenario
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

Words = NDArray[np.uint8]
BURST_BITS = 64
WRONG_ADDRESS_WORDS = 16
PAGE_BYTES = 1024
"""Bytes of a page: a row of the SDRAM parts on the boards, 512 columns of 16 bits."""
PAST_SHARE = 0.25
"""Fraction of the runs that continue a conversation."""


@dataclass(frozen=True)
class Span:
    """``count`` words from word ``first`` on, which have their own check."""

    first: int
    count: int


class MemoryCampaign(Campaign):
    """A campaign that changes words of the memory."""

    @classmethod
    def check_machine(cls, config: HwConfig) -> None:
        """See ``Campaign``."""
        if config.memory not in OUTSIDE:
            raise LuternError(
                f"{config.name} has its weights in the chip, and this campaign changes a memory beside it; choose a "
                "preset with SDRAM, DDR3 or a port, such as sdram-x16."
            )

    @cached_property
    def blocks(self) -> list[Span]:
        """The blocks of the record stream."""
        return [Span(first, count) for first, count in self.program.blocks]

    def rows(self, scenario: Scenario) -> list[Span]:
        """Return the rows of the embedding table that the run reads."""
        setup = self.program.setup
        return [
            Span(setup["embedding_base"] + token * setup["embedding_stride"], setup["embedding_row_words"])
            for token in ([FIRST, SECOND] if scenario.has_past else [SECOND])
        ]

    def of_words(self, draw: random.Random, scenario: Scenario) -> Span:
        """Draw one of the words that the run reads, and return the block or row that contains this word."""
        spans = [*self.blocks, *self.rows(scenario)]
        return draw.choices(spans, [span.count for span in spans])[0]

    def with_words(self, scenario: Scenario, changed: Words, cycles: int, where: str) -> tuple[str, str]:
        """Return the result if the memory contains ``changed`` from cycle ``cycles`` of the run on."""
        different = np.flatnonzero((changed != self.program.words).any(axis=1))
        first, last = int(different[0]), int(different[-1])

        with self.bench.board() as board:

            def poke() -> None:
                board.poke(first, changed[first : last + 1])

            result, note = self.bench.judge(board, scenario, lambda _: board.strike(cycles, poke) if cycles else poke())
        return result, f"{where}, cycle {cycles}. {note}".rstrip()


class DrawnCampaign(MemoryCampaign):
    """A campaign that draws words for each fault."""

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``. Half of the faults happen before the run, the other half during the run."""
        scenario = Scenario(draw.random() < PAST_SHARE, 1)
        cycles = draw.choice((0, draw.randrange(self.bench.sound(scenario).cycles)))
        return self.strike_at(cycles, kind, draw, index, scenario)

    def strike_at(self, cycles: int, kind: str, draw: random.Random, index: int, scenario: Scenario) -> tuple[str, str]:
        """Inject a fault as ``strike`` does, but at a given cycle of the run; 0 means before the run."""
        words = self.program.words
        where, changed = "", words
        while np.array_equal(changed, words):
            where, changed = self.change(kind, draw, index, scenario)
        return self.with_words(scenario, changed, cycles, where)

    @abstractmethod
    def change(self, kind: str, draw: random.Random, index: int, scenario: Scenario) -> tuple[str, Words]:
        """Return where the fault is, and all words with the fault. By chance, the words may be unchanged."""


class Weights(DrawnCampaign):
    """Faults of the kinds that are listed at the top of this file."""

    kinds = ("1 bit", "2 bits", "3 bits", "burst", "page", "swap", "stale", "address")

    @cached_property
    def stale(self) -> Words:
        """The words of another model of the same shape."""
        weights = integer_weights(random_checkpoint(self.settings.weights.config, self.settings.seed + 1))
        return lay_out(weights, self.settings.config).words

    def change(self, kind: str, draw: random.Random, index: int, scenario: Scenario) -> tuple[str, Words]:
        """See ``DrawnCampaign``."""
        words = self.program.words.copy()
        span = self.of_words(draw, scenario)
        here = slice(span.first, span.first + span.count)
        where = f"words {span.first} to {span.first + span.count - 1}"
        if kind in ("1 bit", "2 bits", "3 bits"):
            bits = draw.sample(range(8 * words[here].size), int(kind[0]))
            flip(words[here], bits)
            return f"bits {sorted(bits)} of {where}", words
        if kind == "burst":
            length = min(draw.randrange(2, BURST_BITS + 1), 8 * words[here].size)
            first = draw.randrange(8 * words[here].size - length + 1)
            bits = [first, *(bit for bit in range(first + 1, first + length - 1) if draw.random() < 0.5)]
            flip(words[here], [*bits, first + length - 1])
            return f"{length} bits from bit {first} of {where} on", words
        if kind == "page":
            page, other = page_of(self.program.words, span.first + draw.randrange(span.count)), draw.random()
            pages = -(-len(words) // page.count)
            source = int(other * pages) * page.count
            count = min(page.count, len(words) - source, len(words) - page.first)
            words[page.first : page.first + count] = self.program.words[source : source + count]
            return f"the page at word {page.first} holds the page at word {source}", words
        if kind == "swap":
            return self._swapped(words, draw, scenario, span)
        if kind == "stale":
            if len(self.stale) == len(words):
                words[here] = self.stale[here]
            else:  # the table has another format
                words[: self.program.sizes.record_words] = self.stale[: self.program.sizes.record_words]
            return f"{where} of another model", words
        count = min(draw.randrange(1, WRONG_ADDRESS_WORDS + 1), span.count)
        first = span.first + draw.randrange(span.count - count + 1)
        source = draw.randrange(len(words) - count + 1)
        words[first : first + count] = self.program.words[source : source + count]
        return f"words {first} to {first + count - 1} hold the words from {source} on", words

    def _swapped(self, words: Words, draw: random.Random, scenario: Scenario, span: Span) -> tuple[str, Words]:
        """Exchange ``span`` with another span, up to the length of the shorter one."""
        setup = self.program.setup
        others = self.blocks
        if span not in others or len(others) == 1:
            span = draw.choice(self.rows(scenario))
            base, stride, count = setup["embedding_base"], setup["embedding_stride"], setup["embedding_row_words"]
            others = [Span(base + token * stride, count) for token in range(self.program.vocab)]
        other = draw.choice(others)
        count = min(span.count, other.count)
        words[span.first : span.first + count] = self.program.words[other.first : other.first + count]
        words[other.first : other.first + count] = self.program.words[span.first : span.first + count]
        return f"{count} words at {span.first} and {other.first} exchanged", words


class Bits(MemoryCampaign):
    """Flips every single bit of one block: fault i flips bit i of the shortest block before the run begins."""

    kinds = ("1 bit",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._block = min(self.blocks, key=lambda block: block.count)
        self.fault_count = self._block.count * settings.config.word_bits

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        words, block = self.program.words.copy(), self._block
        flip(words[block.first : block.first + block.count], [index])
        return self.with_words(Scenario(has_past=False, count=1), words, 0, f"bit {index} of the block")


class Row(DrawnCampaign):
    """Loses a row of a DRAM: all words of a page that the run reads."""

    kinds = ("zeros", "ones", "noise")

    def change(self, kind: str, draw: random.Random, index: int, scenario: Scenario) -> tuple[str, Words]:
        """See ``DrawnCampaign``."""
        words = self.program.words.copy()
        span = self.of_words(draw, scenario)
        page = page_of(words, span.first + draw.randrange(span.count))
        lost = words[page.first : page.first + page.count]
        lost[:] = {"zeros": 0, "ones": 255}.get(kind, 0)
        if kind == "noise":
            lost[:] = np.frombuffer(draw.randbytes(lost.size), np.uint8).reshape(lost.shape)
        return f"{kind} in the page at word {page.first}", words


class Refresh(DrawnCampaign):
    """Stops refreshing for a time: some of the cells lose their charge, and at least one of them is read.

    A cell without charge is read as 0 in pages with an even number, and as 1 in pages with an odd number.
    The kinds are the fractions of the cells that lose their charge.
    """

    kinds = ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1")

    def change(self, kind: str, draw: random.Random, index: int, scenario: Scenario) -> tuple[str, Words]:
        """See ``DrawnCampaign``."""
        words = self.program.words
        seeded = np.random.default_rng(draw.getrandbits(64))
        bits = np.unpackbits(words, axis=1, bitorder="little")
        page_words = page_of(words, 0).count
        without_charge = (np.arange(len(words)) // page_words % 2).astype(np.uint8)[:, None]
        decayed = seeded.random(bits.shape) < float(kind)
        span = self.of_words(draw, scenario)
        decayed[span.first + draw.randrange(span.count), draw.randrange(bits.shape[1])] = True
        changed = np.packbits(np.where(decayed, without_charge, bits), axis=1, bitorder="little")
        return f"{int((changed != words).sum())} bytes wrong", changed


def flip(words: Words, bits: list[int]) -> None:
    """Flip bits of words, counted from the first word on."""
    word_bits = 8 * words.shape[1]
    for bit in bits:
        words[bit // word_bits, bit % word_bits // 8] ^= np.uint8(1 << bit % 8)


def page_of(words: Words, at: int) -> Span:
    """Return the page that contains word ``at``."""
    count = max(1, PAGE_BYTES // words.shape[1])
    first = at // count * count
    return Span(first, min(count, len(words) - first))


__all__ = ["Bits", "DrawnCampaign", "MemoryCampaign", "Refresh", "Row", "Weights"]
