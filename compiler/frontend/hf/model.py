"""A folder of safetensors as the GGUF model it would be converted to. Tensors are made when they are asked for, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf import recipe, vocab
from infc.frontend.hf.config import Config
from infc.frontend.hf.families import family_of
from infc.frontend.hf.family import Family
from infc.frontend.hf.folder import CONFIG, Folder
from infc.frontend.hf.recipe import Recipe, Rows
from infc.frontend.model_file import Bytes, ModelFile, TensorInfo
from infc.limits import Limits

# What wraps the text half of a model that also sees: prefix -> what it becomes, None being left out.
_WRAPPED: dict[str, str | None] = {
    "language_model.": "", "model.language_model.": "model.", "vision_tower.": None, "multi_modal_projector.": None,
    "model.vision_tower.": None, "model.multi_modal_projector.": None,
}  # fmt: skip


class HfModel(ModelFile):
    """An open folder; see ``read``."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        self.folder = Folder(path, limits)
        try:
            self._fill(limits)
        except BaseException:
            self.close()
            raise

    def _fill(self, limits: Limits) -> None:
        values = self.folder.json(CONFIG, "S11")
        prefixes: dict[str, str | None] = {}
        if values.get("architectures") == ["Gemma3ForConditionalGeneration"]:
            text = values.get("text_config")
            whole = {k: v for k in ("quantization_config", "eos_token_id") if (v := values.get(k)) is not None}
            values = {**(text if isinstance(text, dict) else {}), **whole, "architectures": ["Gemma3ForCausalLM"]}
            prefixes = _WRAPPED
        family = family_of(values)
        _check_quantization(values, family)
        config = Config(values, family.arch)
        config.put("general.architecture", "str", family.arch)
        config.put("general.name", "str", self.path.name or self.path.absolute().name)
        self._made = {name: np.array(v, "<f4") for name, v in family.settings(config).items()}
        vocab.fill(config, self.folder, limits)
        self.notes += config.notes + vocab.notes(self.folder)
        self.kv, self.kv_types = config.kv, config.kv_types
        self._recipes = _recipes(family, config, self.folder, prefixes)
        for name, made in self._made.items():
            self.tensors[name] = TensorInfo(name, "F32", (len(made),), 0, made.nbytes)
        for name, r in self._recipes.items():
            self.tensors[name] = recipe.info(name, r, self.folder)

    def data(self, name: str) -> Bytes:
        pieces = list(self.pieces(name))
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def pieces(self, name: str) -> Iterator[Bytes]:
        self.check_unchanged()
        if name in self._made:
            yield self._made[name].view(np.uint8)
        else:
            yield from recipe.pieces(self._recipes[name], self.folder, self.tensors[name].type)

    def check_unchanged(self) -> None:
        self.folder.check_unchanged()

    def close(self) -> None:
        self.folder.close()


def _check_quantization(values: dict[str, Any], family: Family) -> None:
    """Weights that are quantized in the folder are another thing than their names say: only gpt-oss's are known."""
    found = values.get("quantization_config")
    if found is None:
        return
    method = found.get("quant_method") if isinstance(found, dict) else found
    if method != "mxfp4" or not any(s.scales for s in family.stacked.values()):
        what = f"quantized weights ({str(method)[:40]}) are not supported in {family.arch}"
        raise InputError("S05", f"{what}: F32, F16 and BF16 are, and gpt-oss's MXFP4", f"{CONFIG}: quantization_config")


