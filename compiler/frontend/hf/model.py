"""A folder of safetensors as the GGUF model it would be converted to. Tensors are made when they are asked for, one at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.errors import InputError
from infc.frontend.floats import to_f32
from infc.frontend.hf import vocab
from infc.frontend.hf.config import Config
from infc.frontend.hf.families import Family, family_of
from infc.frontend.hf.folder import CONFIG, Folder
from infc.frontend.hf.header import Entry
from infc.frontend.model_file import Bytes, ModelFile, TensorInfo
from infc.limits import Limits

_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
# Matrices that GGUF keeps in full: positions are added, a router's choice must not change.
_FULL = ("position_embd.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One GGUF tensor from those of the folder: ``names``, stacked if there are several (experts); ``heads`` > 0: rows reordered."""

    names: tuple[str, ...]
    heads: int = 0
    plus_one: bool = False
    transposed: bool = False


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
        prefixes = {"": ""}
        if values.get("architectures") == ["Gemma3ForConditionalGeneration"]:  # the text half of a model that also sees
            text = values.get("text_config")
            values = {**(text if isinstance(text, dict) else {}), "architectures": ["Gemma3ForCausalLM"]}
            prefixes = {"language_model.": "", "model.language_model.": "model.", "vision_tower.": "-", "multi_modal_projector.": "-",
                        "model.vision_tower.": "-", "model.multi_modal_projector.": "-"}  # fmt: skip
        family = family_of(values)
        config = Config(values, family.arch)
        config.put("general.architecture", "str", family.arch)
        config.put("general.name", "str", self.path.name or self.path.absolute().name)
        self._made = {name: np.array(v, "<f4") for name, v in family.settings(config).items()}
        vocab.fill(config, self.folder, limits)
        self.notes += vocab.notes(self.folder)
        self.kv, self.kv_types = config.kv, config.kv_types
        self._recipes = _recipes(family, config, self.folder, prefixes)
        for name, made in self._made.items():
            self.tensors[name] = TensorInfo(name, "F32", (len(made),), 0, made.nbytes)
        for name, recipe in self._recipes.items():
            self.tensors[name] = _info(name, recipe, [self.folder.entries[n][1] for n in recipe.names])

    def data(self, name: str) -> Bytes:
        self.check_unchanged()
        if name in self._made:
            return self._made[name].view(np.uint8)
        t, recipe = self.tensors[name], self._recipes[name]
        if len(recipe.names) == 1:
            return self._one(recipe.names[0], recipe, t.type)
        out = np.empty(t.nbytes, np.uint8)
        parts = out.reshape(len(recipe.names), -1)
        for i, source in enumerate(recipe.names):
            parts[i] = self._one(source, recipe, t.type)
        return out

    def _one(self, source: str, recipe: Recipe, type: str) -> Bytes:
        """The bytes of one tensor of the folder after what the recipe does to it; a view where that is nothing."""
        entry = self.folder.entries[source][1]
        data = self.folder.data(source)
        words: NDArray[Any] = data.view(f"<u{_FLOATS[entry.dtype]}").reshape(entry.shape)
        if recipe.heads:  # the halves of a head, one behind the other, become neighbours
            halves = words.reshape(recipe.heads, 2, entry.shape[0] // recipe.heads // 2, *entry.shape[1:])
            words = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(entry.shape)
        if recipe.transposed:
            words = np.ascontiguousarray(words.T)
        if type == entry.dtype and not recipe.plus_one:
            return words.reshape(-1).view(np.uint8)
        values = to_f32(words.reshape(-1).view(np.uint8), entry.dtype)
        return (values + np.float32(1) if recipe.plus_one else values).view(np.uint8)

    def check_unchanged(self) -> None:
        self.folder.check_unchanged()

    def close(self) -> None:
        self.folder.close()


def _info(name: str, recipe: Recipe, entries: list[Entry]) -> TensorInfo:
    """Type and shape of the GGUF tensor. Raises InputError S05 or S06."""
    first = entries[0]
    where = f"tensor {recipe.names[0]}"
    if first.dtype not in _FLOATS:
        raise InputError("S05", f"dtype {first.dtype} is not supported (F32, F16 and BF16 are)", where)
    if any((e.dtype, e.shape) != (first.dtype, first.shape) for e in entries):
        raise InputError("S06", "the experts' matrices differ in shape or dtype", where)
    shape = first.shape
    if not shape or (recipe.transposed and len(shape) != 2) or (recipe.heads and shape[0] % (2 * recipe.heads)):
        raise InputError("S06", f"shape {shape} of {name}", where)
    if recipe.transposed:
        shape = shape[::-1]
    ne = (*reversed(shape), *((len(entries),) if len(entries) > 1 else ()))
    full = len(shape) == 1 or name.endswith((*_FULL, ".bias"))
    type = "F32" if full else first.dtype
    return TensorInfo(name, type, ne, 0, len(entries) * first.nbytes // _FLOATS[first.dtype] * _FLOATS[type])


def _recipes(family: Family, c: Config, folder: Folder, prefixes: dict[str, str]) -> dict[str, Recipe]:
    """GGUF name -> how to make it, in the order of the layers. Raises InputError S12 for a tensor the family does not have."""
    n_heads, n_kv_heads, _ = c.heads
    found: dict[str, Recipe] = {}
    experts: dict[str, dict[int, str]] = {}
    tied = c.flag("tie_word_embeddings", family.tied)
    for source in folder.entries:
        name = _plain(source, prefixes)
        if name is None or family.skipped.fullmatch(name):
            continue
        if name == "lm_head.weight" and tied:
            continue  # transformers overwrites it with the embedding
        target, expert = _target(family, name)
        if target is None:
            raise InputError("S12", f"a tensor that {family.arch} does not have", f"tensor {source[:100]}")
        if expert is not None:
            experts.setdefault(target, {})[expert] = source
            continue
        module = target.split(".")[-2]
        heads = {"attn_q": n_heads, "attn_k": n_kv_heads}.get(module, 0) if family.permuted else 0
        plus_one = family.norms_plus_one and target.endswith("norm.weight")
        if target in found:
            raise InputError("S12", f"two tensors for {target}", f"tensor {source[:100]}")
        found[target] = Recipe((source,), heads, plus_one, module in family.transposed and target.endswith(".weight"))
    for target, numbered in experts.items():
        n = c.number("num_local_experts", "num_experts")
        if sorted(numbered) != list(range(n)):
            raise InputError("S12", f"{len(numbered)} experts of {n} in {target}", f"tensor {numbered[min(numbered)][:100]}")
        found[target] = Recipe(tuple(numbered[i] for i in range(n)))
    if not tied and "output.weight" not in found:
        raise InputError("S12", "the head is missing, and config.json does not tie it to the embedding", "tensor lm_head.weight")
    return found


def _plain(source: str, prefixes: dict[str, str]) -> str | None:
    """The name without what wraps a text model; None for what belongs to the rest."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if source.startswith(prefix):
            return None if prefixes[prefix] == "-" else prefixes[prefix] + source.removeprefix(prefix)
    return source


_EXPERT = re.compile(r"(.*\.)(\d{1,5})(\..*)")


def _target(family: Family, name: str) -> tuple[str | None, int | None]:
    """(GGUF name or None, number of the expert or None)."""
    if family.arch == "gpt2":
        name = name.removeprefix("transformer.")
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None, None
    if module in family.ends:
        return f"{family.ends[module]}.{kind}", None
    index, _, module = module.removeprefix(family.prefix).partition(".")
    if not name.startswith(family.prefix) or not (index.isascii() and index.isdigit()) or (index[0] == "0" and len(index) > 1):
        return None, None
    blk = f"blk.{int(index)}." if len(index) < 6 else ""
    if module in family.layer and blk:
        return f"{blk}{family.layer[module]}.{kind}", None
    numbered = _EXPERT.fullmatch(module)
    pattern = f"{numbered[1]}{{}}{numbered[3]}" if numbered else ""
    if numbered and blk and pattern in family.experts:
        return f"{blk}{family.experts[pattern]}.{kind}", int(numbered[2])
    return None, None


def read(path: Path, limits: Limits) -> ModelFile:
    """Open and check a folder: every header, the index, config.json and tokenizer.json. The caller closes it. Raises InputError."""
    return HfModel(path, limits)
