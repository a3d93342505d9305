"""`lutern estimate` as a user types it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lutern.boards.catalog import BOARDS
from lutern.cli.models import open_model
from lutern.firmware.schedule import program_sizes, records
from lutern.hw.config import TRITS_PER_BYTE, HwConfig
from lutern.hw.layouts import RecordKind, header_words
from lutern.hw.presets import preset
from lutern.measure.estimate import estimate
from lutern.model_ref.synthetic import PUBLISHED
from processes import Finished, lutern

DOCS = Path(__file__).parents[2] / "docs"


def run(*arguments: str) -> Finished:
    return lutern("estimate", *arguments)


def memory_bytes(config: HwConfig) -> int:
    """Return the number of bytes of the program of the released 370M."""
    return program_sizes(PUBLISHED["370m"], config).words * config.word_bytes


def decision(name: str) -> list[list[str]]:
    """Return the cells of each table row in a page of docs/decisions. Any other line is returned as one cell."""
    return markdown((DOCS / "decisions" / f"{name}.md").read_text())


def documented() -> list[tuple[str, ...]]:
    """Return the rows of all tables in docs/measuring.md."""
    document = (DOCS / "measuring.md").read_text()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in document.splitlines()]


def markdown(text: str) -> list[list[str]]:
    """Return the cells of each table row in a text. Any other line is returned as one cell."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
    return [line for line in lines if set(line) != {"---"}]


def test_a_board() -> None:
    done = run("--board", "ulx3s-85f")
    assert done.returncode == 0, done.stderr
    found = estimate(open_model("demo").config, BOARDS["ulx3s-85f"].config(), baud=1)
    assert f"demo on resident-1024: {found.cycles:,} cycles a pass, {found.bytes_read:,} bytes (" in done.stdout
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()[2:8]}
    assert rows["block RAM"] == ["207", "208", str(207 / 208), "0"] and rows["multipliers"][0] == "70"
    assert int(rows["LUT, placed"][0]) > int(rows["LUT, synthesised"][0])


def test_the_table() -> None:
    done = run("--table", "--format", "md")
    assert done.returncode == 0, done.stderr
    lines = markdown(done.stdout)
    assert {line[0] for line in lines[1:-1]} == {"370M", "1.3B", "2.7B", "BitNet 2.4B", "BitNet 0.73B"}
    grades = {line[3]: {other[4] for other in lines[1:-1] if other[3] == line[3]} for line in lines[1:-1]}
    for own_grade in ("estimated", "estimated, at most", "estimated, not built"):
        assert grades.pop(own_grade) == {"lutern"}
    assert set(grades) == {"measured", "simulated", "projected", "published"}
    assert not any("lutern" in who for who in grades.values())
    assert [line[:4] for line in lines if line[1:2] == ["23.8"]] == [["1.3B", "23.8", "42 ms", "projected"]]
    axi = next(
        line for line in lines if line[0] == "1.3B" and line[6:] and line[6].startswith("axi-x512 at 300 MHz, one")
    )
    assert axi[1:5] == ["73.5", "13.6 ms", "estimated, at most", "lutern"]
    own = next(line for line in lines if line[:1] == ["370M"] and "ecpix5-85f" in line[5])
    assert own[6].startswith("ddr3-x16, memory ") and f"{memory_bytes(preset('ddr3-x16')):,} bytes, 96." in own[6]
    assert float(own[1]) == pytest.approx(
        8 * 0.966 * BOARDS["ecpix5-85f"].config("ddr3-x16").memory_hz / 68.9e6, rel=0.01
    )
    host = next(line for line in lines if line[:1] == ["370M"] and line[5].startswith("ulx3s-45f"))
    assert float(host[1]) == pytest.approx(3e6 / 10 / (341e6 / 5), rel=0.03)  # computed by hand from the trits alone
    assert "With presets host the weights are sent for every token." in lines[-1][0]


def test_machines_with_axi() -> None:
    """The table has a row for each machine, model and number of streams. The rate at 100 MHz is a third of the rate at
    300 MHz, and the output says how certain the rates are."""
    done = run("--axi", "--format", "md")
    assert done.returncode == 0, done.stderr
    lines = markdown(done.stdout)
    assert lines[0][3:] == [f"{clock} {share}" for clock in (100, 200, 300) for share in (0.8, 0.9, 1.0)]
    assert len(lines) == 1 + 24 + 1
    for line in lines[1:-1]:
        rates = [float(rate) for rate in line[3:]]
        assert rates[0] <= rates[1] <= rates[2]
        assert rates[8] == pytest.approx(3 * rates[2], rel=0.03)
    assert ["1.3B", "axi-x512", "1"] in [line[:3] for line in lines]
    assert set(map(tuple, lines[:-1])) <= set(documented())
    said = lines[-1][0]
    for text in (
        "With share 1.0, cycles are the cycle model's;",
        "No share of a DDR4 or HBM2 was measured",
        "2.7B on axi-x128 with --set max_w",
    ):
        assert text in said


