"""Bench of hw/link/host_port.py: every port is checked, and every payload is predicted with the encoders of the host.

host_port_surroundings.py has a drawing of the checked ports, and the parameters of the bench.
"""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.layouts import row_formats
from lutern.hw.protocol import (
    CHECKSUM,
    CHUNK_BYTES,
    DAMAGE_LAYOUT,
    FEED,
    LOGITS,
    PAYLOAD_BYTES,
    RUN,
    RUN_LAYOUT,
    RUN_TOKENS,
    SETUP,
    TOKEN_LAYOUT,
    WRITE,
    Damage,
    ErrorCode,
    Opcode,
    crc32c,
)
from lutern.sim.benches.host_port_surroundings import MOST_FEEDS, RESPONSE, Surroundings, run_command
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import cycle_now, pack, reset, start


@cocotb.test()
async def commands(dut: Any) -> None:
    """All commands are answered correctly, in random order and with random contents."""
    around = Surroundings(dut)
    generator, word_bytes, config = around.random, around.word_bytes, around.config
    await start(dut)
    await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, 1, run_command(around.draw_feeds(1, config.max_vocab)))
    await around.set_up(2)
    for number in range(around.frames):
        sequence = number + 3 & 0xFF
        match generator.randrange(7):
            case 0:
                await around.ask(Opcode.INFO, sequence, b"", around.info)
            case 1:
                count = generator.randint(1, min(CHUNK_BYTES // word_bytes, 100))
                end = generator.choice(around.memory_ends)
                base = TRIT_MEMORY if end > TRIT_MEMORY else 0
                address = generator.randint(base, end - count)
                words = [generator.choice((0, generator.getrandbits(8 * word_bytes))) for _ in range(count)]
                command = around.write_command(address, words)
                await around.ask(Opcode.WRITE, sequence, command, (address + count).to_bytes(4, "little"))
                assert not around.running
                if generator.randrange(2):
                    await around.set_up(sequence, embedding_stride=number)
                count = generator.randint(1, count)
                crc = crc32c(b"".join(word.to_bytes(word_bytes, "little") for word in words[:count]))
                command = CHECKSUM.pack(address=address, count=count)
                await around.ask(Opcode.CHECKSUM, sequence, command, crc.to_bytes(4, "little"))
                assert not around.running
                feeds = around.draw_feeds(1, config.max_vocab)
                await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, run_command(feeds))
                await around.set_up(sequence, embedding_row_words=number + 1)
            case 2:
                count = generator.randint(1, min(20, around.entries))
                stream, offset = generator.randrange(config.streams), generator.randint(0, around.entries - count)
                command = LOGITS.pack(stream=stream, offset=offset, count=count)
                await around.ask(Opcode.LOGITS, sequence, command, around.logits(stream, offset, count))
            case 3:
                await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x77, sequence, b"")
            case 4:
                await around.set_up(sequence, vocab=generator.randint(1, config.max_vocab))  # a second setup
                await around.set_up(sequence)
            case 5:
                streams = generator.randint(1, config.streams)
                await around.run(sequence, generator.randint(1, 3), around.draw_feeds(streams, config.max_vocab))
            case 6:
                await around.show_damage(sequence, Damage(generator.randrange(4)))
                dut.damage.value = 0
                await around.refused(ErrorCode.BAD_LENGTH, Opcode.DAMAGE, sequence, b"x")
    around.answers.finish()
    assert not (around.writes.pending or around.feeds.pending or around.runs.pending)


