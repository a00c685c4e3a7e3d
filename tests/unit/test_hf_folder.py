"""Folders of safetensors: read as the GGUF file they stand for, and refused in one sentence where they are malformed (S01 to S13)."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf as peer
import numpy as np
import pytest

from infc.errors import InputError
from infc.frontend.hf.families import FAMILIES
from infc.frontend.hf.model import _target
from infc.frontend.inputs import files_of, open_model
from infc.frontend.validate import validate
from infc.limits import Limits
from infc.tokenizer import compile_tokenizer
from tests.models.hf_folder import PRE, write_folder

Tiny = Callable[..., Path]
Documents = dict[str, dict[str, Any]]
IGNORED = {"general.file_type", "general.name", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"}


def assert_same(folder: Path, file: Path) -> None:
    """Same keys but for names and defaults that are spelled out, same tensors to the byte."""
    with open_model(file) as a, open_model(folder) as b:
        config_a, config_b = validate(a)[0], validate(b)[0]
        assert {k for k in {*a.kv, *b.kv} if k not in IGNORED and (k not in a.kv or k not in b.kv)} == set()
        for key in a.kv.keys() - IGNORED:
            assert a.kv_types[key] == b.kv_types[key], key
            assert np.array_equal(a.kv[key], b.kv[key]), key  # type: ignore[arg-type]
        assert replace(config_a, name="") == replace(config_b, name="")
        assert a.tensors.keys() == b.tensors.keys()
        for name, t in a.tensors.items():
            other = b.tensors[name]
            assert (t.type, t.ne, t.nbytes) == (other.type, other.ne, other.nbytes), name
            assert a.data(name).tobytes() == b.data(name).tobytes(), name


@pytest.mark.parametrize("pre", PRE)
@pytest.mark.parametrize("shards", [1, 3])
def test_the_folder_is_its_twin(tmp_path: Path, tiny_llama: Tiny, pre: str, shards: int) -> None:
    file = tiny_llama(types=["F16", "BF16", "F32"][shards % 3], tied=shards == 1, pre=pre, add_bos=pre == "llama-bpe")
    assert_same(write_folder(file, tmp_path / "m", shards=shards), file)
    assert len(files_of(tmp_path / "m")) == (4 if shards == 1 else 7)


def test_heads_of_their_own_width_and_linear_scaling(tmp_path: Path, tiny_llama: Tiny) -> None:
    file = tiny_llama(types="F16", head_dim=32, n_kv_heads=1, rope_scaling=4.0)
    assert_same(write_folder(file, tmp_path / "m"), file)


def test_llama3_factors(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Fast pairs are left, slow ones stretched, those between go over smoothly."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    folder = write_folder(tiny_llama(types="F16"), tmp_path / "m", settings={"rope_scaling": scaling})
    with open_model(folder) as model:
        validate(model)
        found = model.data("rope_freqs.weight").view("<f4")
    wavelength = 2 * np.pi * 10000.0 ** (np.arange(8) / 8)
    blend = np.clip((256 / wavelength - 1) / 3, 0, 1)
    assert found.tobytes() == (1 / ((1 - blend) / 8 + blend)).astype("<f4").tobytes()
    assert found[0] == 1 and found[-1] == 8 and any(1 < x < 8 for x in found)


def test_the_template_file_is_the_one_that_counts(tmp_path: Path, tiny_llama: Tiny) -> None:
    """As in transformers, where a folder has both; of a list the one named default."""
    file = tiny_llama(types="F16")

    def both(d: Documents) -> None:
        text = d["tokenizer_config.json"]["chat_template"]
        d["tokenizer_config.json"]["chat_template"] = "{{ messages }}"
        (tmp_path / "m" / "chat_template.jinja").write_text(text)

    assert_same(write_folder(file, tmp_path / "m", change=both), file)

    def named(d: Documents) -> None:
        text = d["tokenizer_config.json"]["chat_template"]
        d["tokenizer_config.json"]["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": text}]

    assert_same(write_folder(file, tmp_path / "n", change=named), file)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [2, 0]}, None, {"eos": 2}),  # <|endoftext|> is one by its name
        ({"eos_token_id": [270, 2, 280]}, None, {"eos": 2, "eot": 270, "eom": 280}),
        ({"eos_token_id": 270}, None, {"eos": 2, "eot": 270}),
        ({}, [270, 2], {"eos": 2, "eot": 270}),
        (None, 2, {"eos": 2}),
        ({"eos_token_id": [10**9, "x"]}, None, {"eos": 2}),
    ],
)
def test_every_token_that_ends_a_text(tmp_path: Path, tiny_llama: Tiny, generation: Any, config: Any, expected: dict[str, int]) -> None:
    """generation_config.json may name several, config.json too."""

    def add(d: Documents) -> None:
        d["config.json"]["eos_token_id"] = config
        if generation is not None:
            d["generation_config.json"] = generation

    with open_model(write_folder(tiny_llama(types="F16"), tmp_path / "m", change=add)) as model:
        validate(model)
        found = {name: model.kv.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
        assert {k: v for k, v in found.items() if v is not None} == expected
        section = compile_tokenizer(model.kv, len(model.kv["tokenizer.ggml.tokens"]))  # type: ignore[arg-type]
        assert section


def test_four_ends_without_a_name_are_too_many(tmp_path: Path, tiny_llama: Tiny) -> None:
    def add(d: Documents) -> None:
        d["generation_config.json"] = {"eos_token_id": [2, 270, 271, 272]}

    with pytest.raises(InputError, match="4 tokens that end a text"):
        open_model(write_folder(tiny_llama(types="F16"), tmp_path / "m", change=add))


def test_special_tokens_of_the_map_and_tokens_past_the_embedding(tmp_path: Path, tiny_llama: Tiny) -> None:
    """special_tokens_map.json where tokenizer_config.json is silent; a padding token that fine-tuning added and the embedding lacks."""
    file = tiny_llama(types="F16")

    def move(d: Documents) -> None:
        names = ("bos_token", "eos_token", "unk_token")
        d["special_tokens_map.json"] = {n: {"content": d["tokenizer_config.json"].pop(n)} for n in names}
        d["tokenizer.json"]["added_tokens"].append({"id": 320, "content": "<pad>", "special": True})

    folder = write_folder(file, tmp_path / "m", change=move)
    assert_same(folder, file)
    with open_model(folder) as model:
        assert model.notes == ["added token '<pad>' is left out: its id 320 is past the embedding's 320 rows"]


@pytest.mark.parametrize("template", ["chat_template.jinja", "chat_template.json"])
def test_the_chat_template_may_be_a_file(tmp_path: Path, tiny_llama: Tiny, template: str) -> None:
    file = tiny_llama(types="F16")

    def move(d: Documents) -> None:
        text = d["tokenizer_config.json"].pop("chat_template")
        if template.endswith("jinja"):
            (tmp_path / "m" / template).write_text(text)
        else:
            d[template] = {"chat_template": text}

    assert_same(write_folder(file, tmp_path / "m", change=move), file)


def _peers_names(arch: peer.MODEL_ARCH) -> set[str]:
    return {peer.TENSOR_NAMES[t].format(bid=1) for t in peer.MODEL_TENSORS[arch]}


@pytest.mark.parametrize("name", FAMILIES)
def test_names_are_those_of_the_peer(name: str) -> None:
    """Every module of our tables maps to where the gguf package's own map puts it."""
    family = FAMILIES[name]
    arch = next(a for a, text in peer.MODEL_ARCH_NAMES.items() if text == family.arch)
    theirs = peer.get_tensor_name_map(arch, 2)
    prefix = "transformer." if family.arch == "gpt2" else ""
    modules = [prefix + m if m != "lm_head" else m for m in family.ends] + [f"{prefix}{family.prefix}1.{m}" for m in family.layer]
    for module in modules:
        ours, expert = _target(family, module + ".weight")
        assert expert is None
        if module == "lm_head" and family.tied:
            continue  # the peer has none where the embedding is the head
        if module.endswith("mlp.gate") and family.arch == "llama":
            continue  # Mixtral as transformers 5 calls it in memory: the peer knows only what it writes
        assert ours == theirs.get_name(module + ".weight", (".weight",)), module
    for module, here in family.experts.items():
        ours, expert = _target(family, f"{family.prefix}1.{module.format(7)}.weight")
        assert (ours, expert) == (f"blk.1.{here}.weight", 7)
        merged = module.replace(".{}", "").replace("block_sparse_moe", "feed_forward")  # as the converter stacks them
        prefix = "layers.1." if "feed_forward" in merged else f"{family.prefix}1."
        assert ours == theirs.get_name(f"{prefix}{merged}.weight", (".weight",)), module
    for module, here in family.renamed.items():
        assert f"blk.1.{here}" == theirs.get_name(f"{family.prefix}1.{module}.weight", (".weight",)), module
    for stacked in family.stacked.values():
        assert {t.rpartition(".")[0] for t in stacked.targets} <= {n.removeprefix("blk.1.") for n in _peers_names(arch)}