def test_memories_equal_the_document() -> None:
    done = run("--memories", "--format", "md")
    assert done.returncode == 0, done.stderr
    lines = markdown(done.stdout)
    table = [line for line in lines if len(line) > 1]
    document = (Path(__file__).parents[2] / "docs" / "boards.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines()]
    first = rows.index(table[0])
    assert rows[first + 2 : first + 2 + len(table)] == [*table[1:], [""]]
    for kind, *_ in lines[len(table) + 1 :]:
        title, _, driven = kind.partition(":")[0].partition(", ")
        named = [row for row in rows if row[0] == title]
        assert len(named) == 1 and named[0][2].startswith({"driven": "yes", "not driven yet": "not yet"}[driven]), kind


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "sdram-x16"), "cycles are within 0.1 % of those that the simulated board counts for the demo."),
        (
            ("--preset", "sdram-x16"),
            "The memory is the limit: words come in 100.0% of the cycles, the lanes work in 46.",
        ),
        (("--board", "ecpix5-45f", "--preset", "ddr3-x16"), "words come in 96.6% of its slots, the lanes work in 55."),
        (("--board", "ulx3s-25f", "--preset", "resident-85f"), "the LFE5U-25F of ulx3s-25f has 56: it does not fit."),
        (("--preset", "host"), "; at most 0.75"),
        (("--preset", "stream-x16", "--set", "memory=port"), "a memory that gives a word in every cycle. LUT and FF"),
        (
            ("--preset", "axi-x128"),
            "a word in every cycle, or in --share of them. The rates of DDR4 and HBM2 were not measured.",
        ),
        (("--preset", "axi-x128", "--share", "0.8"), "words come in 80.0% of the cycles"),
        (("--preset", "resident-1024"), "this machine is larger or has another memory"),
        (("--preset", "stream-x16"), "state S: in 16 block RAMs of the chip, for 8 conversations of this model"),
        (
            ("--preset", "stream-x32", "--set", "state=memory", "--streams", "8"),
            "for up to 64 conversations of this model; a pass reads and writes 16,384 words",
        ),
    ],
)
def test_limits_of_the_estimate_are_printed(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    exact = "--set" not in arguments and any(
        name in arguments for name in ("resident-1024", "resident-85f", "stream-x16")
    )
    assert ("Cycles and bytes are exact" in done.stdout) == exact


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--size", "9b"), "there is no size 9b; choose one of 370m, 1.3b, 2.7b."),
        (("--set", "rows=x"), "--set rows=x: rows is 'x'; give a whole number."),
        (("--set", "lines=3"), "--set lines=3 changes no field of a machine;"),
        (("--share", "0.9"), "--share is for a machine with a port for memory, sim-64 has none; leave out --share."),
        (("--streams", "2"), "2 streams were asked for, but sim-64 decodes 1 at a time;"),
        (
            ("--size", "370m", "--board", "ulx3s-25f"),
            f"370M does not fit ulx3s-25f: the model needs {memory_bytes(preset('sdram-x16')):,} bytes of memory, "
            "sdram-x16 has",
        ),
    ],
)
def test_bad_input(arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"lutern: {sentence}") and done.stderr.count("\n") == 1


def test_narrow_embeddings_of_a_size() -> None:
    """370M does not fit into 128 MiB with 16 bits, and the message says that it fits with 12 bits. With 12 bits 370M
    fits."""
    machine = ("--size", "370m", "--preset", "stream-x64", "--set", f"memory_words={1 << 24}")
    wide, narrow = run(*machine), run(*machine, "--embedding-bits", "12")
    over = memory_bytes(preset("stream-x64")) - (1 << 27)
    more = f"{over / 1e3:.3g} KB ({over / (1 << 27):.2%})".replace("%", " %")
    assert wide.returncode == 1 and f"{more} too many (with `lutern convert --embedding-bits 12`" in wide.stderr
    assert narrow.returncode == 0 and "8.71 tokens/s at 75 MHz" in narrow.stdout
    refused = run("--embedding-bits", "12")
    assert refused.stderr == (
        "lutern: --embedding-bits is only for --size, since demo defines its own; leave out --embedding-bits.\n"
    )


def test_words_by_kind_equal_the_document() -> None:
    config, model = preset("stream-x16"), open_model("demo").config
    sizes, found = program_sizes(model, config), records(model, config)
    words = {kind: sum(one.words for one in found if one.kind is kind) for kind in RecordKind}
    trits = round(model.trits / TRITS_PER_BYTE / config.word_bytes)
    counted = {
        "trits": trits,
        "padding": words[RecordKind.TRITS] + words[RecordKind.SHORT_TRITS] - trits,
        "gains": words[RecordKind.GAINS],
        "operations": words[RecordKind.OP],
        "headers": len(found) * header_words(config),
        "row": sizes.row_words,
        "checks": words[RecordKind.CHECK],
    }
    total = sizes.pass_words()
    assert sum(counted.values()) == total
    rows = {cells[0].split()[0]: cells[1:] for cells in decision("007-one-record-stream") if len(cells) == 3}
    for kind, number in counted.items():
        assert rows[kind] == [f"{number:,}", f"{number / total:.2%}".replace("%", " %")], kind


def test_the_trit_share_equals_the_document() -> None:
    machines = {(): "stream-x16", ("--size", "370m"): "stream-x64"}
    machines |= {("--size", size): "stream-x512" for size in ("1.3b", "2.7b")}
    printed = [run("--preset", name, *size).stdout for size, name in machines.items()]
    shares = [text.split("% trits)")[0].rsplit("(", 1)[1] + " %" for text in printed]
    (said,) = (cells[1] for cells in decision("007-one-record-stream") if cells[0].startswith("share of trits"))
    assert re.findall(r"\d+\.\d %", said) == shares
