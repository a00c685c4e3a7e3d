"""``infc inspect``: facts about what compiles, and about what does not; and that compile refuses the same by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infc.cli.inspect import inspect
from infc.cli.main import main
from infc.options import TARGETS
from tests.models.families import FAMILIES as DENSE
from tests.models.families import write_family
from tests.models.hf_folder import write_folder
from tests.models.raw_gguf import STRING, T_F64, Raw, array, string, valid
from tests.models.tiny_moe import EXPERT_TYPES, write_tiny_moe
from tests.unit.test_gguf_split import parts
from tests.unit.test_gguf_split import write as write_parts

Capture = pytest.CaptureFixture[str]
Tiny = Callable[..., Path]


def asked(path: Path, capsys: Capture, *options: str) -> dict[str, Any]:
    """The JSON; the command succeeds."""
    assert main(["inspect", str(path), *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_a_model_that_compiles(tiny_llama: Tiny, capsys: Capture) -> None:
    path = tiny_llama(types="Q4_1")
    facts = asked(path, capsys, "--ctx", "64", "--batch", "2")
    assert facts["supported"] and facts["unsupported"] == [] and facts["architecture"] == "llama"
    assert facts["tokenizer"]["pre"] == "smollm" and facts["hyperparameters"]["dim"] == 64
    assert {f["type"]: f["tensors"] for f in facts["formats"]} == {"Q4_1": 15, "F32": 5}
    assert sum(f["bytes"] for f in facts["formats"]) == sum(t["bytes"] for t in facts["tensors"])
    assert [t["target"] for t in facts["targets"]] == list(TARGETS)
    roles = {k["role"]: k["kernels"] for k in facts["targets"][0]["kernels"]}
    assert roles["attn_q"][0] == "linear_q4_1_q8_gemv"
    assert main(["plan", str(path), "--ctx", "64", "--batch", "2", "--target", ",".join(TARGETS)]) == 0
    planned = [line.split() for line in capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]]
    assert facts["memory"]["bytes"] == {name: int(value) for name, value in planned}


def test_what_quantize_would_make(tiny_llama: Tiny, capsys: Capture) -> None:
    facts = asked(tiny_llama(types="F16"), capsys, "--quantize", "q4_0", "--target", "scalar")
    assert [f["type"] for f in facts["formats"]] == ["Q4_0", "Q8_0", "F32"]  # the embedding is the head
    assert [t["target"] for t in facts["targets"]] == ["scalar"]
    facts = asked(tiny_llama(types="F16"), capsys, "--quantize", "Q4_K_M", "--target", "scalar")
    assert any("blocks of 256: token_embd.weight (Q8_0)" in note for note in facts["notes"])


def _type(raw: Raw) -> None:
    t = raw.tensor("token_embd.weight")
    t.type, t.data = T_F64, bytes(260 * 32 * 8)


SPOILT: list[tuple[str, str, Callable[[Raw], object]]] = [
    ("architecture 'gpt-17'", "supported:", lambda r: r.set("general.architecture", string("gpt-17"))),
    ("tokenizer 'rwkv'", "supported", lambda r: r.set("tokenizer.ggml.model", string("rwkv"))),
    ("pre-tokenizer 'nobody'", "supported:", lambda r: r.set("tokenizer.ggml.pre", string("nobody"))),
    ("F64", "supported", _type),
    ("type 'adapter'", "supported", lambda r: r.set("general.type", string("adapter"))),
]


@pytest.mark.parametrize(("named", "rest", "spoil"), SPOILT, ids=[s[0] for s in SPOILT])
def test_what_is_unsupported_is_shown_and_refused(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, named: str, rest: str, spoil: Callable[[Raw], object]
) -> None:
    """Inspect: status 0, the sentence, and all else. Compile: status 2 and one sentence that names it and what is supported."""
    monkeypatch.chdir(tmp_path)
    raw = valid()
    spoil(raw)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    facts = asked(path, capsys)
    assert not facts["supported"] and len(facts["unsupported"]) == 1
    assert named in facts["unsupported"][0] and rest in facts["unsupported"][0]
    assert len(facts["tensors"]) == 12 and facts["parameters"] > 0
    assert main(["compile", str(path), "--target", "scalar"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and named.split("'")[-2 if "'" in named else 0] in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("document", ["config.json", "tokenizer.json"])
def test_a_folder_that_has_no_equal(tmp_path: Path, capsys: Capture, tiny_llama: Tiny, document: str) -> None:
    def spoil(d: dict[str, dict[str, Any]]) -> None:
        d["config.json"]["architectures"] = ["Gpt17ForCausalLM" if document == "config.json" else "LlamaForCausalLM"]
        d["tokenizer.json"]["pre_tokenizer"] = {"type": "Whitespace"}

    facts = asked(write_folder(tiny_llama(types="BF16"), tmp_path / "m", change=spoil), capsys)
    assert not facts["supported"] and facts["architecture"].endswith("ForCausalLM")
    assert ("Gpt17" if document == "config.json" else "Whitespace") in facts["unsupported"][0]
    assert {f["type"] for f in facts["formats"]} == {"BF16", "F32"}


def test_what_is_malformed_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "m.gguf"
    for data in (
        valid().encode()[:-1],
        valid().drop("llama.block_count").encode(),
        valid().set("tokenizer.ggml.tokens", array(STRING, [])).encode(),
    ):
        path.write_bytes(data)
        assert main(["inspect", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1


def test_tables(tiny_llama: Tiny, capsys: Capture, tmp_path: Path) -> None:
    """For a terminal; a model's strings cannot drive it."""
    assert main(["inspect", str(tiny_llama(name="\x1b[31mred")), "--table", "--ctx", "64"]) == 0
    out = capsys.readouterr().out
    for text in ("supported", "memory for 1 x 64 positions", "target amx", "token_embd.weight", "Q4_0", "rows are looked up"):
        assert text in out
    assert "\x1b" not in out
    path = tmp_path / "m.gguf"
    path.write_bytes(valid().set("general.architecture", string("\x1b[31mgpt")).encode())
    assert main(["inspect", str(path), "--table"]) == 0
    out = capsys.readouterr().out
    assert "NOT supported" in out and "\x1b" not in out


