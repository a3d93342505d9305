"""The check of weights: tokens of damaged weights do not leave the chip, and all tokens of correct weights leave it."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Const, Elaboratable, Module, Signal, Value

from lutern.hw import weight_check
from lutern.hw.config import HwConfig
from lutern.hw.protocol import Damage
from lutern.hw.signature import WordCheck
from lutern.hw.weight_check import WeightCheck
from lutern.model_ref.signature import BLOCK_MARK
from lutern.sim.runner import run_bench

Found = list[tuple[Damage, Value, Value]]
SEED = 90
RESIDENT = {"word_bytes": 4, "streams": 2, "source": "resident", "memory_words": 4096, "trit_beats": 300}
STREAMED = {
    "word_bytes": 2,
    "streams": 2,
    "source": "streamed",
    "rows": 5,
    "columns": 4,
    "codes_per_cycle": 2,
    "memory_words": 8192,
}
WIDE = {**STREAMED, "word_bytes": 96, "rows": 15, "columns": 32}
"""A machine whose check has three slices, because its words are wide."""


def run(
    config: dict[str, Any], pause: str = "none", testcase: str | None = None, block: type[WeightCheck] = WeightCheck
) -> None:
    run_bench(
        block(HwConfig("bench", **config)),
        "lutern.sim.benches.weight_check",
        seed=SEED,
        testcase=testcase,
        parameters={"config": config, "pause": pause},
    )


@pytest.mark.parametrize("pause", ["none", "random", "bursty"])
@pytest.mark.parametrize("config", [RESIDENT, STREAMED], ids=["resident", "streamed"])
def test_weight_check(config: dict[str, Any], pause: str) -> None:
    run(config, pause)


def test_slices() -> None:
    run(WIDE)


class Unsliced(WordCheck):
    """A mutant that compares only the first slice."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        m.d.comb += self.bad.eq(self.parts[0].bad)
        return m


class Alike(WordCheck):
    """A mutant that expects the same last state of all slices, so that it accepts exchanged slices."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        m.d.comb += [part.wanted.eq(self.wanted) for part in self.parts]
        return m


@pytest.mark.parametrize("block", [Unsliced, Alike])
def test_mutation_of_the_slices_is_found(block: type[WordCheck], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_check, "WordCheck", block)
    with pytest.raises(AssertionError, match=rf"weight_check\.damage: .* seed {SEED}"):
        run(WIDE)


class Ungated(WeightCheck):
    """A mutant in which tokens leave before the trits are checked."""

    def _count_passes(self, m: Module, name: str, good: Value, spent: Value) -> Value:
        return super()._count_passes(m, name, good, spent) if name != "trit" else Const(1)


class OnePassAhead(WeightCheck):
    """A mutant that does not count a pass that was read ahead."""

    def _count_passes(self, m: Module, name: str, good: Value, spent: Value) -> Value:
        any_left = Signal()
        with m.If(good | spent):
            m.d.sync += any_left.eq(good)
        return any_left


class Unmoved(WeightCheck):
    """A mutant that stores damage, but lets tokens leave."""

    def _gate(self, m: Module, spent: Signal, may_leave: Value) -> None:
        super()._gate(m, spent, Const(1))


class TokenAPass(WeightCheck):
    """A mutant that uses up a pass for the token of each stream, in place of a pass for each step."""

    def _gate(self, m: Module, spent: Signal, may_leave: Value) -> None:
        super()._gate(m, spent, may_leave)
        m.d.comb += spent.eq(self.o_token.valid & self.o_token.ready)


class AnyPlace(WeightCheck):
    """A mutant that expects place 0 of all blocks and rows."""

    def _wanted(self, place: Value, mark: int) -> Value:
        return super()._wanted(Const(0, len(place)), mark)


class AnyImage(WeightCheck):
    """A mutant that accepts blocks of every image, because it does not compare the lowest 32 bits of the state."""

    def _of_words(self, m: Module, name: str) -> Any:
        check = super()._of_words(m, name)
        check._differs = lambda m, state: state[32:] != check.wanted[32:]
        return check


class Forgetful(WeightCheck):
    """A mutant that deletes damage that was found between SETUP and a run."""

    def _note(self, m: Module, is_damaged: Signal, found: Found) -> None:
        super()._note(m, is_damaged, found)
        with m.If(self.begins):
            m.d.sync += is_damaged.eq(0)


class Rows(WeightCheck):
    """A mutant that ignores damaged rows."""

    def _note(self, m: Module, is_damaged: Signal, found: Found) -> None:
        super()._note(m, is_damaged, [item for item in found if item[0] != Damage.ROW])


class LastPlace(WeightCheck):
    """A mutant that lets tokens leave after damage, and reports the last damage in place of the first."""

    def _note(self, m: Module, is_damaged: Signal, found: Found) -> None:
        super()._note(m, Signal(), found)


MUTANTS = {
    Ungated: ("right_weights", "o_token"),
    OnePassAhead: ("right_weights", "o_token"),
    Unmoved: ("right_weights", "o_token"),
    TokenAPass: ("right_weights", "o_token"),
    AnyPlace: ("right_weights", "damage"),
    AnyImage: ("damage", "damage"),
    Rows: ("damage", "damage"),
    LastPlace: ("damage", "damage|o_token"),
    Forgetful: ("damage_before_the_run", "damage|o_token"),
}


@pytest.mark.parametrize("block", MUTANTS)
def test_mutation_is_found(block: type[WeightCheck]) -> None:
    testcase, place = MUTANTS[block]
    with pytest.raises(AssertionError, match=rf"weight_check\.({place}): .* seed {SEED}"):
        run(RESIDENT, testcase=testcase, block=block)


def endless(m: Module, at: Signal, valid: Value, last: Value) -> None:
    """Count words without a restart, so that only the first pass has the correct length."""
    with m.If(valid):
        m.d.sync += at.eq(at + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "wrong", "text"),
    [
        ("_count", endless, "damage|o_token|o_row|i_row"),
        ("check_words", lambda config: 1, "o_row|i_row"),
        ("ROW_MARK", BLOCK_MARK, "damage"),
    ],
    ids=["length", "check", "mark"],
)
def test_mutation_of_the_format_is_found(what: str, wrong: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_check, what, wrong)
    with pytest.raises(AssertionError, match=rf"weight_check\.({text}): .* seed {SEED}"):
        run(RESIDENT, testcase="right_weights")
