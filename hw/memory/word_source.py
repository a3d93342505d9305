"""The one interface between the machine and any memory of words: jobs go out, their words come back in order.

    WordMemory (hw/memory/words.py)                        a word source
      job {address, length, write, word, client} ────────►  SDRAM controller, block RAM, a port of the chip
      ahead (a hint) ────────────────────────────────────►
      valid, client, word ◄────────────────────────────────
      idle ◄───────────────────────────────────────────────

A *job* reads 1 to ``burst`` words of one aligned block of ``burst`` words, or writes one word. A source accepts jobs in
order, and answers a read with exactly its words, in order, each once. It never holds a word back for the reader: the
reader has made sure of the room for every word before it gave the job. A read sees every write that was accepted before
it. All signals belong to the clock domain of the source, ``memory``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Client(IntEnum):
    """Who a word is read for: the record stream, a fetch (row, host, march test), the state of the recurrence."""

    STREAM = 0
    FETCH = 1
    STATE = 2


@dataclass(frozen=True)
class SourceShape:
    """Widths of a word source, and what its reader must know of it.

    word_bits, address_bits
        of a word, and of its address.
    in_flight
        words that must be asked for ahead so that the source never waits for a job: latency times words a cycle.
    burst
        most words of a job, a power of two.
    page_bits
        log2 of the words of a page, which a source may open ahead of its first job; ``address_bits`` if it has none.
    client_bits
        width of ``client``: 1 without ``Client.STATE``.
    """

    word_bits: int
    address_bits: int
    in_flight: int
    burst: int = 8
    page_bits: int = 32
    client_bits: int = 1

    @property
    def job(self) -> data.StructLayout:
        """``length`` words from ``address``, read for ``client``; or ``word`` written to ``address``."""
        return data.StructLayout(
            {
                "write": 1,
                "length": range(self.burst + 1),
                "client": self.client_bits,
                "address": self.address_bits,
                "word": self.word_bits,
            }
        )


class WordPort(wiring.Signature):
    """The interface as its reader sees it; a source has a member ``In(WordPort(shape))``.

    Members: ``job``, a stream of ``SourceShape.job``; ``ahead``, an address in the page that will be read after the
    present one, a hint that a source may ignore; ``valid``, ``client``, ``word``: a word that was read; ``idle``: no
    accepted job has a word to deliver or to write.
    """

    def __init__(self, shape: SourceShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "job": Out(stream.Signature(shape.job)),
                "ahead": Out(shape.address_bits),
                "valid": In(1),
                "client": In(shape.client_bits),
                "word": In(shape.word_bits),
                "idle": In(1),
            }
        )


__all__ = ["Client", "SourceShape", "WordPort"]