def _recipes(family: Family, c: Config, folder: Folder, prefixes: dict[str, str | None]) -> dict[str, Recipe]:
    """GGUF name -> how to make it, in the order of the layers. Raises InputError S12 for a tensor the family does not have."""
    found: dict[str, Recipe] = {}
    experts: dict[str, dict[int, str]] = {}
    tied = c.flag("tie_word_embeddings", family.tied)
    scales = {s.scales for s in family.stacked.values()} - {""}

    def put(target: str, r: Recipe) -> None:
        if target in found:
            raise InputError("S12", f"two tensors for {target}", f"tensor {r.names[0][:100]}")
        found[target] = r

    for source in folder.entries:
        name = _plain(source, prefixes)
        if name is None or family.skipped.fullmatch(name):
            continue
        if name == "lm_head.weight" and tied:
            continue  # transformers overwrites it with the embedding
        blk, short = _layer(family, name)
        if short in scales:
            continue
        if short in family.stacked:
            for target, r in _shares(family, folder, source, short):
                put(blk + target, r)
            continue
        made, expert = _target(family, name)
        if made is None:
            raise InputError("S12", f"a tensor that {family.arch} does not have", f"tensor {source[:100]}")
        if expert is not None:
            experts.setdefault(made, {})[expert] = source
        else:
            put(made, _recipe(family, c, source, made))
    for target, numbered in experts.items():
        n = c.number("num_local_experts", "num_experts")
        if sorted(numbered) != list(range(n)):
            raise InputError("S12", f"{len(numbered)} experts of {n} in {target}", f"tensor {numbered[min(numbered)][:100]}")
        put(target, Recipe(tuple(numbered[i] for i in range(n)), apart=True))
    if not tied and "output.weight" not in found:
        raise InputError("S12", "the head is missing, and config.json does not tie it to the embedding", "tensor lm_head.weight")
    return found


def _recipe(family: Family, c: Config, source: str, target: str) -> Recipe:
    """Of a tensor that becomes one of GGUF's."""
    n_heads, n_kv_heads, _ = c.heads
    module = target.split(".")[-2]
    heads = {"attn_q": n_heads, "attn_k": n_kv_heads}.get(module, 0) if family.permuted else 0
    plus_one = family.norms_plus_one and target.endswith("norm.weight")
    return Recipe((source,), heads, plus_one, module in family.transposed and target.endswith(".weight"))


def _shares(family: Family, folder: Folder, source: str, short: str) -> Iterator[tuple[str, Recipe]]:
    """(name in the layer, recipe) of what a tensor of all experts holds."""
    s = family.stacked[short]
    scales = source.removesuffix(short) + s.scales if s.scales else ""
    if scales and scales not in folder.entries:
        raise InputError("S12", "blocks without their scales", f"tensor {scales[:100]}")
    for i, target in enumerate(s.targets):
        yield target, Recipe((source,), transposed=s.transposed, stacked=True, rows=Rows(i, len(s.targets), s.woven), scales=scales)


def _plain(source: str, prefixes: dict[str, str | None]) -> str | None:
    """The name without what wraps a text model; None for what belongs to the rest."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if source.startswith(prefix):
            inner = prefixes[prefix]
            return None if inner is None else inner + source.removeprefix(prefix)
    return source


_EXPERT = re.compile(r"(.*\.)(\d{1,5})(\..*)")


def _layer(family: Family, name: str) -> tuple[str, str]:
    """("blk.N.", name in the layer), or two empty strings for what is in none."""
    index, _, short = name.removeprefix(family.prefix).partition(".")
    odd = not (index.isascii() and index.isdigit()) or len(index) > 5 or (index[0] == "0" and len(index) > 1)
    return ("", "") if odd or not name.startswith(family.prefix) else (f"blk.{int(index)}.", short)


def _target(family: Family, name: str) -> tuple[str | None, int | None]:
    """(GGUF name or None, number of the expert or None)."""
    if family.arch == "gpt2":
        name = name.removeprefix("transformer.")
    blk, short = _layer(family, name)
    if short in family.renamed:
        return blk + family.renamed[short], None
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None, None
    if module in family.ends:
        return f"{family.ends[module]}.{kind}", None
    blk, module = _layer(family, module)
    if not blk:
        return None, None
    if module in family.layer:
        return f"{blk}{family.layer[module]}.{kind}", None
    numbered = _EXPERT.fullmatch(module)
    pattern = f"{numbered[1]}{{}}{numbered[3]}" if numbered else ""
    if numbered and pattern in family.experts:
        return f"{blk}{family.experts[pattern]}.{kind}", int(numbered[2])
    return None, None


def read(path: Path, limits: Limits) -> ModelFile:
    """Open and check a folder: every header, the index, config.json and tokenizer.json. The caller closes it. Raises InputError."""
    return HfModel(path, limits)
