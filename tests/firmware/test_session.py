"""The commands of a session: feeds with one slot for each conversation, and the repair of a run after damage."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lutern.firmware import session as session_module
from lutern.firmware.link_errors import RefusedError
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import MOST_REPAIRS, Feed, Session
from lutern.hw.presets import preset
from lutern.hw.protocol import DAMAGE_DONE, FEED, RUN, RUN_DONE, SETUP, Damage, ErrorCode, Opcode, capability
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 60
Fed = tuple[int, int, int, int]
"""The fields of a feed: token, first beat of the state, fresh, seed."""


class Chip:
    """A client of a chip that chooses the token 10 k + s in step k for stream s. Each error code in ``refusals`` ends
    one RUN."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.refusals: list[ErrorCode] = []
        self.damage = {"count": 0, "kind": Damage.NONE, "place": 0}
        self.log: list[Any] = []  # "setup", "load", or the feeds of a RUN

    def transact(self, opcode: Opcode, payload: bytes = b"") -> bytes:
        if opcode == Opcode.INFO:
            return bytes(capability(self.program.hw_config))
        if opcode == Opcode.DAMAGE:
            return DAMAGE_DONE.pack(**self.damage)
        if opcode == Opcode.SETUP:
            assert payload == SETUP.pack(**self.program.setup)
            self.log.append("setup")
            return b""
        assert opcode == Opcode.RUN
        run = RUN.unpack(payload)
        at = range(RUN.byte_count, len(payload), FEED.byte_count)
        feeds = [FEED.unpack(payload[start : start + FEED.byte_count]) for start in at]
        self.log.append((run["count"], run["chained"], [tuple(feed.values()) for feed in feeds]))
        if self.refusals:
            raise RefusedError(opcode, self.refusals.pop(0))
        tokens = [10 * step + stream for step in range(run["count"]) for stream in range(len(feeds))]
        done = RUN_DONE.pack(count=len(tokens), cycles=1, beats=1, words=1, saturations=0)
        return done + b"".join(token.to_bytes(2, "little") for token in tokens)


@pytest.fixture(scope="module")
def program() -> Program:
    config = preset("tiny").with_(name="fed", streams=4, max_state=1024)
    model = ModelConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, intermediate_size=24)
    return lay_out(integer_weights(random_checkpoint(model, SEED)), config)


@pytest.fixture
def chip(program: Program, monkeypatch: pytest.MonkeyPatch) -> Chip:
    chip = Chip(program)
    monkeypatch.setattr(session_module, "load_sections", lambda *rest, **more: chip.log.append("load"))
    return chip


def opened(chip: Chip) -> Session:
    session = Session(chip, chip.program)  # type: ignore[arg-type]
    assert chip.log == ["load", "setup"]
    chip.log.clear()
    return session


def fed(chip: Chip, *feeds: Feed) -> list[Fed]:
    stride = chip.program.state_stride
    return [(feed.token, feed.slot * stride, int(feed.fresh), feed.seed) for feed in feeds]


def test_every_slot_has_a_state_of_its_own(chip: Chip) -> None:
    session, stride = opened(chip), chip.program.state_stride
    config = chip.program.model_config
    assert stride * chip.program.hw_config.results_per_cycle >= config.num_hidden_layers * config.hidden_size
    feeds = [Feed(3, 2, fresh=True, seed=9), Feed(4, 0), Feed(5, 1, seed=1 << 31)]
    session.run(feeds, 2)
    assert chip.log == [(2, 0, [(3, 2 * stride, 1, 9), (4, 0, 0, feeds[1].seed), (5, stride, 0, 1 << 31)])]


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (
            ErrorCode.WEIGHTS_DAMAGED,
            Damage.RECORDS,
            r"Block 0 of the weights \(words 0 to [\d,]+\) was damaged in memory",
        ),
        (ErrorCode.WEIGHTS_DAMAGED, Damage.ROW, "The embedding of token 0 was damaged in memory"),
        (ErrorCode.WEIGHTS_DAMAGED, Damage.TRITS, "Trits were damaged in block RAM"),
        (ErrorCode.RUN_TOO_LONG, Damage.NONE, "A token took too long, and no weights were found damaged"),
        (ErrorCode.NOT_SET_UP, Damage.ROW, "The embedding of token 0"),  # the ERROR that reported the damage was lost
    ],
)
def test_a_run_that_was_ended_is_repeated(code: ErrorCode, kind: Damage, sentence: str, chip: Chip) -> None:
    """The session loads again, sends SETUP, and feeds the earlier tokens of the conversations, with as many tokens in
    each pass as there are streams. Then it repeats the run."""
    session = opened(chip)
    session.run([Feed(1, 0, fresh=True), Feed(2, 1, fresh=True)], 3)  # tokens of slot 0: 1, 0, 10; of slot 1: 2, 1, 11
    session.run([Feed(5, 1)], 2)  # tokens of slot 1: 5, 0
    session.run([Feed(7, 2, fresh=True)], 1)
    chip.log.clear()
    chip.refusals, chip.damage["kind"] = [code], kind
    run = session.run([Feed(30, 1), Feed(31, 2, fresh=True)], 2, temperature=1.0)
    assert run.tokens == [[0, 1], [10, 11]]
    wanted = (2, 0, fed(chip, Feed(30, 1), Feed(31, 2, fresh=True)))
    before = (1, 1, fed(chip, Feed(2, 1, fresh=True), Feed(1, 1), Feed(11, 1), Feed(5, 1)))
    assert chip.log == [wanted, "load", "setup", before, (1, 0, fed(chip, Feed(0, 1))), wanted]
    assert len(session.repairs) == 1 and re.match(f"{sentence}.*; .*the run repeated.$", session.repairs[0])


def test_a_prompt_in_one_run_is_replayed(chip: Chip) -> None:
    session = opened(chip)
    session.run([Feed(8, 0, fresh=True), Feed(9, 0), Feed(10, 0)], chained=True)
    chip.log.clear()
    chip.refusals, chip.damage["kind"] = [ErrorCode.WEIGHTS_DAMAGED], Damage.ROW
    session.run([Feed(2, 0)])
    wanted = (1, 0, fed(chip, Feed(2, 0)))
    assert chip.log == [
        wanted,
        "load",
        "setup",
        (1, 1, fed(chip, Feed(8, 0, fresh=True), Feed(9, 0), Feed(10, 0))),
        wanted,
    ]


def test_a_memory_that_stays_damaged_ends_the_run(chip: Chip) -> None:
    session = opened(chip)
    chip.refusals, chip.damage["kind"] = [ErrorCode.WEIGHTS_DAMAGED] * 9, Damage.RECORDS
    with pytest.raises(RefusedError, match="weights in its memory are not those that were loaded"):
        session.run([Feed(1, fresh=True)])
    assert len(session.repairs) == MOST_REPAIRS == 9 - len(chip.refusals) - 1


def test_another_refusal_is_no_reason_to_repair(chip: Chip) -> None:
    session = opened(chip)
    chip.refusals = [ErrorCode.BAD_TOKEN]
    with pytest.raises(RefusedError, match="token"):
        session.run([Feed(1, fresh=True)])
    assert not session.repairs and len(chip.log) == 1
