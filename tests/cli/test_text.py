"""A model whose text is known, with a tokenizer like that of the released models: every target writes this text."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lutern.cli import commands
from lutern.firmware.image import open_image
from lutern.model_ref.calibrate import observe, text_tokens
from lutern.model_ref.checkpoint import load_checkpoint, load_tokenizer, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.evaluate import bits_per_character
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.synthetic import chain_checkpoint

DATA = Path(__file__).parents[1] / "data" / "tokenizers"
CONFIG = ModelConfig(vocab_size=332, hidden_size=64, num_hidden_layers=1, intermediate_size=64)
SEED = 5
CHAIN = ["<s>", "▁once", "▁upon", "▁a", "▁the", "▁cat", "<0xC3>", "<0xA9>", ".", "</s>", "▁upon"]
WRITTEN = "once upon a the caté."


def make_model(folder: Path, tokenizer: str, chain: list[str], config: ModelConfig = CONFIG, **extra: object) -> Path:
    """Save a checkpoint that writes the next token of ``chain`` after each token, and return its folder. ``extra``
    contains JSON files for this folder."""
    library = tokenizers.Tokenizer.from_str(tokenizer)
    numbers = [library.token_to_id(token) for token in chain]
    assert None not in numbers and len(set(numbers[:-1])) == len(numbers) - 1
    made = chain_checkpoint(config, dict(itertools.pairwise(numbers)), SEED)
    save_checkpoint(folder, config, made.tensors)
    (folder / "tokenizer.json").write_text(tokenizer)
    for name, values in extra.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return (DATA / "byte_fallback.json").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: str) -> Path:
    return make_model(tmp_path_factory.mktemp("chain") / "model", tokenizer, CHAIN)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tokenizer: str) -> Path:
    """Return the same checkpoint with only three byte tokens, so that its vocabulary fits the simulated machines. The
    image of this checkpoint is next to the folder."""
    values = json.loads(tokenizer)
    kept = [
        token for token in values["model"]["vocab"] if not token.startswith("<0x") or token[3:5] in ("C3", "A9", "0A")
    ]
    values["model"]["vocab"] = {token: number for number, token in enumerate(kept)}
    config = ModelConfig(vocab_size=len(kept), hidden_size=64, num_hidden_layers=1, intermediate_size=64)
    folder = make_model(tmp_path_factory.mktemp("small") / "model", json.dumps(values), CHAIN, config)
    assert run("convert", str(folder), "-o", str(folder.parent / "image")).returncode == 0
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> Path:
    path = folder.parent / "image"
    assert run("convert", str(folder), "-o", str(path)).returncode == 0
    return path


def run(*arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run `lutern` in this process. ``given`` is the content of standard input, which is a file."""
    out, errors = io.StringIO(), io.StringIO()
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(given or b"")
        file.seek(0)
        patch.setattr(sys, "stdin", io.TextIOWrapper(file))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", errors)
        patch.setattr(sys, "argv", ["lutern", *arguments])
        code = commands.run()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def written(model: Path, *arguments: str, on: tuple[str, ...] = ("--on", "golden"), given: bytes | None = None) -> str:
    """Return what `lutern generate` writes at temperature 0."""
    done = run("generate", "--model", str(model), "-t", "0", *on, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str, given: bytes | None = None) -> str:
    """Run a command that must be refused, and return the error message."""
    done = run(*arguments, given=given)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert re.fullmatch(r"lutern: [^\n]+\.\n", done.stderr), done.stderr
    return done.stderr


# ---------------------------------------------------------------------------------- the known text


@pytest.mark.parametrize("model", ["folder", "image"])
@pytest.mark.parametrize("prompt", ["once upon", "the", "", "the cat"])
def test_the_known_text_is_written_and_ends(prompt: str, model: str, request: pytest.FixtureRequest) -> None:
    """The output is the decoding of the whole sequence. The output contains the spaces and the character of two bytes,
    and ends with </s>."""
    path = request.getfixturevalue(model)
    start = WRITTEN.index(prompt)
    assert written(path, prompt, "-n", "20") == f"{WRITTEN[start:]}\n"


@pytest.mark.slow
def test_the_simulated_board_writes_the_known_text(small: Path) -> None:
    for model in (small, small.parent / "image"):
        assert written(model, "once upon", "-n", "20", "--check", on=("--on", "sim")) == f"{WRITTEN}\n"
    turns = written(small, "--interactive", "-n", "3", "--check", on=("--on", "sim"), given=b"once\n cat\n")
    assert turns == " upon a the\n\u00e9.\n"
    assert written(small, "once", "-n", "3", "--top-p", "0.5", "-t", "0.1", on=("--on", "sim")) == "once upon a the\n"


