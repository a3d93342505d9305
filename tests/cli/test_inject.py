"""`lutern inject` refuses wrong arguments. tests/measure/inject/test_campaigns.py tests the campaigns."""

import pytest
from typer.testing import CliRunner

from lutern.cli.commands import app
from lutern.model_ref.errors import LuternError


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gamma"], "there is no campaign gamma; choose one of link, weights,"),
        (["weights", "--preset", "none"], "there is no preset none; choose one of"),
        (["weights", "--preset", "host"], "host waits for words from the host; choose a preset"),
        (["weights", "--model", "none"], "none"),
        (["weights", "--faults", "0"], "--faults is 0; give a whole number from 1 to"),
        (["weights", "--workers", "1000"], "--workers is 1000; give a whole number from 1 to"),
        (["row", "--preset", "tiny"], "tiny has its weights in the chip"),
        (["link", "--preset", "tiny", "--model", "demo"], "tiny"),
    ],
)
def test_refused(arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutern.cli.inject.verilate", lambda *_, **__: pytest.fail("compiled before it was refused"))
    with pytest.raises(LuternError) as refused:
        CliRunner().invoke(app, ["inject", *arguments], catch_exceptions=False)
    assert sentence in str(refused.value) and str(refused.value).endswith(".")