@cocotb.test()
async def runs(dut: Any) -> None:
    """RUN sends the right feeds and the right request to the decoder, and its answer has the right tokens and figures.
    A repeated RUN is answered without the decoder."""
    around = Surroundings(dut)
    vocab, most = around.config.max_vocab, around.config.streams
    await start(dut)
    await around.set_up(0)
    few = {(1, 1), (most, 2), (max(1, most - 1), 7)}
    longest = {(streams, RUN_TOKENS // streams) for streams in (1, 2, 3, most) if streams <= most}
    for sequence, (streams, count) in enumerate(sorted(few | longest), 1):
        frame = await around.run(sequence, count, around.draw_feeds(streams, vocab))
        for _ in range(2):
            around.expect(Opcode.RUN | RESPONSE, sequence, around.last_answer)
            await around.send_run(sequence, frame)
    around.runs.finish()

    # After another command, even a command that is refused, an equal frame is a new RUN.
    feeds = around.draw_feeds(most, vocab)
    random_state = around.random.getstate()
    await around.run(77, 1, feeds)
    await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x77, 78, b"")
    around.random.setstate(random_state)
    await around.run(77, 1, feeds)
    around.feeds.finish()
    around.runs.finish()
    around.answers.finish()


@cocotb.test()
async def bad_runs(dut: Any) -> None:
    """No run begins if a count or the number of streams is beyond its limit, if the length is wrong, or if any feed has
    a bad token."""
    around = Surroundings(dut)
    config, draw = around.config, around.random
    most, vocab = config.streams, config.max_vocab - 1
    await start(dut)
    await around.set_up(0, vocab=vocab)

    counts = {0, 129, 256, 257, 1 << 15, (1 << 16) - 1}
    bad = [(1, count) for count in counts] + [(most, count) for count in counts]
    bad += [(streams, RUN_TOKENS // streams + 1) for streams in range(1, most + 1)]
    bad += [(streams, 1) for streams in {0, most + 1, most + 2, 2 * most, 32, 40, MOST_FEEDS} - {most}]
    for sequence, (streams, count) in enumerate(sorted(bad)):
        feeds = around.draw_feeds(streams, vocab)
        await around.refused(ErrorCode.BAD_COUNT, Opcode.RUN, sequence & 0xFF, run_command(feeds, count=count))

    for streams in {1, most}:
        good = run_command(around.draw_feeds(streams, vocab))
        lengths = {0, 1, RUN.byte_count - 1, RUN.byte_count, len(good) - FEED.byte_count, len(good) - 1}
        for length in sorted(lengths):
            await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, length, good[:length])
        for excess in (b"x", bytes(FEED.byte_count)):
            await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, 1, good + excess)
    for streams in (0, 2, 129, 255):
        command = run_command(around.draw_feeds(1, vocab), streams=streams)
        await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, 2, command)

    for streams in {1, most}:
        for where in range(streams):
            for token in (vocab, 0xFFFF):
                feeds = around.draw_feeds(streams, vocab)
                feeds[where]["token"] = token
                around.expect_feeds(feeds[:where])
                await around.refused(ErrorCode.BAD_TOKEN, Opcode.RUN, 3, run_command(feeds, count=2))
                assert not around.feeds.pending
        await around.run(4, 2, around.draw_feeds(draw.randint(1, streams), vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_faulty_memory(dut: Any) -> None:
    """Commands that wait for the memory are answered with the memory's fault, and so are all later commands that need
    the memory. INFO is still answered."""
    if not hasattr(dut, "fault"):
        return
    around = Surroundings(dut)
    word_bytes = around.word_bytes
    range_of_words = CHECKSUM.pack(address=0, count=2)
    waiting = (Opcode.RUN, Opcode.CHECKSUM, Opcode.MEMORY_TEST)
    await start(dut)
    codes = ErrorCode.MEMORY_SILENT, ErrorCode.MEMORY_DISORDER, ErrorCode.MEMORY_REFUSED
    for bit, code in enumerate(codes[: len(dut.fault)]):
        for sequence, opcode in enumerate(waiting, 10 * bit):
            around.is_mute = False
            await around.set_up(sequence)
            around.is_mute = True
            feeds = around.draw_feeds(1, around.config.max_vocab)
            run = run_command(feeds)
            command = run if opcode == Opcode.RUN else range_of_words
            if opcode == Opcode.RUN:
                around.expect_feeds(feeds)
                fields = {"count": 1, "final_stream": 0, "chained": 0, "temperature": 0}
                around.runs.expect(pack(RUN_LAYOUT, fields))
            around.rx.queue(encode_frame(opcode, sequence, command))
            await ClockCycles(dut.clk, 1000)
            around.expect(Opcode.ERROR, sequence, bytes([code]))
            dut.fault.value = 1 << bit
            await around.answered()
            assert not around.running, f"the machine is still running after {opcode.name}, seed {around.seed}"
            for needs, payload in (
                (Opcode.RUN, run),
                (Opcode.SETUP, SETUP.pack(**around.setup_fields())),
                (Opcode.WRITE, WRITE.pack(address=1) + bytes(word_bytes)),
                (Opcode.CHECKSUM, range_of_words),
                (Opcode.MEMORY_TEST, range_of_words),
            ):
                await around.refused(code, needs, sequence, payload)
            await around.ask(Opcode.INFO, sequence, b"", around.info)
            dut.fault.value = 0
            await reset(dut, 2)
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def damaged_weights(dut: Any) -> None:
    """Damage during a run ends the run, whether tokens have come or not. After that, a RUN is refused until SETUP.

    Damage that was found before a run ends the run as soon as it has begun.
    """
    around = Surroundings(dut)
    most = around.config.streams
    await start(dut)
    for sequence, kind in enumerate([Damage.RECORDS, Damage.ROW, Damage.TRITS] * 2, 0xC0):
        await around.set_up(sequence)
        if sequence % 2:
            command = await around.begin_run(sequence, most)
            await ClockCycles(dut.clk, around.random.randrange(300))
            if sequence % 3 and most > 1:
                await around.tokens.send(*(around.random.getrandbits(16) for _ in range(most - 1)))
            around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.WEIGHTS_DAMAGED]))
            dut.damage.value = pack(DAMAGE_LAYOUT, {"count": 1, "kind": kind, "place": 7})
            await around.answered()
        else:
            dut.damage.value = pack(DAMAGE_LAYOUT, {"count": 1, "kind": kind, "place": 7})
            around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.WEIGHTS_DAMAGED]))
            command = await around.begin_run(sequence, most)
            await around.answered()
        assert not around.running, f"the machine is still running after {kind.name}, seed {around.seed}"
        for again in (sequence, sequence + 1):  # the stored answer must not be sent as tokens
            await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, again, command)
        await around.show_damage(sequence, kind)
        dut.damage.value = 0
        around.is_mute = False
        await around.set_up(sequence)
        await around.run(sequence, 2, around.draw_feeds(most, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_step_that_takes_too_long(dut: Any) -> None:
    """A step ends the run if it takes longer than the limit, counted from the start of the run or from the last token.
    A token within the limit only restarts the count.

    With a limit of 0 a step may take any number of cycles.
    """
    unit = bench_parameters()["step_limit_cycles"]
    if not unit:
        return  # the limit of the real gateware has too many cycles for a bench
    around = Surroundings(dut)
    await start(dut)
    for sequence, (limit, tokens) in enumerate(((1, 0), (3, 0), (2, 1), (2, 3), (7, 2)), 0xD8):
        await around.set_up(sequence, step_limit=limit)
        where = f"limit {limit}, {tokens} tokens, seed {around.seed}"
        command = await around.begin_run(sequence, count=5)
        begun = cycle_now()
        for _ in range(tokens):
            while cycle_now() < begun + limit * unit - 3:
                await FallingEdge(dut.clk)
            assert around.running, f"the run ended before the limit, {where}"
            await around.tokens.send(around.random.getrandbits(16))
            begun = cycle_now()
        around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.RUN_TOO_LONG]))
        while around.running and cycle_now() < begun + limit * unit + 9:
            await FallingEdge(dut.clk)
        assert limit * unit <= cycle_now() - begun <= limit * unit + 4, (
            f"the run ended after {cycle_now() - begun} cycles, {where}"
        )
        await around.answered()
        await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
        around.is_mute = False
    await around.set_up(1, step_limit=0)
    await around.begin_run(1)
    around.step_begun -= (1 << 32) - 3 * unit  # so the 32-bit count of cycles wraps to 0 after 3 units
    await ClockCycles(dut.clk, 9 * unit)
    assert around.running, f"a step without limit was ended, seed {around.seed}"
    around.run_sequence, around.is_mute = 1, False
    await around.tokens.send(pack(TOKEN_LAYOUT, {"token": 1, "last": 1}))
    await around.answered()
    await around.set_up(1, step_limit=2)
    await ClockCycles(dut.clk, 5 * unit)  # no run is in progress
    await around.run(2, 5, around.draw_feeds(1, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_run_that_another_command_ends(dut: Any) -> None:
    """If another command ends a run, the RUN is answered with an error after that command, and a repeated RUN is
    refused. A repeated RUN without a fresh feed would continue from a partial state."""
    around = Surroundings(dut)
    await start(dut)
    setup = SETUP.pack(**around.setup_fields())
    stopping = (
        (Opcode.SETUP, setup, b""),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=1), crc32c(bytes(around.word_bytes)).to_bytes(4, "little")),
        (Opcode.WRITE, around.write_command(0, [1]), (1).to_bytes(4, "little")),
    )
    for sequence, (opcode, payload, answer) in enumerate(stopping, 0x41):
        await around.set_up(1)
        command = await around.begin_run(sequence, count=3)
        around.is_mute = False
        await around.tokens.send(around.random.getrandbits(16))
        around.expect(opcode | RESPONSE, 2, answer)
        around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.NOT_SET_UP]))
        around.rx.queue(encode_frame(opcode, 2, payload))
        await around.answered()
        assert around.running == (opcode == Opcode.SETUP), f"running is wrong after {opcode.name}, seed {around.seed}"
        if not around.running:
            await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
    await around.set_up(1)
    await around.run(3, 5, around.draw_feeds(1, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def limits(dut: Any) -> None:
    """The longest frame, the last word of the memory and the largest counts are accepted. Frames that are too long or
    too short, broken escapes, and addresses and counts beyond their limits are dropped or refused."""
    around = Surroundings(dut)
    config, word_bytes = around.config, around.word_bytes
    await start(dut)
    await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x10, 1, bytes(PAYLOAD_BYTES))
    short = b"\x01"
    bad_frames = [
        encode_frame(0x10, 2, bytes(PAYLOAD_BYTES + 1)),
        encode_frame(0x10, 2, bytes(3 * PAYLOAD_BYTES)),
        b"\xc0" + short + crc32c(short).to_bytes(4, "little") + b"\xc0",
        encode_frame(0x10, 2, b"\xdb").replace(b"\xdb\xdd", b"\xdb\x00"),
        encode_frame(0x10, 2, b"\xdb").replace(b"\xdb\xdd", b"\xdb\xdb\xdd"),
        encode_frame(0x10, 2, b"x")[:-1] + b"\xdb\xc0",
    ]
    for count, frame in enumerate(bad_frames, 1):
        around.rx.queue(frame + b"\xc0\xc0\xc0")  # empty frames are not counted
        await around.ask(Opcode.INFO, count, b"", around.info[:-4] + count.to_bytes(4, "little"))

    for end in around.memory_ends:
        command = around.write_command(end - 1, [end])
        await around.ask(Opcode.WRITE, 1, command, end.to_bytes(4, "little"))
        crc = crc32c(end.to_bytes(word_bytes + 4, "little")[:word_bytes]).to_bytes(4, "little")
        await around.ask(Opcode.CHECKSUM, 2, CHECKSUM.pack(address=end - 1, count=1), crc)
    await around.set_up(3)
    beyond = [(end, 1) for end in around.memory_ends] + [(end - 1, 2) for end in around.memory_ends]
    far = [TRIT_MEMORY - 1, 1 << 24, 1 << 25, 1 << 31, (1 << 32) - 1]
    if config.source == "streamed":
        far = [address for address in (TRIT_MEMORY, *far) if address >= config.memory_words]
    for address, count in [*beyond, *((address, 1) for address in far)]:
        command = WRITE.pack(address=address) + bytes(count * word_bytes)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.WRITE, 3, command)
        command = CHECKSUM.pack(address=address, count=count)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.CHECKSUM, 4, command)
    for count in {max((1 << 25) + 1, config.memory_words + 1), (1 << 32) - 1}:
        command = CHECKSUM.pack(address=0, count=count)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.CHECKSUM, 4, command)
    await around.refused(ErrorCode.BAD_COUNT, Opcode.CHECKSUM, 4, CHECKSUM.pack(address=0, count=0))

    good = around.setup_fields()
    trits = [0, config.trit_beats + 1] if config.source == "resident" else [1, config.trit_beats]
    for name, value in (
        ("record_words", 0),
        ("record_words", good["record_words"] + 1),
        *(("trit_beats", count) for count in trits),
        ("embedding_base", good["embedding_base"] + 1),
        ("embedding_row_words", 0),
        *(("embedding_bits", bits) for bits in (0, 8, 12, 13, 28, 255) if bits not in row_formats(config)),
        ("vocab", 0),
        ("vocab", good["vocab"] + 1),
    ):
        await around.refused(ErrorCode.BAD_SETUP, Opcode.SETUP, 2, SETUP.pack(**{**good, name: value}))

    entries, top = around.entries, config.streams - 1
    most = min(128, entries)
    command = LOGITS.pack(stream=top, offset=entries - most, count=most)
    await around.ask(Opcode.LOGITS, 3, command, around.logits(top, entries - most, most))
    for stream, offset, count in (
        (0, entries - most + 1, most),
        (0, 0, 129),
        (0, 0, 0),
        (0, entries, 1),
        (0, 0xFFFF, 1),
        (0, 1, 0xFFFF),
        (config.streams, 0, 1),
        (0x80, 0, 1),
    ):
        command = LOGITS.pack(stream=stream, offset=offset, count=count)
        await around.refused(ErrorCode.BAD_COUNT, Opcode.LOGITS, 4, command)


@cocotb.test()
async def reset_in_mid_frame(dut: Any) -> None:
    """After a reset at any time, no byte of an earlier frame is left in either direction."""
    around = Surroundings(dut)
    await start(dut)
    for cut in range(1, 60, 3):
        around.rx.queue(encode_frame(Opcode.INFO, 1))
        around.expect(Opcode.INFO | RESPONSE, 1, around.info)
        for _ in range(cut):
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        around.rx.clear()
        around.answers.pending.clear()
        await reset(dut)
        await around.ask(Opcode.INFO, cut, b"", around.info)