@pytest.mark.slow
def test_every_byte_on_a_machine_that_the_host_feeds(folder: Path) -> None:
    assert written(folder, "once upon", "-n", "20", on=("--preset", "host")) == f"{WRITTEN}\n"


@pytest.mark.parametrize("on", ["golden", pytest.param("sim", marks=pytest.mark.slow)])
def test_several_prompts_at_once(small: Path, on: str) -> None:
    """Each text ends independently. With at most five tokens per text, only the first text loses its full stop."""
    prompts = ["--prompt", "once upon", "--prompt", "the", "--prompt", "", "--prompt", "cat"]
    machine = ("--on", "golden") if on == "golden" else ("--preset", "stream-x16")
    whole = written(small, *prompts, "-n", "20", on=machine)
    assert whole == f"{WRITTEN}\nthe caté.\n{WRITTEN}\ncaté.\n"
    assert written(small, *prompts[:4], "-n", "5", on=machine) == "once upon a the caté\nthe caté.\n"


def test_an_unfinished_character_becomes_the_replacement_character(folder: Path) -> None:
    assert written(folder, "the", "-n", "2") == "the cat\ufffd\n"


def test_ignore_eos_continues_without_writing_special_tokens(folder: Path) -> None:
    assert written(folder, "cat", "-n", "8", "--ignore-eos") == "caté. upon a the cat\n"


def test_no_bos(folder: Path) -> None:
    """If <s> is left out, only the prompt is fed, so an empty prompt is refused."""
    with_it, without = (
        run("generate", "the", "--model", str(folder), "--on", "golden", "-n", "1", "-t", "0", *more).stderr
        for more in ((), ("--no-bos",))
    )
    assert with_it and without
    assert "the prompt is empty" in refused("generate", "", "--model", str(folder), "--on", "golden", "--no-bos")


# ---------------------------------------------------------------------------------- where the end of a text is defined


@pytest.mark.parametrize(
    ("config", "generation", "text"),
    [
        ({}, {"eos_token_id": 2}, "the caté."),
        ({}, {"eos_token_id": [331, 330]}, "the cat"),
        ({"eos_token_id": 331}, None, "the cat"),
        ({"eos_token_id": [331]}, {}, "the cat"),
        ({"eos_token_id": 331}, {"eos_token_id": 2}, "the caté."),
        ({"eos_token_id": 331}, {"eos_token_id": None}, "the cat"),
        ({"eos_token_id": -1}, None, "the caté. upon"),
        ({"eos_token_id": 999}, None, "the caté. upon"),
        ({"eos_token_id": None}, None, "the caté. upon"),
    ],
)
def test_the_end_of_text_of_configs(
    folder: Path, tmp_path: Path, config: dict[str, object], generation: dict[str, object] | None, text: str
) -> None:
    """The end of text is a number or a list, and generation_config.json has priority. An end token that is not special
    is written."""
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, **config}))
    if generation is not None:
        (model / "generation_config.json").write_text(json.dumps(generation))
    assert written(model, "the", "-n", "6") == f"{text}\n"
    assert run("convert", str(model), "-o", str(tmp_path / "image")).returncode == 0
    assert written(tmp_path / "image", "the", "-n", "6") == f"{text}\n"


@pytest.mark.parametrize("value", ['"2"', "2.5", "true", "[true]", '{"a": 1}'])
def test_an_end_of_text_that_is_no_number(folder: Path, tmp_path: Path, value: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    (model / "generation_config.json").write_text(f'{{"eos_token_id": {value}}}')
    assert "eos_token_id is" in refused("generate", "the", "--model", str(model), "--on", "golden")


# ---------------------------------------------------------------------------------- stop texts, standard input, files


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("cat", "once upon a the "),
        (" the ca", "once upon a"),
        ("é", "once upon a the cat"),
        ("xyz", WRITTEN),
        ("on", WRITTEN),
    ],
)
def test_stop_texts(folder: Path, stop: str, text: str) -> None:
    """A stop text may be spread over tokens. The prompt is not searched for the stop text."""
    assert written(folder, "once upon", "-n", "20", "--stop", stop) == f"{text}\n"
    assert written(folder, "once upon", "-n", "20", "--stop", "nothing", "--stop", stop) == f"{text}\n"
    both = written(folder, "--prompt", "once upon", "--prompt", "once", "-n", "20", "--stop", stop)
    assert both.splitlines()[0] == text


