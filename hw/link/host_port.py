"""The gateware's end of the link: takes commands apart, carries them out one at a time, answers each.

    i_rx ─► Deframer ─► buffer (block RAM) ─┬─ WRITE ────► o_write            word by word, after the CRC was right
                                            ├─ CHECKSUM ─► o_read, i_read     CRC-32C of what the memory gives back
                                            ├─ SETUP ────► setup, running     until the next WRITE or CHECKSUM
                                            ├─ RUN ──────► o_feed, o_run, i_token   tokens and figures into the reply
                                            ├─ LOGITS ───► logits_stream, logits_address, logits_data, scale
                                            ├─ COUNTERS ─► counters_address, counters_data, counted
                                            ├─ MEMORY_TEST, PHASE (memory "sdram") ─► o_test, i_test, o_phase, i_phase
                                            └─ RECORDS, ROW (memory "host") ─► o_host, i_want
    o_tx ◄─ Framer ◄─ Reply ◄───────────────┘

Formats: hw/protocol.py. Nothing is carried out before the whole frame has come and its CRC was right.
While a command is carried out, i_rx takes only the first bytes of the next frame, then waits; but a RUN goes on beside,
and is answered between two bytes of whatever comes then (hw/memory/host.py has a drawing). A WRITE of 512 bytes is
carried out in 768 cycles at most, and its answer waits in a FIFO of its own: on a serial line the next frame's first
bytes come meanwhile, fewer than the FIFO of the line holds, so the host may send frame upon frame.

Cost: a WRITE of n bytes takes n cycles to come, n (1 + 1 / word_bytes) cycles to be written, some 30 to be answered; a
CHECKSUM one cycle a byte; a RUN some 10 cycles a stream. One block RAM of 1024 bytes, one of 128 tokens; one word of
registers, shifted both ways.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISCSI
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutern.hw import protocol
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.link.reply import FIXED_BYTES, LOGIT_BITS, Reply
from lutern.hw.link.slip import DEFRAMED, FRAMED, Deframer, Framer
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import (
    ADDRESS_BITS,
    FEED,
    FRAME_BYTES,
    HEADER_BYTES,
    RANGE_LAYOUT,
    RUN_DONE,
    RUN_TOKENS,
    ErrorCode,
    Opcode,
)

ARGUMENT_BYTES = max(protocol.COMMAND_BYTES.values())
WORDS_AT = HEADER_BYTES + protocol.WRITE.byte_count  # where the words of a WRITE begin
FEEDS_AT = HEADER_BYTES + protocol.RUN.byte_count  # and the feeds of a RUN
RUN_COUNT_BITS = RUN_TOKENS.bit_length()
SPAN_BITS = ADDRESS_BITS + 1  # of any address, and of the one behind the last
ANSWER_BYTES = 32
"""Bytes of answers that wait for the line: one to a WRITE, with every byte escaped."""
assert FEED.byte_count == 9  # lengths are computed by shifts


class HostPort(wiring.Component):
    """Commands of the host to memory and decoder.

    Parameters: `config`, any object with the attributes that `protocol.capability` reads.

    Members: `i_rx`, `o_tx` raw bytes; `o_write` one word and its address; `o_read` asks for words, of which exactly as
    many must come on `i_read`; `setup` the last SETUP record, `running` while it holds: it falls with a WRITE,
    CHECKSUM, MEMORY_TEST or SETUP that is not refused, and rises a cycle after `setup` has changed; `o_feed` each
    stream's first token and state, then `o_run` starts a run, after which one item for each token must come on
    `i_token`, the final one marked, with `status` right in the same cycle; `logits_address` and `logits_stream` are
    read synchronously, `logits_data` and `scale` come one cycle later; so do `counters_data` and `counted`, of machines
    that have counters.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.info = protocol.capability(config)
        word_bits = 8 * config.word_bytes
        self.has_sdram = config.memory == "sdram"
        sdram: dict[str, Any] = {
            "o_test": Out(stream.Signature(RANGE_LAYOUT)),
            "i_test": In(stream.Signature(protocol.MEMORY_TEST_DONE.layout)),
            "o_phase": Out(stream.Signature(signed(16))),
            "i_phase": In(stream.Signature(signed(16))),
        }
        self.has_host = config.memory == "host"
        from_host: dict[str, Any] = {
            "o_host": Out(stream.Signature(protocol.host_word_layout(config.word_bytes))),
            "i_want": In(stream.Signature(protocol.WANT_LAYOUT)),
        }
        self.has_counters = bool(config.counters)
        counters: dict[str, Any] = {"counters_address": Out(16), "counters_data": In(32), "counted": In(16)}
        super().__init__(
            {
                **(counters if self.has_counters else {}),
                **(from_host if self.has_host else {}),
                **(sdram if self.has_sdram else {}),
                "i_rx": In(stream.Signature(8)),
                "o_tx": Out(stream.Signature(8)),
                "o_write": Out(stream.Signature(protocol.write_layout(config.word_bytes))),
                "o_read": Out(stream.Signature(protocol.READ_LAYOUT)),
                "i_read": In(stream.Signature(word_bits)),
                "setup": Out(protocol.SETUP_LAYOUT),
                "running": Out(1),
                "o_feed": Out(stream.Signature(protocol.FEED_LAYOUT)),
                "o_run": Out(stream.Signature(protocol.RUN_LAYOUT)),
                "i_token": In(stream.Signature(protocol.TOKEN_LAYOUT)),
                "status": In(protocol.STATUS),
                "logits_stream": Out(protocol.STREAM_BITS),
                "scale": In(protocol.SCALE_LAYOUT),
                "logits_address": Out(16),
                "logits_data": In(signed(LOGIT_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        m.submodules.deframer = deframer = Deframer()
        m.submodules.framer = framer = Framer()
        m.submodules.reply = reply = Reply(32) if self.has_counters else Reply()
        m.submodules.checksum = checksum = CRC32_ISCSI(8).create()
        m.submodules.buffer = buffer = Memory(shape=8, depth=1024, init=[])
        m.submodules.tokens = tokens = Memory(shape=16, depth=RUN_TOKENS, init=[])
        wiring.connect(m, wiring.flipped(self.i_rx), deframer.i)
        m.submodules.answers = answers = SyncFIFOBuffered(width=8, depth=1024 if self.has_host else ANSWER_BYTES)
        wiring.connect(m, framer.o, answers.w_stream)
        wiring.connect(m, answers.r_stream, wiring.flipped(self.o_tx))

        # Which byte of the response is next, and how it is escaped: a register between the two, both ways. A byte takes
        # two cycles; a line needs tens.
        held, holds = Signal(FRAMED), Signal()
        m.d.comb += [framer.i.p.eq(held), framer.i.valid.eq(holds), reply.o.ready.eq(~holds)]
        with m.If(~holds):
            m.d.sync += [held.eq(reply.o.p), holds.eq(reply.o.valid)]
        with m.Elif(framer.i.ready):
            m.d.sync += holds.eq(0)

        # The frame, an `item` whenever there is one: all of it in the buffer, its first bytes in registers too.
        item, got = Signal(DEFRAMED), Signal()
        position = Signal(range(FRAME_BYTES))  # bytes of the frame so far
        head = Signal(8 * (HEADER_BYTES + ARGUMENT_BYTES))
        opcode, sequence, arguments = head[0:8], head[8:16], head[16:]
        records = (protocol.WRITE, protocol.CHECKSUM, protocol.SETUP, protocol.RUN, protocol.LOGITS, protocol.PHASE)
        write, check, setup, run, logits, phase_steps = (
            data.View(record.layout, arguments[: record.layout.size]) for record in records
        )
        wanted = data.View(protocol.COUNTERS.layout, arguments[: protocol.COUNTERS.layout.size])
        frame_crc = Signal(32)
        phase = Signal(range(config.word_bytes))  # bytes of an unfinished word: arriving, being written, being summed
        phase_ends = phase == config.word_bytes - 1
        frame_words = Signal(range(FRAME_BYTES))  # whole words that came
        partial = Signal()  # and part of one

        store = buffer.write_port()
        fetch = buffer.read_port()
        pointer, advance = Signal(range(FRAME_BYTES)), Signal()
        m.d.comb += [
            store.addr.eq(position),
            store.data.eq(item.byte),
            fetch.addr.eq(pointer + advance),  # so that fetch.data is the byte at pointer, without a wait
            fetch.en.eq(1),
        ]
        m.d.sync += pointer.eq(pointer + advance)

        # Addresses, logits, counters or tokens that the command wants; of words, those that are left.
        span_start = Signal(32 if self.has_host else SPAN_BITS)  # the offset of a RECORDS has 32 bits
        span_count = Signal(SPAN_BITS)
        spent = Signal()  # none is left
        span_end = Signal(SPAN_BITS + 1)  # the first behind them
        far = Signal()  # the address or count of words has bits that are lost here

        # A word on its way to the memory or back, its first byte lowest.
        word = Signal(8 * config.word_bytes)
        loaded = Signal()
        m.d.comb += [
            self.o_write.p.address.eq(span_start),
            self.o_write.p.word.eq(word),
            self.o_read.p.address.eq(check.address),
            self.o_read.p.count.eq(check.count),
            self.o_run.p.count.eq(run.count),
            self.o_run.p.final_stream.eq(run.streams - 1),
            self.o_run.p.chained.eq(run.chained),
            self.o_run.p.temperature.eq(run.temperature),
            self.logits_stream.eq(logits.stream),
            checksum.data.eq(word[:8]),
        ]

        # A feed of a RUN, byte by byte, as the bytes of a word.
        feed_bytes = Signal(8 * FEED.byte_count)
        feed = data.View(FEED.layout, feed_bytes)
        feed_shifted = Cat(feed_bytes[8:], fetch.data)
        bad_token = Signal()
        feed_byte = Signal(range(FEED.byte_count))
        feed_index = Signal(protocol.STREAM_BITS)
        m.d.comb += [
            self.o_feed.p.stream.eq(feed_index),
            self.o_feed.p.token.eq(feed.token),
            self.o_feed.p.state_base.eq(feed.state_base),
            self.o_feed.p.fresh.eq(feed.fresh),
            self.o_feed.p.seed.eq(feed.seed),
        ]

        # What a response is made of; that of a RUN stays for a resend.
        error = Signal(ErrorCode)
        tested, phase_place = Signal(protocol.MEMORY_TEST_DONE.layout), Signal(signed(16))
        dropped_frames = Signal(16)
        done = Signal(RUN_DONE.layout)
        is_stored = Signal()  # the response of the last RUN, and no other command came since
        is_run, is_resend = Signal(), Signal()  # this command is the last RUN; and its response is stored
        run_sequence, run_crc = Signal(8), Signal(32)
        busy, finished = Signal(), Signal()  # a run goes on; its answer is due
        tells_run = Signal()
        brings_words = (opcode == Opcode.RECORDS) | (opcode == Opcode.ROW) if self.has_host else Const(0)
        wants = self.i_want.valid if self.has_host else Const(0)
        beyond = Signal()  # words of memory that are not there
        resident = config.source == "resident"
        m.d.comb += beyond.eq(far | exceeds(span_end, 0 if self.has_host else config.memory_words))
        if resident:
            trits_end = TRIT_MEMORY + (config.trit_beats << config.part_bits)
            with m.If(exceeds(write.address, TRIT_MEMORY - 1)):  # CHECKSUM: the same field
                m.d.comb += beyond.eq(far | exceeds(span_end, trits_end))

        streams = run.streams[: config.streams.bit_length()]
        feeds_end = Signal(range(FEEDS_AT + 255 * FEED.byte_count + 1))
        m.d.sync += feeds_end.eq(FEEDS_AT + (run.streams << 3) + run.streams)
        tokens_of_run = sum(
            (Mux(streams[bit], run.count[:RUN_COUNT_BITS] << bit, 0) for bit in range(len(streams))), start=Const(0, 1)
        )
        entries = config.top_k * 2 or config.max_vocab

        def refuse(code: ErrorCode) -> None:
            m.d.sync += error.eq(code)

        m.d.sync += [item.eq(deframer.o.p), got.eq(deframer.o.valid & deframer.o.ready)]
        m.d.comb += store.en.eq(got)
        with m.If(got):
            with m.If(item.end):
                m.d.sync += [phase.eq(0), partial.eq(phase != 0), frame_crc.eq(deframer.crc)]
                with m.If(~item.good):
                    m.d.sync += [dropped_frames.eq(dropped_frames + 1), position.eq(0), frame_words.eq(0)]
            with m.Else():
                m.d.sync += position.eq(position + 1)
                with m.If(~exceeds(position, HEADER_BYTES + ARGUMENT_BYTES - 1)):
                    m.d.sync += head.word_select(position[: bits_for(ARGUMENT_BYTES)], 8).eq(item.byte)
                with m.If(exceeds(position, WORDS_AT - 1)):
                    m.d.sync += phase.eq(phase + 1)
                    with m.If(phase_ends):
                        m.d.sync += [phase.eq(0), frame_words.eq(frame_words + 1)]

        with m.FSM() as machine:
            with m.State("RECEIVE"):
                m.d.comb += deframer.o.ready.eq(~got & ~finished & ~wants)
                m.d.sync += [pointer.eq(WORDS_AT), error.eq(0), tells_run.eq(finished)]
                with m.If(got):
                    with m.If(item.end & item.good):
                        m.next = "DECODE"
                with m.Elif(finished | wants):
                    m.next = "TELL"

            with m.State("DECODE"):
                m.next = "ADD"
                is_same = (sequence == run_sequence) & (frame_crc == run_crc)
                m.d.sync += is_run.eq(is_same)
                with m.If(~brings_words):
                    m.d.sync += [is_stored.eq(is_stored & is_same), is_resend.eq(is_stored & is_same)]
                with m.Switch(opcode):
                    for fixed_opcode, byte_count in protocol.COMMAND_BYTES.items():
                        if fixed_opcode is Opcode.RUN or (fixed_opcode is Opcode.COUNTERS and not self.has_counters):
                            continue
                        with m.Case(fixed_opcode):
                            with m.If(position != HEADER_BYTES + byte_count):
                                refuse(ErrorCode.BAD_LENGTH)
                    with m.Case(Opcode.RUN):
                        with m.If(position != feeds_end):
                            refuse(ErrorCode.BAD_LENGTH)
                    with m.Case(Opcode.WRITE, *((Opcode.RECORDS, Opcode.ROW) if self.has_host else ())):
                        with m.If(~exceeds(position, WORDS_AT - 1) | partial | (frame_words == 0)):
                            refuse(ErrorCode.BAD_LENGTH)
                    with m.Default():
                        refuse(ErrorCode.UNKNOWN_OPCODE)
                with m.Switch(opcode):
                    with m.Case(Opcode.WRITE, Opcode.RECORDS, Opcode.ROW):
                        m.d.sync += [span_start.eq(write.address), span_count.eq(frame_words)]
                        m.d.sync += far.eq(write.address[SPAN_BITS:].any())
                    with m.Case(Opcode.CHECKSUM, Opcode.MEMORY_TEST):  # the same fields
                        m.d.sync += [span_start.eq(check.address), span_count.eq(check.count)]
                        m.d.sync += far.eq(check.address[SPAN_BITS:].any() | check.count[SPAN_BITS:].any())
                        if self.has_sdram:  # as many words as no count of READ_LAYOUT says
                            with m.If(opcode == Opcode.CHECKSUM):
                                m.d.sync += far.eq(check.address[SPAN_BITS:].any() | check.count[ADDRESS_BITS:].any())
                    with m.Case(Opcode.LOGITS):
                        m.d.sync += [span_start.eq(logits.offset), span_count.eq(logits.count)]
                    if self.has_counters:
                        with m.Case(Opcode.COUNTERS):
                            m.d.sync += [span_start.eq(wanted.offset), span_count.eq(wanted.count)]
                    with m.Case(Opcode.RUN):
                        m.d.sync += [span_start.eq(0), span_count.eq(tokens_of_run), pointer.eq(FEEDS_AT)]

            with m.State("ADD"):
                m.d.sync += [span_end.eq(span_start + span_count), spent.eq(span_count == 0)]
                m.next = "CHECK"

            # Comparisons end in `error`, a register: what was found before counts.
            with m.State("CHECK"):
                m.next = "BEGIN"
                with m.If(error == 0), m.Switch(opcode):
                    with m.Case(Opcode.WRITE):
                        with m.If(beyond):
                            refuse(ErrorCode.BAD_ADDRESS)
                    with m.Case(Opcode.CHECKSUM, *((Opcode.MEMORY_TEST,) if self.has_sdram else ())):
                        with m.If(check.count == 0):
                            refuse(ErrorCode.BAD_COUNT)
                        with m.Elif(beyond):
                            refuse(ErrorCode.BAD_ADDRESS)
                    if not self.has_sdram:
                        with m.Case(Opcode.MEMORY_TEST, Opcode.PHASE):
                            refuse(ErrorCode.NOT_AVAILABLE)
                    with m.Case(Opcode.SETUP):
                        stream_limit = (1 << 32) - 1 if self.has_host else config.memory_words
                        table_limit = config.trit_beats if resident else stream_limit
                        with m.If(
                            (setup.record_words == 0)
                            | exceeds(setup.record_words, stream_limit)
                            | ((setup.trit_beats != 0) != resident)
                            | exceeds(setup.trit_beats, config.trit_beats)
                            | exceeds(setup.embedding_base, table_limit - 1)
                            | (setup.embedding_row_words == 0)
                            | (setup.vocab == 0)
                            | exceeds(setup.vocab, config.max_vocab)
                        ):
                            refuse(ErrorCode.BAD_SETUP)
                    with m.Case(Opcode.RUN):
                        with m.If(busy):
                            with m.If(~is_run):
                                refuse(ErrorCode.BUSY)
                        with m.Elif(~is_resend):
                            with m.If(~self.running):
                                refuse(ErrorCode.NOT_SET_UP)
                            with m.Elif(
                                (span_end == 0)
                                | exceeds(span_end, RUN_TOKENS)
                                | exceeds(run.count, RUN_TOKENS)
                                | exceeds(run.streams, config.streams)
                            ):
                                refuse(ErrorCode.BAD_COUNT)
                    with m.Case(Opcode.LOGITS):
                        with m.If(
                            (logits.count == 0)
                            | exceeds(logits.count, protocol.LOGITS_COUNT)
                            | exceeds(span_end, entries)
                            | exceeds(logits.stream, config.streams - 1)
                        ):
                            refuse(ErrorCode.BAD_COUNT)
                    if self.has_counters:
                        with m.Case(Opcode.COUNTERS):
                            with m.If(
                                (wanted.count == 0)
                                | exceeds(wanted.count, protocol.COUNTERS_COUNT)
                                | exceeds(span_end, protocol.COUNTER_STRIDE * config.counted_phases)
                            ):
                                refuse(ErrorCode.BAD_COUNT)

            with m.State("BEGIN"):
                m.d.sync += [loaded.eq(0), feed_byte.eq(0), feed_index.eq(0)]
                m.next = "REPLY"
                with m.If(error == 0), m.Switch(opcode):
                    with m.Case(Opcode.WRITE):
                        m.d.sync += self.running.eq(0)
                        m.next = "COLLECT"
                    if self.has_host:
                        with m.Case(Opcode.RECORDS, Opcode.ROW):
                            m.next = "COLLECT"
                    with m.Case(Opcode.CHECKSUM):
                        m.d.sync += self.running.eq(0)
                        m.next = "REQUEST"
                    if self.has_sdram:
                        with m.Case(Opcode.MEMORY_TEST):
                            m.d.sync += self.running.eq(0)
                            m.next = "TEST"
                        with m.Case(Opcode.PHASE):
                            m.next = "PHASE"
                    with m.Case(Opcode.SETUP):
                        m.d.sync += [self.setup.eq(setup), self.running.eq(0)]
                        m.next = "SETUP"
                    with m.Case(Opcode.RUN):
                        with m.If(busy):
                            m.next = "FORGET"
                        with m.Elif(~is_resend):
                            m.d.sync += done.count.eq(0)
                            m.next = "FEED"

            # SETUP: whatever ran starts anew, a cycle after `setup` has changed.
            with m.State("SETUP"):
                m.d.sync += self.running.eq(1)
                m.next = "REPLY"

            # WRITE: a byte a cycle into the word, then the word to the memory.
            with m.State("COLLECT"):
                m.d.comb += advance.eq(1)
                m.d.sync += [word.eq(Cat(word[8:], fetch.data)), phase.eq(phase + 1)]
                with m.If(phase_ends):
                    m.d.sync += [phase.eq(0), span_count.eq(span_count - 1), spent.eq(span_count == 1)]
                    m.next = "STORE"
            with m.State("STORE"):
                taker = self.o_host if self.has_host else self.o_write
                m.d.comb += taker.valid.eq(1)
                with m.If(taker.ready):
                    m.d.sync += span_start.eq(span_start + 1)
                    m.next = "COLLECT"
                    with m.If(spent):
                        if self.has_host:
                            m.next = "FORGET"
                        else:
                            m.next = "REPLY"

            # CHECKSUM: a word from the memory, a byte a cycle out of it; the next one comes with its last byte.
            with m.State("REQUEST"):
                m.d.comb += [self.o_read.valid.eq(1), checksum.start.eq(1)]
                with m.If(self.o_read.ready):
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += [checksum.valid.eq(loaded), self.i_read.ready.eq((~loaded | phase_ends) & ~spent)]
                with m.If(loaded):  # shifted as in COLLECT: one multiplexer; what enters above is not summed
                    m.d.sync += [word.eq(Cat(word[8:], fetch.data)), phase.eq(phase + 1)]
                    with m.If(phase_ends):
                        m.d.sync += [phase.eq(0), loaded.eq(0)]
                        with m.If(spent):
                            m.next = "REPLY"
                with m.If(self.i_read.valid & self.i_read.ready):
                    m.d.sync += [
                        word.eq(self.i_read.payload),
                        loaded.eq(1),
                        span_count.eq(span_count - 1),
                        spent.eq(span_count == 1),
                    ]

            # MEMORY_TEST and PHASE: asked, then answered.
            if self.has_sdram:
                m.d.comb += [
                    self.o_test.p.first.eq(check.address),
                    self.o_test.p.count.eq(check.count),
                    self.o_phase.payload.eq(phase_steps.steps),
                ]
                with m.State("TEST"):
                    m.d.comb += [self.o_test.valid.eq(1), self.i_test.ready.eq(1)]
                    m.d.sync += tested.eq(self.i_test.payload)
                    with m.If(self.i_test.valid):
                        m.next = "REPLY"
                with m.State("PHASE"):
                    m.d.comb += self.o_phase.valid.eq(1)
                    with m.If(self.o_phase.ready):
                        m.next = "PHASED"
                with m.State("PHASED"):
                    m.d.comb += self.i_phase.ready.eq(1)
                    m.d.sync += phase_place.eq(self.i_phase.payload)
                    with m.If(self.i_phase.valid):
                        m.next = "REPLY"

            # RUN: the feeds, then the run.
            with m.State("FEED"):
                m.d.comb += advance.eq(1)
                m.d.sync += [feed_bytes.eq(feed_shifted), feed_byte.eq(feed_byte + 1)]
                m.d.sync += bad_token.eq(data.View(FEED.layout, feed_shifted).token >= self.setup.vocab)
                with m.If(feed_byte == FEED.byte_count - 1):
                    m.d.sync += feed_byte.eq(0)
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.o_feed.valid.eq(1)
                with m.If(self.o_feed.ready):
                    m.d.sync += feed_index.eq(feed_index + 1)
                    m.next = "FEED"
                    with m.If(feed_index == self.o_run.p.final_stream):
                        m.next = "RUN"
                with m.If(bad_token):
                    m.d.comb += self.o_feed.valid.eq(0)
                    refuse(ErrorCode.BAD_TOKEN)
                    m.next = "REPLY"
            with m.State("RUN"):
                m.d.comb += self.o_run.valid.eq(1)
                with m.If(self.o_run.ready):
                    m.d.sync += [busy.eq(1), run_sequence.eq(sequence), run_crc.eq(frame_crc)]
                    m.next = "FORGET"

            with m.State("REPLY"):
                m.d.comb += reply.i.valid.eq(1)
                with m.If(reply.i.ready):
                    m.next = "FORGET"

            with m.State("FORGET"):
                m.d.sync += [position.eq(0), frame_words.eq(0)]
                m.next = "RECEIVE"

            # Between two bytes: the answer of a run, or what is wanted.
            with m.State("TELL"):
                m.d.comb += reply.i.valid.eq(1)
                with m.If(reply.i.ready):
                    m.next = "RECEIVE"
                    with m.If(tells_run):
                        m.d.sync += finished.eq(0)
                    if self.has_host:
                        m.d.comb += self.i_want.ready.eq(~tells_run)

        # A run goes on beside: its tokens into their buffer, the figures of its last step into its response. Whether a
        # RUN that comes is the one that goes on must not change while that is asked.
        asks = Cat(machine.ongoing(state) for state in ("DECODE", "ADD", "CHECK", "BEGIN"))
        m.d.comb += self.i_token.ready.eq(busy & ~asks.any())
        with m.If(self.i_token.valid & self.i_token.ready):
            m.d.sync += [
                done.count[:RUN_COUNT_BITS].eq(done.count[:RUN_COUNT_BITS] + 1),
                done.cycles.eq(self.status.cycles),
                done.beats.eq(self.status.beats),
                done.words.eq(self.status.words),
                done.saturations.eq(self.status.saturations),
            ]
            with m.If(self.i_token.p.last):
                m.d.sync += [busy.eq(0), finished.eq(1), is_stored.eq(1)]
        with m.If(~self.running):
            m.d.sync += busy.eq(0)

        scale = Signal(protocol.LOGITS_DONE.layout)
        m.d.comb += [scale.scale_mantissa.eq(self.scale.mantissa), scale.scale_exponent.eq(self.scale.exponent)]
        tells, answered = machine.ongoing("TELL"), Signal(8)
        take = tokens.write_port()
        give = tokens.read_port()
        m.d.comb += [
            take.addr.eq(done.count),
            take.data.eq(self.i_token.p.token),
            take.en.eq(self.i_token.valid & self.i_token.ready),
            give.addr.eq(reply.item_address),
            give.en.eq(1),
            self.logits_address.eq(reply.item_address),
            reply.token_data.eq(give.data),
            reply.long_data.eq(self.logits_data),
            answered.eq(Mux(tells, Mux(tells_run, Opcode.RUN, Opcode.RECORDS), opcode)),
            reply.i.p.opcode.eq(answered),
            reply.i.p.sequence.eq(Mux(tells, run_sequence, sequence)),
        ]
        if self.has_host:
            m.d.comb += [
                self.o_host.p.row.eq(opcode == Opcode.ROW),
                self.o_host.p.place.eq(span_start),
                self.o_host.p.last.eq(spent),
                self.o_host.p.sequence.eq(sequence),
                self.o_host.p.word.eq(word),
            ]
            with m.If(tells & ~tells_run):
                m.d.comb += reply.i.p.sequence.eq(self.i_want.p.sequence)

        if self.has_counters:
            m.d.comb += self.counters_address.eq(reply.item_address)
            with m.If(answered == Opcode.COUNTERS):
                m.d.comb += reply.long_data.eq(self.counters_data)

        def answer(fixed: Value, byte_count: int) -> None:
            index = reply.fixed_index[: bits_for(byte_count - 1)]
            m.d.comb += [reply.fixed_byte.eq(fixed.word_select(index, 8)), reply.i.p.fixed_count.eq(byte_count)]

        with m.If(error != 0):
            m.d.comb += reply.i.p.opcode.eq(Opcode.ERROR)
            answer(Value.cast(error), 1)
        with m.Else():
            with m.Switch(answered):
                with m.Case(Opcode.INFO):
                    known = self.info[:-4]  # all but the frames dropped
                    answer(
                        Cat(Const(int.from_bytes(known, "little"), 8 * len(known)), dropped_frames, Const(0, 16)),
                        FIXED_BYTES,
                    )
                with m.Case(Opcode.WRITE):
                    answer(Cat(span_start, Const(0, 32 - len(span_start))), 4)
                with m.Case(Opcode.CHECKSUM):
                    answer(checksum.crc, 4)
                if self.has_sdram:
                    with m.Case(Opcode.MEMORY_TEST):
                        answer(tested.as_value(), protocol.MEMORY_TEST_DONE.byte_count)
                    with m.Case(Opcode.PHASE):
                        answer(phase_place, protocol.PHASE_DONE.byte_count)
                if self.has_host:
                    with m.Case(Opcode.RECORDS):
                        answer(self.i_want.p.want.as_value(), protocol.WANT.byte_count)
                with m.Case(Opcode.RUN):
                    answer(done.as_value(), RUN_DONE.byte_count)
                    m.d.comb += reply.i.p.item_count.eq(done.count)
                with m.Case(Opcode.LOGITS):
                    answer(scale.as_value(), protocol.LOGITS_DONE.byte_count)
                    m.d.comb += [reply.i.p.item_count.eq(logits.count), reply.i.p.item_offset.eq(logits.offset)]
                if self.has_counters:
                    with m.Case(Opcode.COUNTERS):
                        answer(self.counted, protocol.COUNTERS_DONE.byte_count)
                        m.d.comb += [reply.i.p.item_count.eq(wanted.count), reply.i.p.item_offset.eq(wanted.offset)]
        return m