# ---- what is malformed --------------------------------------------------------------------------------------------------------


def header(change: Callable[[dict[str, Any]], object], raw: Callable[[bytes], bytes] | None = None) -> Callable[[Path], None]:
    """Spoil the header of model.safetensors as an object, then as bytes; its length follows."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (n,) = struct.unpack_from("<Q", data)
        found = json.loads(data[8 : 8 + n])
        change(found)
        text = json.dumps(found).encode()
        text = raw(text) if raw else text
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :])

    return spoil


def entry(**fields: object) -> Callable[[Path], None]:
    return header(lambda h: h["model.norm.weight"].update(fields))


def whole(change: Callable[[bytes], bytes], name: str = "model.safetensors") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def document(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / name).read_text("utf-8"))
        change(found)
        (folder / name).write_text(json.dumps(found), "utf-8")

    return spoil


def _swap(h: dict[str, Any]) -> None:
    """Two tensors over the same bytes leave a hole."""
    a, b = h["model.layers.0.self_attn.k_proj.weight"], h["model.layers.0.self_attn.v_proj.weight"]
    b["data_offsets"] = a["data_offsets"]


def _index(folder: Path, weight_map: dict[str, str] | None) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    data = (folder / "a.safetensors").read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    names = [k for k in json.loads(data[8 : 8 + n]) if k != "__metadata__"]
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(names, "a.safetensors") | (weight_map or {})})
    )


def _twice(folder: Path) -> None:
    """A second shard holds what the first one has."""
    _index(folder, {})
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"]["model.norm.weight"] = "b.safetensors"
    index.write_text(json.dumps(found))


def _listed_twice(folder: Path) -> None:
    _index(folder, None)
    again = b'"weight_map": {"model.norm.weight": "a.safetensors", '
    whole(lambda b: b.replace(b'"weight_map": {', again), "model.safetensors.index.json")(folder)


T, C, S = "tokenizer.json", "config.json", "tokenizer_config.json"
SPOILT: list[tuple[str, str, Callable[[Path], object]]] = [
    ("G01", "empty", whole(lambda b: b"")),
    ("S01", "length past the end", whole(lambda b: struct.pack("<Q", len(b)) + b[8:])),
    ("S01", "length 2^64-1", whole(lambda b: b"\xff" * 8 + b[8:])),
    ("S01", "length 0", whole(lambda b: bytes(8) + b[8:])),
    ("S02", "not an object", header(lambda h: None, lambda t: b"[" + t[1:])),
    ("S02", "cut JSON", header(lambda h: None, lambda t: t[:-1] + b" ")),
    ("S02", "not UTF-8", header(lambda h: None, lambda t: t.replace(b"model.norm", b"model.\xffrm", 1))),
    ("S02", "nested", header(lambda h: None, lambda t: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    ("S02", "an endless number", header(lambda h: None, lambda t: b'{"a":' + b"9" * 10_000 + b"}")),
    ("S02", "metadata of numbers", header(lambda h: h.update(__metadata__={"a": 1}))),
    ("S03", "duplicate", header(lambda h: None, lambda t: b'{"__metadata__": {}, ' + t[1:])),
    ("S04", "name with a slash", header(lambda h: h.update({"../x": h.pop("model.norm.weight")}))),
    ("S04", "extra field", entry(strides=[1])),
    ("S04", "entry is a list", header(lambda h: h.update({"model.norm.weight": []}))),
    ("S05", "dtype", entry(dtype="F13")),
    ("S05", "8-bit floats", entry(dtype="F8_E4M3", shape=[256])),
    ("S05", "whole numbers", entry(dtype="I32")),
    ("S05", "64-bit floats", entry(dtype="F64", shape=[32])),
    ("S06", "dtype of another size", entry(dtype="F16")),
    ("S06", "dimension 0", entry(shape=[0])),
    ("S06", "dimension negative", entry(shape=[-64])),
    ("S06", "dimension a boolean", entry(shape=[True])),
    ("S06", "product too large", entry(shape=[2**31 - 1] * 4)),
    ("S06", "five dimensions", entry(shape=[64, 1, 1, 1, 1])),
    ("S07", "one offset", entry(data_offsets=[0])),
    ("S07", "offsets swapped", entry(data_offsets=[256, 0])),
    ("S07", "past the end", entry(data_offsets=[2**62, 2**62 + 256])),
    ("S07", "overlap", header(_swap)),
    ("S07", "trailing byte", whole(lambda b: b + b"x")),
    ("S07", "cut by one", whole(lambda b: b[:-1])),
    ("S08", "index without map", lambda f: (_index(f, None), (f / "model.safetensors.index.json").write_text("{}"))),
    ("S08", "index names a tensor that is not there", lambda f: _index(f, {"x.weight": "a.safetensors"})),
    ("S08", "a tensor in two shards", _twice),
    ("S03", "index lists a tensor twice", _listed_twice),
    ("S09", "index leaves the folder", lambda f: _index(f, {"x.weight": "../a.safetensors"})),
    ("S09", "index names an absolute path", lambda f: _index(f, {"x.weight": "/etc/passwd"})),
    ("S09", "a shard is missing", lambda f: _index(f, {"x.weight": "b.safetensors"})),
    ("S09", "no weights", lambda f: (f / "model.safetensors").unlink()),
    ("S09", "no config", lambda f: (f / C).unlink()),
    ("S11", "config is a list", whole(lambda b: b"[]", C)),
    ("S11", "no width", document(C, lambda d: d.pop("hidden_size"))),
    ("S11", "layers are a string", document(C, lambda d: d.update(num_hidden_layers="2"))),
    ("S11", "theta is endless", whole(lambda b: b.replace(b"10000.0", b"1e999"), C)),
    ("S11", "a scaling that is unknown", document(C, lambda d: d.update(rope_scaling={"rope_type": "ntk", "factor": 4.0}))),
    ("S11", "another activation", document(C, lambda d: d.update(hidden_act="relu"))),
    ("S11", "no heads", document(C, lambda d: d.update(num_attention_heads=0))),
    ("S12", "a tensor of another family", header(lambda h: h.update({"model.x.weight": h.pop("model.norm.weight")}))),
    ("S12", "untied without a head", document(C, lambda d: d.update(tie_word_embeddings=False))),
    ("G25", "unknown architecture", document(C, lambda d: d.update(architectures=["Gpt17ForCausalLM"]))),
    ("G25", "no architecture", document(C, lambda d: d.pop("architectures"))),
    ("G30", "layers unlike the tensors", document(C, lambda d: d.update(num_hidden_layers=3))),
    ("G59", "width unlike the tensors", document(C, lambda d: d.update(intermediate_size=128))),
    ("S13", "no tokenizer", lambda f: (f / T).unlink()),
    ("S13", "tokenizer is no JSON", whole(lambda b: b[:-1], T)),
    ("S13", "an id past the end", document(T, lambda d: d["model"]["vocab"].update(zzz=10**9))),
    ("S13", "two tokens of one id", document(T, lambda d: d["model"]["vocab"].update(zzz=9))),
    ("S13", "a normalizer", document(T, lambda d: d.update(normalizer={"type": "Lowercase"}))),
    ("S13", "dropout", document(T, lambda d: d["model"].update(dropout=0.1))),
    ("G74", "a merge of three", document(T, lambda d: d["model"]["merges"].append(["a", "b", "c"]))),
    ("G76", "WordLevel", document(T, lambda d: d["model"].update(type="WordLevel"))),
    ("S13", "WordPiece that is not BERT's", document(T, lambda d: d["model"].update(type="WordPiece"))),
    ("G76", "another expression", document(T, lambda d: d.update(pre_tokenizer={"type": "Whitespace"}))),
    ("S13", "template is a number", document(S, lambda d: d.update(chat_template=5))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "spoil"), [pytest.param(c, f, id=f"{c}-{what}") for c, what, f in SPOILT])
def test_refused(tmp_path: Path, tiny_llama: Tiny, code: str, spoil: Callable[[Path], object]) -> None:
    folder = write_folder(tiny_llama(types="F16", n_layers=1), tmp_path / "m")
    spoil(folder)
    with pytest.raises(InputError) as caught, open_model(folder) as model:
        validate(model)
    line = "infc: " + str(caught.value)
    assert caught.value.code == code, line
    assert line.isprintable() and len(line.encode()) <= 300


def test_limits_name_their_flag(tmp_path: Path, tiny_llama: Tiny) -> None:
    folder = write_folder(tiny_llama(types="F16"), tmp_path / "m")
    for limits, flag in (
        (Limits(tensors=3), "--max-tensors"), (Limits(string_bytes=100), "--max-string-bytes"), (Limits(vocab=9), "--max-vocab"),
        (Limits(metadata_bytes=400), "--max-metadata-bytes"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=flag):
            open_model(folder, limits)


def test_whatever_the_bytes_hold(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Random edits of every document and header: accepted or refused with an InputError, nothing else."""
    folder = write_folder(tiny_llama(types="F16", n_layers=1, n_merges=8), tmp_path / "m")
    rng = random.Random(5)
    for path in files_of(folder):
        data = path.read_bytes()
        end = 8 + struct.unpack_from("<Q", data)[0] + 64 if path.suffix == ".safetensors" else len(data)
        for _ in range(60):
            spoilt = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(end)
                piece = rng.choice([b"", b"-1", b"null", b"1e999", b'"', b"{}", b"\xff", b"99999999999999999999", bytes(8)])
                spoilt[at : at + rng.randint(0, 8)] = piece
            path.write_bytes(spoilt)
            try:
                with open_model(folder) as model:
                    validate(model)
            except InputError as e:
                assert str(e).isprintable() and len(str(e)) < 294
        path.write_bytes(data)


def test_a_file_of_a_folder_is_sent_to_the_folder(tmp_path: Path, tiny_llama: Tiny) -> None:
    folder = write_folder(tiny_llama(types="F16"), tmp_path / "m")
    with pytest.raises(InputError, match="give the folder"):
        open_model(folder / "model.safetensors")
    with pytest.raises(InputError, match="has a config.json"):
        open_model(tmp_path)