@pytest.mark.parametrize("family", [*DENSE, *EXPERT_TYPES])
def test_settings_in_words(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Of every family, whatever its features; layers that are alike are one row."""
    monkeypatch.setenv("COLUMNS", "200")  # nothing is folded
    path = tmp_path / "m.gguf"
    if family in DENSE:
        write_family(path, family)
    else:
        write_tiny_moe(path, family=family)
    assert main(["inspect", str(path), "--table", "--target", "scalar,avx2"]) == 0
    out = capsys.readouterr().out
    lines = {parts[1].strip(): parts[2].strip() for parts in (line.split("\u2502") for line in out.splitlines()) if len(parts) > 3}
    layers = int(lines["n_layers"])
    assert lines["blk.*.attn_output.weight"] == str(layers) and "blk.0.attn_output.weight" not in out
    assert "targets scalar, avx2" in out and "{" not in out
    assert lines["layers"] == {
        "llama": "3 with a window of 48", "gemma2": "2 with a window of 48, 1 see everything",
        "gemma3": "6 with a window of 48 (rotation 1), 1 see everything (rotation 0)",
        "smollm3": "3 see everything (rotation 0), 1 see everything (no rotation)",
        "phi3": "3 with a window of 48", "starcoder2": "3 with a window of 48",
        "gpt-oss": "1 with a window of 40, 1 see everything",
    }.get(family, f"{layers} see everything")  # fmt: skip
    assert lines.get("experts", "").startswith("2 of 6, width 96") == (family in EXPERT_TYPES)
    assert ("YaRN 4 times" in out) == (family == "gpt-oss")
    assert ("rotation" in lines) == (family not in ("gpt2", "gemma3"))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"m.gguf": b"GGUF"}, "but m.gguf: give that file"),
        ({"adapter_config.json": b"{}"}, "an adapter is no model"),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "but pytorch_model.bin: only safetensors are read"),
        ({"config.json": b"{}", "consolidated.safetensors": b"x"}, "but consolidated.safetensors, which no index names"),
        ({"config.json": b"{}", "model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"}, "git lfs pull"),
    ],
)
def test_folders_that_are_no_model_say_what_to_do(tmp_path: Path, capsys: Capture, files: dict[str, bytes], says: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for command in (["inspect"], ["compile", "--target", "scalar"]):
        assert main([*command, str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and says in err


def test_any_part_of_a_split_model(tmp_path: Path, capsys: Capture) -> None:
    """The whole is shown; a part that is missing is named."""
    paths = write_parts(tmp_path, parts())
    facts = [asked(path, capsys, "--target", "scalar") for path in paths]
    assert all(f["supported"] and len(f["tensors"]) == 12 for f in facts)
    assert facts[0]["memory"] == facts[2]["memory"] and [f["file"] for f in facts] == [p.name for p in paths]
    paths[1].unlink()
    assert main(["inspect", str(paths[2])]) == 2
    assert "m-00002-of-00003.gguf" in capsys.readouterr().err


def test_a_pointer_in_place_of_the_file(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert main(["inspect", str(path)]) == 2
    assert "git lfs pull" in capsys.readouterr().err


def test_the_function_is_the_command(tiny_llama: Tiny) -> None:
    assert inspect(tiny_llama(types="Q4_1"), 1, {"ctx": 32})["memory"]["context"] == 32