def test_prompts_from_files_and_standard_input(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"\xef\xbb\xbfthe\r\n")
    wanted = "the caté.\n"
    assert written(folder, "--prompt-file", str(tmp_path / "prompt.txt"), "-n", "20") == wanted
    for given in (b"the", b"the\n", b"\xef\xbb\xbfthe\r\n", "the".encode("utf-16")):
        assert written(folder, "-", "-n", "20", given=given) == wanted
        assert written(folder, "-n", "20", given=given) == wanted
    assert written(folder, "--prompt-file", "-", "-n", "20", given=b"the\n") == wanted
    assert written(folder, "once", "-n", "20", given=b"the\n") == f"{WRITTEN}\n", "standard input must not be read"
    (tmp_path / "prompt.txt").write_bytes(b"\xff\xfe\xfd")
    common = ("generate", "--model", str(folder), "--on", "golden")
    assert "UTF-8" in refused(*common, "--prompt-file", str(tmp_path / "prompt.txt"))
    assert "standard input is no UTF-8 text" in refused(*common, "-", given=b"\xc3")
    assert "given twice" in refused(*common, "-", "--prompt", "-")
    assert "cannot be read" in refused(*common, "--prompt-file", str(tmp_path / "none"))
    assert "--stop is empty" in refused(*common, "a", "--stop", "")


# ---------------------------------------------------------------------------------- special cases of tokenizers


@pytest.mark.parametrize("key", ["padding", "truncation"])
def test_stored_padding_and_truncation_are_switched_off(folder: Path, tmp_path: Path, tokenizer: str, key: str) -> None:
    values = {
        "padding": {
            "strategy": {"Fixed": 16},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 2,
            "pad_type_id": 0,
            "pad_token": "</s>",
        },
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    }
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    (model / "tokenizer.json").write_text(json.dumps({**json.loads(tokenizer), key: values[key]}))
    assert written(model, "once upon", "-n", "20") == f"{WRITTEN}\n"


def test_unknown_characters_of_a_unigram_model(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=29, hidden_size=64, num_hidden_layers=1, intermediate_size=64)
    model = make_model(tmp_path / "model", (DATA / "unigram.json").read_text(), ["▁the", "▁", "c", "a"], config)
    assert written(model, "the", "-n", "2") == "the c\n"
    assert "no token for '5' at position 8" in refused("generate", "the cat 5", "--model", str(model), "--on", "golden")


def test_capitals_do_not_change_the_text_of_the_demo() -> None:
    """The demo writes the same text after capital letters as after small letters."""
    texts = [
        run("generate", prompt, "-n", "12", "--on", "golden", "--seed", "3") for prompt in ("Once Upon", "once upon")
    ]
    assert texts[0].stdout == texts[1].stdout and texts[0].stdout.startswith("once upon")


# ---------------------------------------------------------------------------------- other decoders


def _words(decoder: object, words: list[str], pre_tokenizer: object = None) -> str:
    """Return the JSON of a word-level tokenizer with a decoder."""
    library = tokenizers.Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>")
    )
    library.pre_tokenizer = pre_tokenizer or pre_tokenizers.Whitespace()
    library.decoder = decoder
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    return str(library.to_str())


@pytest.mark.parametrize(
    ("decoder", "chain", "text"),
    [
        (decoders.Metaspace(), ["▁a", "▁b", "c", "▁d"], "a bc d"),
        (decoders.WordPiece(), ["▁a", "b", "##c", ".", "d"], "▁a bc. d"),
        (decoders.BPEDecoder(), ["▁a", "b</w>", "c", "d</w>"], "▁ab cd"),
        (decoders.CTC(pad_token="<unk>", word_delimiter_token="|"), ["▁a", "b", "|", "c"], "▁ab c"),
        (decoders.ByteLevel(), ["▁a", "Ġb", "Ã", "©", "Ġd"], "▁a bé d"),
        (decoders.Fuse(), ["▁a", "b", "c"], "▁abc"),
    ],
    ids=["metaspace", "wordpiece", "bpe", "ctc", "byte-level", "fuse"],
)
def test_decoders(tmp_path: Path, decoder: object, chain: list[str], text: str) -> None:
    words = ["<unk>", "<s>", "</s>", *chain]
    config = ModelConfig(vocab_size=len(words), hidden_size=64, num_hidden_layers=1, intermediate_size=64)
    tokenizer = _words(decoder, words, pre_tokenizers.WhitespaceSplit())
    model = make_model(tmp_path / "model", tokenizer, [*chain, "</s>"], config)
    prompt = chain[0]
    assert written(model, prompt, "-n", "20") == f"{text}\n"
    assert written(model, "--prompt", prompt, "--prompt", prompt, "-n", "20") == f"{text}\n{text}\n"


