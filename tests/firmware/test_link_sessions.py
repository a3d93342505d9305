"""Thousands of sessions over faulty lines: each ends with correct bytes or with one true error message, and none hangs.

A session loads an image, sets a model up, lets it run and reads logits. A model of the chip is at the far end of the
line. The seed of a session decides the image, the line's faults, and whether the line fails or the host is killed
before the end.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from lutern.firmware.link import PROBES, Client, SilenceError
from lutern.firmware.loader import load_sections
from lutern.hw.presets import preset
from lutern.hw.protocol import FEED, LOGITS, LOGITS_DONE, RUN, RUN_DONE, SETUP, Opcode
from lutern.sim.chip_model import FaultyLine, LineCut, ModelChip
from lutern.sim.loopback import model_logits, model_tokens

CONFIG = preset("stream-x32").with_(name="link", memory_words=1 << 12)
VOCAB = 50
SET_UP = SETUP.pack(**dict.fromkeys(SETUP.names, 1) | {"vocab": VOCAB})
QUICK, SLOW, ALL = 5_000, 50_000, 1_000_000
ENDED = re.compile(
    r"The board did not answer (\w+): ([\d,]+) frames? (?:was|were) sent, ([\d.e+]+) s passed in silence, "
    r"and not a byte came back;"
)


@dataclass
class Outcome:
    """How a session ended, and what the line did."""

    kind: str
    faults: int


def session(seed: int) -> Outcome:
    """Run one session. Raise AssertionError, with the seed, if the host accepted wrong data."""
    draw = random.Random(seed)
    words = np.frombuffer(draw.randbytes(4 * draw.randrange(10, 1200)), np.uint8).reshape(-1, 4)
    rate = 10 ** draw.uniform(-4.5, -2.3)
    dies_after = draw.randrange(60, 2 * words.size) if draw.random() < 0.1 else None
    cut_after = draw.randrange(1, 30) if draw.random() < 0.2 else None
    chip = ModelChip(CONFIG)
    line = FaultyLine(chip, seed, rate, dies_after=dies_after, cut_after=cut_after)
    kind = "whole"
    try:
        if cut_after is not None:
            try:
                load_sections(Client(line), [(7, words)])
            except LineCut:
                kind = "resumed"
            line.cut_after, line.frames, line.seconds = None, 0, 0.0
        client = Client(line)
        load_sections(client, [(7, words)])
        assert np.array_equal(chip.memory[7:][: len(words)], words), f"seed {seed}: wrong bytes in the memory"
        run_tokens(client, chip, draw, seed)
    except SilenceError as error:
        kind = "silent"
        check_sentence(str(error), line, seed)
    return Outcome(kind, line.fault_count)


def run_tokens(client: Client, chip: ModelChip, draw: random.Random, seed: int) -> None:
    """Do some runs, read logits, and compare the results. No run may be executed twice."""
    client.transact(Opcode.SETUP, SET_UP)
    wanted: list[int] = []
    for _ in range(3):
        feeds = [(draw.randrange(VOCAB), draw.random() < 0.5) for _ in range(draw.randint(1, 4))]
        count = draw.randint(1, 8)
        command = RUN.pack(count=count, temperature=0, streams=len(feeds), chained=0)
        for token, fresh in feeds:
            command += FEED.pack(token=token, state_base=0, fresh=fresh, seed=1)
        answer = client.transact(Opcode.RUN, command)
        wanted += model_tokens(feeds, count, VOCAB)
        got = np.frombuffer(answer, "<u2", offset=RUN_DONE.byte_count).tolist()
        assert got == model_tokens(feeds, count, VOCAB), f"seed {seed}: wrong tokens"
        assert chip.tokens == wanted, f"seed {seed}: a RUN was executed twice"
    count = draw.randint(1, 128)
    answer = client.transact(Opcode.LOGITS, LOGITS.pack(stream=1, offset=3, count=count))
    sums = np.frombuffer(answer, "<i4", offset=LOGITS_DONE.byte_count).tolist()
    assert sums == model_logits(1, 3, count, len(wanted)), f"seed {seed}: wrong logits"


def check_sentence(sentence: str, line: FaultyLine, seed: int) -> None:
    """Check that the message is one sentence with the frames and seconds of the link, and that the link was too bad to
    continue."""
    assert line.is_dead or line.rate > 2e-3, f"seed {seed}: gave up at {line.rate:.1e} faults per byte: {sentence}"
    assert sentence.endswith(".") and "\n" not in sentence and "cable" not in sentence, f"seed {seed}: {sentence}"
    found = ENDED.match(sentence)
    if found is None:
        assert "bytes that came back make no whole frame" in sentence or "INFO" in sentence, f"seed {seed}: {sentence}"
        return
    asked_after = PROBES * (found[1] != "INFO" and "before, " in sentence)
    frames, seconds = int(found[2].replace(",", "")), float(found[3])
    assert line.frames - asked_after <= frames + 64 and frames <= line.frames, f"seed {seed}: {sentence}"
    assert seconds == pytest.approx(line.seconds - asked_after, rel=0.01), f"seed {seed}: {sentence}"


def run_sessions(first: int, count: int) -> Counter[str]:
    """Run the sessions of these seeds. Return how many sessions ended in each way."""
    kinds: Counter[str] = Counter()
    for seed in range(first, first + count):
        outcome = session(seed)
        kinds[outcome.kind] += 1
        kinds["faults"] += outcome.faults
    print(f"sessions of seeds {first:,} to {first + count - 1:,}: {dict(kinds)}")
    return kinds


def test_sessions() -> None:
    kinds = run_sessions(0, QUICK)
    assert all(kinds[kind] > QUICK // 50 for kind in ("whole", "resumed", "silent"))
    assert kinds["silent"] < QUICK // 6 and kinds["faults"] > 3 * QUICK


@pytest.mark.slow
def test_a_million_sessions(request: pytest.FixtureRequest) -> None:
    """Each call of this test continues with the next seeds, and starts again after a million sessions."""
    cache = request.config.cache
    assert cache is not None
    first = int(cache.get("lutern/link_sessions", QUICK)) % ALL
    run_sessions(first, SLOW)
    cache.set("lutern/link_sessions", first + SLOW)
