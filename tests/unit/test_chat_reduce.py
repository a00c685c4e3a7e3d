"""Chat templates: what reduces, what does not and says so, and that hostile ones end in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infc.dates import fill, parse_date
from infc.errors import InputError
from infc.limits import Limits
from infc.tokenizer import chat_render, reduce_chat
from infc.tokenizer.chat import GENERATE, NOT_EMPTY, START, STRIP_LEFT, STRIP_RIGHT, ChatReduction
from infc.tokenizer.chat_render import DATE, Conversation, Refused, render_all
from tests.models.tiny import CHATML
from tests.unit.tokenizer_support import read_kv

# Written for these tests, in the manner of templates in use.
LLAMA3 = (
    "{{- bos_token }}{%- if not date is defined %}{%- if strftime_now is defined %}{%- set date = strftime_now('%d') %}"
    "{%- else %}{%- set date = '26 Jul' %}{%- endif %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}"
    "{%- else %}{%- set first = '' %}{%- endif %}{{- '<|h|>system<|/h|>\n\nToday: ' + date + '\n\n' + first + '<|eot|>' }}"
    "{%- for message in messages %}{{- '<|h|>' + message.role + '<|/h|>\n\n' + message.content | trim + '<|eot|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|h|>assistant<|/h|>\n\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>model\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + ('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system "
    "is defined else '') + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
RIGHT_STRIP = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'user' %}{{ m.content.rstrip() }}{% elif m.role == 'assistant' %}"
    "{{ m.content.lstrip() }}{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
EMPTY_IS_ABSENT = (
    "{% for m in messages %}{% if m.content %}<{{ m.role }}>{{ m.content }}</>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LAST_USER_DIFFERS = (
    "{% for m in messages %}{{ '!' if loop.last else '.' }}{{ m.role + m.content }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
GENERATION_BLOCK = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}<{{ m.role | tojson }}>{{ m.content }}{% endif %}{% if loop.length > 90 %}{% break %}{% endif %}|{% endfor %}"
)


def _reduce(template: str) -> ChatReduction:
    return reduce_chat({"tokenizer.chat_template": template}, "<s>", "</s>")


_CONVERSATIONS = [
    Conversation((("user", "Hi"),), True),
    Conversation((("system", "Be\nbrief."), ("user", "What is 2 + 2?")), True),
    Conversation((("user", "a"), ("assistant", "b"), ("user", "  c \n"), ("assistant", " d"), ("user", "e")), True),
    Conversation((("system", " s "), ("user", "{{ x }} é世🙂"), ("assistant", "{% if %}"), ("user", "\u00a0y\u2003")), True),
    Conversation((("user", "q"), ("assistant", "the answer")), False),
    Conversation((("user", "x" * 3000), ("assistant", "<b>"), ("user", "")), True),
]


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA, LLAMA2, RIGHT_STRIP, EMPTY_IS_ABSENT, GENERATION_BLOCK], ids=lambda t: t[:12])
def test_a_reduction_renders_what_the_template_renders(template: str) -> None:
    r = _reduce(template)
    assert r, r.reason
    texts = render_all(template, {"bos_token": "<s>", "eos_token": "</s>"}, _CONVERSATIONS)
    assert not isinstance(texts, Refused)
    covered = 0
    for c, text in zip(_CONVERSATIONS, texts, strict=True):
        said = r.render(c)
        covered += said is not None
        assert said is None or fill(said, parse_date(DATE)) == text
    assert covered >= 3


def test_the_real_template(smollm2_path: Path) -> None:
    r = reduce_chat(read_kv(smollm2_path))
    default = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    assert r.glue[START, "user"] == default + "<|im_start|>user\n"
    assert r.glue[START, "system"] == "<|im_start|>system\n"
    assert r.glue["user", GENERATE] == "<|im_end|>\n<|im_start|>assistant\n"
    assert len(r.glue) == 18 and not any(r.strip.values())


def test_what_happens_to_contents() -> None:
    assert _reduce(LLAMA3).strip == dict.fromkeys(("system", "user", "assistant"), STRIP_LEFT | STRIP_RIGHT)
    assert _reduce(RIGHT_STRIP).strip == {"system": 0, "user": STRIP_RIGHT, "assistant": STRIP_LEFT}
    empty = _reduce(EMPTY_IS_ABSENT)
    assert empty.strip == dict.fromkeys(("system", "user", "assistant"), NOT_EMPTY)
    assert empty.render(Conversation((("user", ""),), True)) is None


def test_what_a_template_refuses_is_left_out() -> None:
    glue = _reduce(GEMMA).glue
    assert (START, "system") not in glue and ("user", "user") not in glue and ("assistant", "assistant") not in glue
    assert glue[START, "user"] == "<s><start>user\n"
    assert _reduce(LLAMA2).glue["system", "user"] == "\n<</SYS>>\n\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (LAST_USER_DIFFERS, "more than the roles"),
        ("{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}", "more than the roles"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "repeated"),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "moved"),
        ("no message at all", "left out"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "left out"),
        (CHATML.replace("message['content']", "message['content'].replace('ee', 'e')"), "own way"),
        ("{% for m in messages %}{{ m.content.replace('  ', ' ') + m.role }}{% endfor %}", "own way"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ nothing.here }}", "nothing"),
        ("{% for m in messages %}{{ m.content }}{{ '\\ud800' }}{% endfor %}", "not Unicode"),
    ],
)
def test_irregular_templates_say_why(template: str, words: str) -> None:
    r = _reduce(template)
    assert not r and r.encode() == b""
    assert r.reason.startswith("the chat template cannot be reduced: ") and words in r.reason
    assert len(r.reason) < 300


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),  # G80
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),  # G82
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "time"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deep"),  # G83
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),  # G84
        ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, ""),
        ("{{ 'x' * 10**10 }}", "memory"),  # G85
        ("{{ 'x' | center(10**10) }}", "memory"),
        ("{{ ([1] * 10**8) | join('xxxxxxxx') }}", "memory"),
        ("{{ 2 ** (2 ** 40) }}", ""),
        ("{{ 'x' * 2**21 }}", "bytes"),
        ("{{ 'x' * 2**19 }}", "bytes"),
        ("{% for m in messages %}", "line 1"),  # G86
        ("{% include '/etc/passwd' %}", ""),
        ("{% import 'os' as os %}", ""),
        ("", "no chat template"),
    ],
)
def test_hostile_templates_end_in_a_reason(template: str, words: str) -> None:
    r = _reduce(template)
    assert not r and words in r.reason, r.reason


def test_a_template_over_the_limit() -> None:  # G87
    kv: dict[str, Any] = {"tokenizer.chat_template": "x" * (1 << 20) + "y"}
    with pytest.raises(InputError) as e:
        reduce_chat(kv)
    assert e.value.code == "G87" and "--max-template-bytes" in str(e.value)
    assert "renders a conversation to more" in reduce_chat(kv, limits=Limits(template_bytes=2 << 20)).reason
    assert reduce_chat({}).reason == "the model has no chat template"
    assert not reduce_chat({"tokenizer.chat_template": 7})


def test_no_template_text_in_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = subprocess.run

    def run(argv: list[str], **more: Any) -> Any:
        seen.append((argv, more))
        return real(argv, **more)

    monkeypatch.setattr(chat_render.subprocess, "run", run)
    assert _reduce(CHATML)
    ((argv, more),) = seen
    assert not any("im_start" in a for a in argv) and "shell" not in more
    assert json.loads(more["input"])["template"] == CHATML
    assert "im_start" not in str(more["env"])


def test_a_child_that_dies_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_render, "WALL_SECONDS", 0)
    assert "longer than" in _reduce(CHATML).reason
    monkeypatch.undo()
    monkeypatch.setattr(chat_render.sys, "executable", "/bin/false")
    assert "crashed" in _reduce(CHATML).reason


def test_the_same_bytes_each_time() -> None:
    assert _reduce(LLAMA3).encode() == _reduce(LLAMA3).encode() != _reduce(CHATML).encode()