# ---------------------------------------------------------------------------------- sampling, turns, chats


def with_files(model: Path, place: Path, **files: object) -> Path:
    """Copy a model's folder, add JSON files, and return the copy."""
    shutil.copytree(model, place)
    for name, values in files.items():
        (place / f"{name}.json").write_text(json.dumps(values))
    return place


def test_sampling_of_generation_config(folder: Path, tmp_path: Path) -> None:
    """generation_config.json defines the defaults, also for an image. Options of the user have priority."""
    values = {"do_sample": True, "temperature": 900.0, "top_p": 0.0001, "num_beams": 4}
    model = with_files(folder, tmp_path / "model", generation_config=values)
    assert run("convert", str(model), "-o", str(tmp_path / "image")).returncode == 0
    for path in (model, tmp_path / "image"):
        done = run("generate", "the", "--model", str(path), "--on", "golden", "-n", "3")
        assert done.stdout == "the cat\u00e9\n", "top_p 0.0001 must leave only the likeliest token"
        assert "sampling of generation_config.json: temperature 900, top_p 0.0001" in done.stderr
        assert "of the model's files, these options are not built and have no effect: num_beams" in done.stderr
        hot = run(
            "generate", "the", "--model", str(path), "--on", "golden", "-n", "3", "--top-p", "1", "--top-k", "300"
        )
        assert hot.stdout != done.stdout and "top_p" not in hot.stderr
    greedy = with_files(folder, tmp_path / "greedy", generation_config={"do_sample": False})
    assert run("generate", "the", "--model", str(greedy), "--on", "golden", "-n", "9").stdout == "the cat\u00e9.\n"


def test_a_refused_number_of_generation_config_names_the_file(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "generation_config.json").write_text('{"temperature": 500}')
    assert "temperature 500 of generation_config.json" in refused(
        "generate", "the", "--model", str(copy), "--on", "golden"
    )


def test_options_of_sampling(folder: Path) -> None:
    hot = ("-t", "900", "-n", "3")
    assert written(folder, "the", *hot, "--top-p", "0.0001") == "the cat\u00e9\n"
    assert written(folder, "the", *hot, "--min-p", "1") == "the cat\u00e9\n"
    assert written(folder, "the", *hot, "--top-k", "1") == "the cat\u00e9\n"
    assert written(folder, "cat", "-n", "3", "--repetition-penalty", "1.5") == "cat\u00e9.\n"
    common = ("generate", "the", "--model", str(folder), "--on", "golden")
    for option, value in (
        ("--top-p", "0"),
        ("--min-p", "2"),
        ("--repetition-penalty", "-1"),
        ("-t", "nan"),
        ("--seed", "-5"),
    ):
        assert "give" in refused(*common, option, value)


def test_a_penalty_needs_all_logits(small: Path) -> None:
    sentence = refused("generate", "the", "--model", str(small), "--preset", "host", "--repetition-penalty", "1.2")
    assert "keeps its 64 best" in sentence


def test_turns_continue_the_text(folder: Path) -> None:
    """Every line is fed after the text so far, which does not include the end-of-text token."""
    lines = b"once\n\n the\n\xc3\xa9\n"
    assert written(folder, "--interactive", "-n", "2", given=lines) == " upon a\n cat\ufffd\n.\n"
    assert written(folder, "once", "--interactive", "-n", "1", given=b" the") == " upon\n cat\n"
    stopped = written(folder, "--interactive", "-n", "9", "--stop", "cat", given=b"once\ncat\n")
    assert stopped == " upon a the \n\u00e9.\n", "the state must not include the text that was cut off"
    assert written(folder, "--interactive", given=b"") == ""
    assert "begins with one" in refused(
        "generate", "a", "--prompt", "b", "--interactive", "--model", str(folder), "--on", "golden"
    )


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role != 'user' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


