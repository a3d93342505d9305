"""The one interface between the machine and any memory of words: jobs go out, and their words come back in order.

    WordMemory (hw/memory/words.py)                        a word source
      job {address, length, write, word, client} ────────►  SDRAM controller, block RAM, a port of the chip
      ahead (a hint) ────────────────────────────────────►
      valid, client, word ◄────────────────────────────────
      idle ◄───────────────────────────────────────────────

A *job* reads 1 to ``burst`` words of one aligned block of ``burst`` words, or writes one word. A source accepts jobs in
order. The source answers a read with exactly the words of the job, each once and in order. The first word comes in the
cycle after the job was accepted, or later. A source never holds a word back, because the reader sends a job only if it
has room for every word of the job. A read returns the data of all writes that were accepted before it. All signals
belong to the clock domain of the source, ``memory``.

Within the chip, a job that is not accepted yet may be replaced by a more urgent job, or withdrawn. At a port of the top
(``PortSource``) a job is stable until it is accepted, like the payload of every stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Client(IntEnum):
    """Names the client that a word is read for.

    Members
    -------
    STREAM
        The record stream.
    FETCH
        The row of a token, a request of the host, or the march test.
    STATE
        The state of the recurrence.
    """

    STREAM = 0
    FETCH = 1
    STATE = 2


@dataclass(frozen=True)
class SourceShape:
    """Widths of a word source, and the other figures that its reader needs.

    Parameters
    ----------
    word_bits, address_bits : int
        Width of a word, and width of an address.
    in_flight : int
        Number of words that must be requested ahead so that the source never waits for a job. This is the latency times
        the number of words per cycle.
    burst : int
        Largest number of words of a job, a power of two.
    page_bits : int
        log2 of the number of words of a page. A source may open a page before the first job of the page.
        ``address_bits`` if the source has no pages.
    client_bits : int
        Width of ``client``: 2 if ``Client.STATE`` is one of the clients, otherwise 1.
    is_trusted : bool
        The source is a block of this package, and the order of its words is proved. So only a missing answer is
        detected as a fault.
    """

    word_bits: int
    address_bits: int
    in_flight: int
    burst: int = 8
    page_bits: int = 32
    client_bits: int = 1
    is_trusted: bool = False

    @property
    def job(self) -> data.StructLayout:
        """Layout of a job: ``length`` words from ``address`` for ``client``, or ``word`` written to ``address``."""
        return data.StructLayout(
            {
                "write": 1,
                "length": range(self.burst + 1),
                "client": self.client_bits,
                "address": self.address_bits,
                "word": self.word_bits,
            }
        )

    @property
    def clients(self) -> tuple[Client, ...]:
        """The clients that read from the source."""
        return tuple(Client) if self.client_bits > 1 else (Client.STREAM, Client.FETCH)


class WordPort(wiring.Signature):
    """The interface of a word source, with directions as seen from the reader. A source has a member
    ``In(WordPort(shape))``.

    Members
    -------
    job : stream of ``SourceShape.job``, output
        The jobs.
    ahead : ``address_bits``, output
        An address in the page that will be read after the present page. This is a hint that a source may ignore.
    valid : 1 bit, input
        A word comes in this cycle.
    client : ``client_bits``, input
        The client of the word.
    word : ``word_bits``, input
        The word.
    idle : 1 bit, input
        No accepted job has a word to deliver or to write.
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


class PortSource(wiring.Component):
    """Connects a source outside the chip. A register holds each job until the source accepts the job.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.

    Members
    -------
    port : ``WordPort``, input
        To the reader.
    words : ``WordPort``, output
        To the source.

    Numerics
    --------
    None.

    Latency
    -------
    1 cycle for a job, 0 for a word. One job every second cycle.

    Reference
    ---------
    None.
    """

    def __init__(self, shape: SourceShape) -> None:
        self.shape = shape
        super().__init__({"port": In(WordPort(shape)), "words": Out(WordPort(shape))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        port, words = self.port, self.words
        m.d.comb += [
            port.job.ready.eq(~words.job.valid),
            words.ahead.eq(port.ahead),
            port.valid.eq(words.valid),
            port.client.eq(words.client),
            port.word.eq(words.word),
            port.idle.eq(words.idle & ~words.job.valid),
        ]
        with m.If(~words.job.valid):
            m.d.sync += [words.job.valid.eq(port.job.valid), words.job.payload.eq(port.job.payload)]
        with m.Elif(words.job.ready):
            m.d.sync += words.job.valid.eq(0)
        return m


__all__ = ["Client", "PortSource", "SourceShape", "WordPort"]
