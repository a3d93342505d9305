"""`lutern serve` answers until it is ended, and refuses wrong options with an error message."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from letters import save_letters
from lutern.cli.commands import app
from lutern.model_ref.errors import LuternError
from processes import finish, started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_letters(tmp_path_factory.mktemp("models") / "letters")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_server_answers_until_a_signal(folder: Path, number: signal.Signals, status: int) -> None:
    """The signal ends the server while the server sends a text. The server prints nothing more."""
    command = [sys.executable, "-m", "lutern.cli.main", "serve", "--model", folder, "--on", "golden", "--port", "0"]
    with started([*command, "--most-tokens", "1000000", "--name", "abc"]) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("abc, integer model: http://127.0.0.1:")
        port = int(line.rstrip("/\n").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"prompt": "a", "max_tokens": 1_000_000, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200 and response.readline().startswith(b"data: {")
        child.send_signal(number)
        *_, last, _, end, _, _ = response.read().split(b"\n")
        assert b"the server is being stopped" in last and end == b"data: [DONE]"
        done = finish(child)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
        connection.close()


def refused(*arguments: str) -> str:
    """Return the error message of a refused command. The command runs in this process, because starting another process
    takes longer than the command."""
    with pytest.raises(LuternError) as caught:
        app(["serve", *arguments], prog_name="lutern", standalone_mode=False)
    return str(caught.value)


def test_a_port_that_is_in_use() -> None:
    """A port that is in use is refused before a model is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--port", str(port), "--model", "nowhere") == (
            f"port {port} of 127.0.0.1 is in use; give another with --port, or end the program that has it."
        )


def test_server_for_other_computers_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If other computers can reach the server, it needs a key. The key is no argument, because all users of a computer
    can read arguments."""
    monkeypatch.delenv("LUTERN_KEY", raising=False)
    said = refused("--host", "0.0.0.0", "--model", "nowhere")
    assert said.startswith("other computers reach 0.0.0.0, so clients must send a key; put one into a file")
    (tmp_path / "key").write_text("\n")
    assert refused("--key-file", str(tmp_path / "key")).endswith("key is empty; write a key into it.")
    (tmp_path / "key").write_text("two words\n")
    assert refused("--key-file", str(tmp_path / "key")).startswith(
        "the key has characters that an HTTP header cannot hold"
    )
    monkeypatch.setenv("LUTERN_KEY", "secret")
    assert refused("--host", "0.0.0.0", "--port", "0", "--model", "nowhere").startswith("there is no model nowhere")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--host", "no.such.host.invalid"],
            "the host no.such.host.invalid has no address; give one such as 127.0.0.1",
        ),
        (["--host", "192.0.2.1", "--port", "0"], "this computer does not have the address 192.0.2.1; give one that it"),
        (["--on", "moon"], "there is nothing called moon to run on; give one of sim, golden"),
        (["--on", "golden", "--preset", "tiny"], "tiny is a machine, but --on golden uses none; leave out the machine"),
        (
            ["--on", "golden", "--streams", "2"],
            "--streams is for the simulated board; leave out --streams with --on golden",
        ),
        (["--port", "70000"], "--port is 70000; give a whole number from 0 to 65,535."),
        (["--patience", "nan"], "--patience is nan; give a number from 0.1 to 3,600"),
        (["--model", "nowhere", "--port", "0"], "there is no model nowhere; give one of demo, demo-small"),
    ],
)
def test_refused(arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_KEY", "secret")
    assert refused(*arguments).startswith(sentence)


def test_missing_package_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lutern.api.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = refused("--port", "0")
    assert (
        said.startswith("lutern serve needs the package uvicorn, which is not installed; run: ") and "[serve]" in said
    )
