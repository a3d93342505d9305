"""`lutern serve`: serves a model with the calls of the OpenAI API, and a page for a browser."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from lutern.api.machines import SIM_PRESETS, Machine, first_that_holds, open_machine
from lutern.cli.generate import TARGETS
from lutern.cli.machine import MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import open_model
from lutern.cli.numbers import LARGEST_COUNT, baud_option, real, whole
from lutern.cli.port import PORTS, MemoryOption, RecordOption, check_options, is_port
from lutern.cli.progress import load_bar
from lutern.hw.config import HwConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from lutern.model_ref.text import read_text

KEY = "LUTERN_KEY"


def serve_model(
    model: Annotated[
        str, typer.Option(help="demo, demo-small, demo-large, a checkpoint folder, or an image.")
    ] = "demo",
    on: Annotated[str, typer.Option(help=f"sim: the simulated board; golden: the integer model; or {PORTS}.")] = "sim",
    preset_name: Annotated[
        str, preset_option(f"the port's, else {SIM_PRESETS[0]}, or {SIM_PRESETS[1]} if that does not hold the model")
    ] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    streams: Annotated[
        int | None,
        whole(
            "--streams",
            least=1,
            most=16,
            help="Number of texts that the simulated board continues in one pass; default: the preset's.",
        ),
    ] = None,
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    host: Annotated[
        str, typer.Option(help="Address to serve; an address that other computers reach needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, whole("--port", least=0, most=65_535, help="Port to serve; 0: a free port.")] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help=f"A file with the key that clients must send; default: the key in {KEY}."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the model in the API; default: the name of the model or of its folder.")
    ] = "",
    most_tokens: Annotated[
        int, whole("--most-tokens", least=1, most=LARGEST_COUNT, help="Largest number of tokens of a text.")
    ] = 1024,
    most_prompt: Annotated[
        int, whole("--most-prompt", least=1, most=LARGEST_COUNT, help="Largest number of tokens of a prompt.")
    ] = 4096,
    most_bytes: Annotated[
        int, whole("--most-bytes", least=1, most=LARGEST_COUNT, help="Largest number of bytes of a request.")
    ] = 1 << 20,
    queue: Annotated[
        int,
        whole(
            "--queue", least=0, most=100_000, help="Number of texts that may wait; others are refused with status 429."
        ),
    ] = 64,
    patience: Annotated[
        float,
        real(
            "--patience",
            least=0.1,
            most=3600,
            help="Waiting time: seconds within which a client must send its request, or receive an answer.",
        ),
    ] = 30.0,
) -> None:
    """Serve a model by the OpenAI API: /v1/models, /v1/completions, /v1/chat/completions, and a page at /.

    Simultaneous requests share each pass of the weights. Ctrl-C or SIGTERM ends the server.
    """
    try:
        from lutern.api.serving import Limits, Service, bind, make_app, serve
        from lutern.api.serving.server import address_of, is_loopback
    except ModuleNotFoundError as error:
        raise LuternError(
            f"lutern serve needs the package {error.name}, which is not installed; run: {install_command('serve')}"
        ) from None
    chosen = given_machine(preset_name, settings, machine_file)
    wanted = chosen.config if chosen else None
    _check(on, wanted, streams)
    check_options(on, baud, record, memory)
    limits = Limits(most_tokens, most_prompt, most_bytes, queue, patience_s=patience)
    key = _key(key_file)
    with bind(host, port, key, limits) as listening:
        opened = open_model(model)
        _ = opened.tokenizer  # a wrong option is refused before anything is compiled
        with load_bar() as advance:
            if on == "golden":
                machine: Machine | None = None
            elif on == "sim":
                config = wanted or first_that_holds(opened.weights)
                config = config.with_(streams=streams) if streams else config
                machine = opened.simulate(config, progress=advance)
            else:
                machine = open_machine(
                    on, opened, baud=baud, machine=wanted, memory=memory, record=record, progress=advance
                )
        with nullcontext() if machine is None else machine:
            only_local = is_loopback(listening.getsockname()[0])
            service = Service(opened, machine, limits=limits, name=name, key=key, only_local=only_local)
            print(f"{service.name}, {service.where}: {address_of(listening)}", flush=True)
            serve(make_app(service), listening)


def _check(on: str, wanted: HwConfig | None, streams: int | None) -> None:
    if on not in TARGETS and not is_port(on):
        raise LuternError(f"there is nothing called {on} to run on; give one of {', '.join(TARGETS)}, {PORTS}.")
    if on == "golden" and wanted:
        raise LuternError(
            f"{wanted.name} is a machine, but --on golden uses none; leave out the machine, or give --on sim."
        )
    if on != "sim" and streams:
        raise LuternError(f"--streams is for the simulated board; leave out --streams with --on {on}.")


def _key(file: Path | None) -> str:
    """Return the key that clients must send: the text of a file, or of the environment. Empty: clients need no key."""
    key = os.environ.get(KEY, "") if file is None else read_text(file).strip()
    if file is not None and not key:
        raise LuternError(f"{file} is empty; write a key into it.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise LuternError(
            "the key has characters that an HTTP header cannot hold; use ASCII letters, digits and "
            "punctuation, without spaces."
        )
    return key
