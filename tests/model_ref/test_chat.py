"""Chats: templates like those of real models run in a sandbox, and a turn continues from the state of the last one."""

from __future__ import annotations

import resource
import signal

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, processors

from lutern.model_ref import chat
from lutern.model_ref.chat import Chat, render
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer

TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
CHATML = (
    "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)


def make(template: str) -> Tokenizer:
    """Return a tokenizer of letters, which writes spaces as U+2581 and puts <s> and one such space before the text."""
    letters = ["<unk>", "<s>", "</s>", "▁", "\n", *map(chr, range(33, 127)), "▁hi"]
    library = tokenizers.Tokenizer(
        models.BPE({token: number for number, token in enumerate(letters)}, [], unk_token="<unk>")
    )
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    library.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    return Tokenizer(library, "x", Conventions(1, (2,), tokens=tokens, chat_template=template))


def test_rendered_as_published() -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": " yes "},
        {"role": "user", "content": "why"},
    ]
    assert render(make(TURNS), messages) == "<s>[INST] hi [/INST] yes </s>[INST] why [/INST]"
    assert render(make(CHATML), messages[:2], answer=False) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    )
    assert render(make("{{ messages | tojson }}"), [{"a": "<é>"}]) == '[{"a": "<é>"}]'
    assert len(render(make("{{ strftime_now('%Y') }}{% for x in [1, 2] %}{% break %}{% endfor %}"), [])) == 4


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no\nsystem') }}",
        "{% for %}",
        "{{ messages[7].content.x }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ 'x' * 100000000000 }}",
        "{{ '%100000000000d' % 1 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% for a in range(1000000000) %}x{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_that_fail_or_are_harmful(template: str) -> None:
    with pytest.raises(LuternError) as refused:
        render(make(template), [{"role": "user", "content": "hi"}])
    assert "chat template" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ ('a' * 1000 * 1000 * 1000) | length }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ],
    ids=["doubled", "multiplied", "nested"],
)
def test_templates_without_end(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time and memory are limited, and both limits are removed afterwards."""
    monkeypatch.setattr(chat, "SECONDS", 0.2)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(LuternError, match=r"^the chat template takes more than 0\.2 s or 64 MiB for one chat; leave"):
        render(make(template), [{"role": "user", "content": "?"}])
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_no_template() -> None:
    with pytest.raises(LuternError, match="has no chat template"):
        Chat(make("")).ask("hi")


@pytest.mark.parametrize(("template", "end"), [(TURNS, "</s>"), (CHATML, "<|im_end|>")])
@pytest.mark.parametrize("answer", ["yes", " yes", "yes. ", "hi"])
def test_turns_continue_from_the_state(template: str, end: str, answer: str) -> None:
    """Only the tokens after the answer are fed to the model, even if the template trims the answer."""
    tokenizer = make(template)
    chat = Chat(tokenizer)
    first, goes_on = chat.ask("hi")
    assert not goes_on and first == tokenizer.encode_body(render(tokenizer, chat.messages))
    chat.answered(answer, whole=True)
    second, goes_on = chat.ask("why")
    assert goes_on
    text = tokenizer.decode(second)
    assert text.startswith(end) and text.count("why") == 1 and "hi" not in text
    chat.answered("cut", whole=False)
    third, goes_on = chat.ask("so")
    assert not goes_on and third == tokenizer.encode_body(render(tokenizer, chat.messages))


def test_a_template_that_rewrites_earlier_messages() -> None:
    chat = Chat(make("{{ messages | length }}{{ messages[-1].content }}"))
    assert chat.ask("a")[1] is False
    chat.answered("b", whole=True)
    assert chat.ask("c")[1] is False