@pytest.mark.parametrize("kind", ["model", "image"])
def test_chats(folder: Path, tmp_path: Path, kind: str) -> None:
    """Only answers are written. Several questions in one command are separate chats, and lines are turns of one
    chat."""
    files = {"chat_template": TEMPLATE, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    path = with_files(folder, tmp_path / "model", tokenizer_config=files)
    if kind == "image":
        assert run("convert", str(path), "-o", str(tmp_path / "image")).returncode == 0
        path = tmp_path / "image"
    assert written(path, "--chat", "the", "-n", "20") == " cat\u00e9.\n"
    assert written(path, "--chat", "--prompt", "the", "--prompt", "cat", "-n", "9") == " cat\u00e9.\n\u00e9.\n"
    assert (
        written(path, "--chat", "-n", "20", given=b"the\ncat\nonce\n")
        == " cat\u00e9.\n\u00e9.\n upon a the cat\u00e9.\n"
    )
    assert written(path, "--chat", "-n", "20", "--stop", "cat", given=b"the\nonce\n") == " \n upon a the \n"
    assert "has no chat template" in refused("generate", "--chat", "--model", str(folder), "--on", "golden", given=b"a")


def test_token_numbers_are_printed(folder: Path, tmp_path: Path) -> None:
    assert run("tokenize", "the cat", "--model", str(folder)).stdout == "1 316 331\n"
    assert run("tokenize", "the cat", "--no-bos", "--model", str(folder)).stdout == "316 331\n"
    assert run("tokenize", "", "--model", str(folder)).stdout == "1\n"
    out = str(tmp_path / "out.npz")
    done = run("logits", str(folder), "--prompt", "the cat", "-o", out)
    assert done.stdout.startswith("tokens: 1 316 331\n"), done.stderr
    np.save(tmp_path / "ids.npy", np.array([1, 316, 331]))
    (tmp_path / "prompt.txt").write_text("the cat\n")
    third = str(tmp_path / "c.npz")
    assert run("logits", str(folder), "--prompt-file", str(tmp_path / "prompt.txt"), "-o", third).returncode == 0
    done = run("logits", str(folder), "--token-file", str(tmp_path / "ids.npy"), "-o", str(tmp_path / "b.npz"))
    assert done.returncode == 0
    assert np.array_equal(np.load(out)["logits"], np.load(tmp_path / "b.npz")["logits"])
    assert "give one of --prompt" in refused("logits", str(folder), "-o", out)
    assert "give one of --prompt" in refused("logits", str(folder), "--prompt", "a", "--token-file", "x", "-o", out)
    assert "-o FILE" in refused("logits", str(folder), "--prompt", "a")


def test_inspect_prints_the_convention(folder: Path, image: Path) -> None:
    for model in (folder, image):
        line = "a text begins with '<s>' (1); ends with '</s>' (2); no chat template\n"
        assert line in run("inspect", str(model)).stdout
    assert "a text begins with nothing; ends with nothing; no chat template\n" in run("inspect", "demo").stdout


# ---------------------------------------------------------------------------------- eval and calibration


def test_evaluation_begins_every_stream_with_the_beginning_of_text(folder: Path, tmp_path: Path) -> None:
    """With one stream, all tokens of the published encoding except the first are counted."""
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfonce upon a the cat\r\rthe cat.\r")
    text = "once upon a the cat\n\nthe cat.\n"
    done = run("eval", str(folder), str(tmp_path / "text.txt"), "--whole", "--streams", "1")
    assert done.returncode == 0, done.stderr
    ids = load_tokenizer(folder).encode(text)
    assert ids[0] == 1
    wanted = bits_per_character(FloatModel(load_checkpoint(folder)), ids, 1)
    assert (
        f"float    {wanted * (len(ids) - 1) / len(text):.5f} bits per character  {wanted:.5f} bits per token"
        in done.stdout
    )
    assert f"{len(ids) - 1:,} tokens, {len(text)} characters in 1 stream" in " ".join(done.stdout.split())
    tokens = load_tokenizer(folder).encode(text, begin=False)
    several = run("eval", str(folder), str(tmp_path / "text.txt"), "--whole", "--streams", "3")
    length = len(tokens) // 3
    each = [
        bits_per_character(FloatModel(load_checkpoint(folder)), [1, *tokens[s : s + length]], 1)
        for s in (0, length, 2 * length)
    ]
    assert f"{sum(each) / 3:.5f} bits per token" in several.stdout


def test_calibration_begins_every_stream_with_the_beginning_of_text(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("once upon a the cat. " * 40)
    image = tmp_path / "image"
    done = run("convert", str(folder), "-o", str(image), "--calibrate", str(tmp_path / "text.txt"))
    ids = load_tokenizer(folder).encode("once upon a the cat. " * 40)
    tokens = text_tokens(ids[1:], [1])
    assert tokens.shape == (1 + (len(ids) - 1) // 16, 16) and (tokens[0] == 1).all()
    assert f"calibrated on {tokens.size:,} tokens" in done.stdout
    seen = {name: one.rounded() for name, one in observe(load_checkpoint(folder), tokens).items()}
    assert open_image(image).activations == seen
    (tmp_path / "text.txt").write_text("")
    assert "contains no text" in refused(
        "convert", str(folder), "-o", str(image), "--calibrate", str(tmp_path / "text.txt")
    )
