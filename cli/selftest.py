"""`lutern selftest`: tests whether a board works, and prints a line for each test. The exit status is 1 if a test
failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from lutern.api.machines import largest_shipped
from lutern.api.ports import known_machines
from lutern.cli.models import open_model
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, baud_option, whole
from lutern.cli.output import plain_console
from lutern.cli.port import PORTS, MemoryOption, RecordOption, open_port
from lutern.cli.progress import load_bar, transfer_bar
from lutern.firmware.axi_port import AxiPort
from lutern.firmware.identify import identify
from lutern.firmware.leveling import level_reads
from lutern.firmware.link import Client
from lutern.firmware.memory_test import centre_phase, check_size, march
from lutern.firmware.opening import open_session
from lutern.firmware.selftest import check_decode, check_memory
from lutern.firmware.serial_port import PortError
from lutern.firmware.session import GoldenSession
from lutern.hw.config import HwConfig
from lutern.hw.protocol import INFO, PROTOCOL_VERSION, Opcode
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SMALL = ModelConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
"""The shape of the random weights that are used if no shipped model fits."""
TOKENS = 8
PATTERN_WORDS = 1 << 15


def selftest(
    on: Annotated[str, typer.Option(help=f"The board: {PORTS}.")],
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    words: Annotated[
        int | None,
        whole(
            "--words",
            least=1,
            most=LARGEST_COUNT,
            help=f"Words of each memory to test. Default: the march tests all words of a DRAM, the patterns over the "
            f"link test {PATTERN_WORDS:,} words.",
        ),
    ] = None,
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the patterns.")] = 1,
) -> None:
    """Test a board: its link, its memory, and a text that is compared with the integer model. The test overwrites the
    memory."""
    console = plain_console()
    failed = 0

    @contextmanager
    def step(name: str) -> Iterator[Callable[[str], None]]:
        """Print one line: the text given to ``done``, or the error. If the port has disappeared, end the command."""
        nonlocal failed
        text: list[str] = []
        try:
            yield text.append
        except PortError:
            raise
        except LuternError as error:
            failed += 1
            console.print(f"fail  {name:<7} {error}", soft_wrap=True)
        else:
            console.print(f"pass  {name:<7} {text[0]}", soft_wrap=True)

    with open_port(on, baud, record, memory) as port:
        client = Client(port)
        config: HwConfig | None = None
        with step("link") as done:
            config = identify(INFO.unpack(client.transact(Opcode.INFO)), known_machines())
            rate = "AXI4-Lite" if isinstance(port, AxiPort) else f"{port.baud:,} baud"
            done(f"protocol version {PROTOCOL_VERSION}, machine {config.name}, {config.clock_hz / 1e6:g} MHz, {rate}")
        if config is None:
            raise typer.Exit(1)
        if config.memory == "sdram":
            with step("clock") as done:
                window = centre_phase(client, config)
                done(
                    f"the memory passes from {window.first} to {window.last} steps of its clock's phase; "
                    f"it is set to {window.middle}"
                )
        if config.memory == "ddr3":
            with step("level") as done:
                done(level_reads(client, config).text())
            if failed:  # after this error, no word of the memory is read correctly
                raise typer.Exit(1)
        if config.memory in ("sdram", "ddr3"):
            with step("march") as done, transfer_bar("march") as advance:
                check_size(client, config)
                count = min(words or config.memory_words, config.memory_words)
                result = march(client, config, 0, count, progress=advance)
                if result.errors:
                    raise LuternError(result.text(config.word_bytes))
                done(result.text(config.word_bytes))
        if config.memory != "host":  # a machine whose host sends the weights has no memory
            with step("memory") as done, transfer_bar("memory") as advance:
                count = PATTERN_WORDS if words is None else words
                if isinstance(port, AxiPort):
                    port.require_words(config, min(count, config.memory_words))
                done(check_memory(client, config, count, seed, advance))
        with step("decode") as done:
            name, weights = model_that_fits(config)
            with load_bar() as bar:
                session = open_session(client, weights, config, progress=bar)
            golden = GoldenSession(weights)
            done(f"{name}: {check_decode(session, golden, TOKENS)}")
        if client.resent_count:
            console.print(f"      the line: {client.quality.text()}")
    if failed:
        raise typer.Exit(1)


def model_that_fits(config: HwConfig) -> tuple[str, IntegerWeights]:
    """Return the largest shipped model that a machine holds. If no shipped model fits, return random weights of a small
    shape."""
    name = largest_shipped(config)
    if name is None:
        return "random weights", integer_weights(random_checkpoint(SMALL, 1))
    return name, open_model(name).weights
