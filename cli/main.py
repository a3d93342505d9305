"""The command `lutern`: one list of commands, one place where errors become one sentence."""

import sys

import typer

from lutern.cli import doctor
from lutern.model_ref.errors import LuternError

app = typer.Typer(
    name="lutern",
    help="MatMul-free language models as FPGA gateware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a defect of ours shows Python's own traceback
)


@app.callback()
def lutern() -> None:
    """MatMul-free language models as FPGA gateware."""


# Every command of `lutern`. Doctor comes first, and runs where packages that the others import are missing.
app.command("doctor")(doctor.doctor)
missing: str | None = None
try:
    from lutern.cli import (
        bench,
        board,
        build,
        compare,
        convert,
        cost,
        cycles,
        estimate,
        evaluate,
        generate,
        inspect,
        logits,
        new,
        power,
        program,
        report,
        selftest,
        train,
        verilog,
    )
except ModuleNotFoundError as error:
    missing = (error.name or "").split(".")[0]
    if missing in ("", "lutern"):
        raise
else:
    app.command("generate")(generate.generate_text)
    app.command("selftest")(selftest.selftest)
    app.command("board")(board.serve_board)
    app.command("eval")(evaluate.evaluate)
    app.command("compare")(compare.compare)
    app.command("logits")(logits.write_logits)
    app.command("convert")(convert.convert)
    app.command("inspect")(inspect.inspect)
    app.command("new")(new.new)
    app.command("train")(train.train)
    app.command("cost")(cost.cost)
    app.command("bench")(bench.bench)
    app.command("cycles")(cycles.cycles)
    app.command("estimate")(estimate.estimate_machine)
    app.command("power")(power.power)
    app.command("report")(report.write_report)
    app.command("build")(build.build)
    app.command("program")(program.program)
    app.command("verilog")(verilog.verilog)


def main() -> None:
    """Run the command line. What a user can mend ends with one sentence and status 1, Ctrl-C with 130 and silence."""
    try:
        if missing is not None and sys.argv[1:] != ["doctor"]:
            raise LuternError(f"the package {missing} is not installed; run `lutern doctor`, which says how to get it.")
        app()
    except LuternError as error:
        print(f"lutern: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
