"""Lists the commands of `lutern`, and turns every error into one sentence."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer

from lutern.cli import doctor
from lutern.cli.defaults import default_map
from lutern.cli.output import close_output, open_streams, printable, refuse
from lutern.cli.renamed import renamed
from lutern.cli.version import version_text
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import FULL

app = typer.Typer(
    name="lutern",
    help="MatMul-free language models as FPGA gateware.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # a help text with brackets or colons, such as a path, is shown as it is
    pretty_exceptions_enable=False,  # a defect of Lutern shows Python's own traceback
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(version_text())
        raise typer.Exit


@app.callback()
def lutern(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print version and commit, and end.")
    ] = False,
) -> None:
    """MatMul-free language models as FPGA gateware."""


# Every command of `lutern`. Doctor comes first, and runs where packages that the others import are missing.
app.command("doctor")(doctor.doctor)
missing: str | None = None
try:
    from lutern.cli import (
        bench,
        board,
        build,
        cache,
        compare,
        convert,
        cost,
        cycles,
        estimate,
        evaluate,
        explore,
        generate,
        go,
        inject,
        inspect,
        link,
        logits,
        new,
        ports,
        power,
        program,
        report,
        scale,
        selftest,
        serve,
        tokenize,
        train,
        verilog,
    )
except ModuleNotFoundError as error:
    missing = (error.name or "").split(".")[0]
    if missing in ("", "lutern"):
        raise
else:
    app.command("generate")(generate.generate_text)
    app.command("go")(go.go)
    app.command("ports")(ports.ports)
    app.command("selftest")(selftest.selftest)
    app.command("board")(board.serve_board)
    app.command("serve")(serve.serve_model)
    app.add_typer(link.app, name="link")
    app.command("eval")(evaluate.evaluate)
    app.command("compare")(compare.compare)
    app.command("logits")(logits.write_logits)
    app.command("tokenize")(tokenize.tokenize)
    app.command("convert")(convert.convert)
    app.command("inspect")(inspect.inspect)
    app.command("new")(new.new)
    app.command("train")(train.train)
    app.command("scale")(scale.scale)
    app.command("cost")(cost.cost)
    app.command("bench")(bench.bench)
    app.command("cycles")(cycles.cycles)
    app.command("inject")(inject.inject)
    app.command("estimate")(estimate.estimate_machine)
    app.command("explore")(explore.explore)
    app.add_typer(power.app, name="power")
    app.command("report")(report.write_report)
    app.command("build")(build.build)
    app.command("program")(program.program)
    app.command("verilog")(verilog.verilog)
    app.add_typer(cache.app, name="cache")


INTERRUPTED = 130
"""The status after Ctrl-C."""
_UsageError: Any = typer.BadParameter.__base__
"""The exceptions of the command line's parser."""


def defaults() -> dict[str, Any]:
    """Return defaults of options, from the environment and the configuration file."""
    return default_map(typer.main.get_command(app))


def _end(number: int, frame: FrameType | None) -> None:
    """Let a signal end the process as an error does: ports are closed, and temporary files removed."""
    sys.exit(128 + number)


def run() -> int:
    """Run the command line, and return the exit status.

    An error that a user can correct ends with one sentence and status 1. Ctrl-C ends it in silence with status 130,
    SIGTERM with 143, and the end of its terminal with 129.
    """
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores the signal, and so does Lutern
        signal.signal(signal.SIGHUP, _end)
    try:
        open_streams()
        if missing is not None and sys.argv[1:] != ["doctor"]:
            raise LuternError(f"the package {missing} is not installed; run `lutern doctor`, which says how to get it.")
        arguments = sys.argv[1:] or ["--help"]
        status = app(arguments, prog_name="lutern", standalone_mode=False, default_map=defaults())
        if status != INTERRUPTED:
            sys.stdout.flush()
    except LuternError as error:
        return refuse(error)
    except OSError as error:
        return refuse(_sentence(error))
    except MemoryError:
        return refuse(
            LuternError("the memory of this computer is not enough for this; choose a smaller model or text.")
        )
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "lutern"
        instead = renamed(command, getattr(error, "option_name", ""))
        message = _asked(printable(error.format_message()), command) if instead is None else f"{instead}."
        print(f"lutern: {message}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        close_output()
    return status if isinstance(status, int) else 0


def _sentence(error: OSError) -> LuternError:
    """Return the sentence for an error of the system that a user can mend; any other error is a defect of Lutern, and
    is raised again."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno == errno.ENAMETOOLONG:
        return LuternError(f"the name {name[:40]}... is too long for a file; give another.")
    if error.errno in FULL:
        return LuternError(f"nothing more can be written ({error.strerror}); make room.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO) and name:
        return LuternError(f"{name} cannot be used ({error.strerror}); give another, or change its rights.")
    raise error


def _asked(message: str, command: str) -> str:
    """Return a refusal of the command line's parser as one sentence that says what to do."""
    return f"{' '.join(message.split()).replace('. Did', '; did').rstrip('.?')}; see {command} --help."
