"""The files of a folder: which there are, their JSON, and all tensors of all shards under one directory.

Only files that lie in the folder itself are read, under the names below or those that the index gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infc.errors import InputError
from infc.frontend.hf.header import LEAST, Entry, parse_json, read_header
from infc.frontend.mapped import MappedFile
from infc.frontend.model_file import Bytes
from infc.limits import Limits

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
# What is read when it is there; with the shards, what a digest of the model is taken over.
DOCUMENTS = (
    CONFIG, "generation_config.json", INDEX, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\.safetensors")
_MOST_SHARDS = 4096


def files_of(folder: Path) -> list[Path]:
    """Documents and every .safetensors file of the folder, by name."""
    return sorted(p for p in folder.iterdir() if p.name in DOCUMENTS or p.name.endswith(".safetensors"))


class Folder:
    """An open folder. ``entries``: every tensor and the shard it lies in. The caller closes it."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self._files: dict[str, MappedFile] = {}
        self._documents: list[MappedFile] = []
        self.entries: dict[str, tuple[str, Entry]] = {}
        try:
            if not (path / CONFIG).exists():
                raise InputError("S09", f"a folder of a model has a {CONFIG}, this one has none{_instead(path)}", str(path))
            self._open_shards()
        except BaseException:
            self.close()
            raise

    def has(self, name: str) -> bool:
        """Whether the folder has a document of that name."""
        return (self.path / name).exists()

    def text(self, name: str, code: str) -> str:
        """A document as text."""
        try:
            return self.document(name, code).decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(code, "not UTF-8", name) from None

    def json(self, name: str, code: str) -> dict[str, Any]:
        """A JSON object; empty if there is no such document. Raises InputError ``code`` for anything else."""
        return parse_json(self.document(name, code), code, name) if self.has(name) else {}

    def document(self, name: str, code: str) -> bytes:
        """A document's bytes."""
        file = MappedFile(self.path / name, 1, "document")
        self._documents.append(file)
        if file.size > self.limits.metadata_bytes // 4:  # what Python makes of it is some four times as large
            raise InputError(code, f"{file.size} bytes, a quarter of --max-metadata-bytes is allowed", name)
        return file.map[:]

    def data(self, name: str) -> Bytes:
        """A tensor's bytes, a view of the shard's mapping."""
        file, e = self.entries[name]
        return self._files[file].view(e.offset, e.nbytes)

    def check_unchanged(self) -> None:
        """Raise InputError G61 if a file changed since it was opened."""
        for file in (*self._files.values(), *self._documents):
            file.check_unchanged()

    def close(self) -> None:
        """Release the files."""
        for file in (*self._files.values(), *self._documents):
            file.close()

    def _open_shards(self) -> None:
        # As transformers looks: one file first, then an index of several.
        if (self.path / SINGLE).exists():
            self.entries = {name: (SINGLE, e) for name, e in self._open(SINGLE).items()}
            return
        if not self.has(INDEX):
            raise InputError("S09", f"the folder has neither {SINGLE} nor {INDEX}{_instead(self.path)}", str(self.path))
        named = self._index()
        for shard in sorted(set(named.values())):
            found = self._open(shard)
            for name, entry in found.items():
                if name not in named:
                    raise InputError("S08", f"tensor {name[:80]} of {shard} is not in the index", INDEX)
                if named[name] != shard:
                    raise InputError("S08", f"tensor {name[:80]} is in {shard}, the index says {named[name]}", INDEX)
                self.entries[name] = (shard, entry)
        missing = next((n for n in named if n not in self.entries), None)
        if missing is not None:
            raise InputError("S08", f"tensor {missing[:80]} is not in {named[missing]}", INDEX)
        if len(self.entries) > self.limits.tensors:
            raise InputError("S04", f"{len(self.entries)} tensors, {self.limits.over('tensors')}", INDEX)

    def _index(self) -> dict[str, str]:
        """tensor -> shard, names of files in this folder."""
        named = self.json(INDEX, "S08").get("weight_map")
        if not isinstance(named, dict) or not named:
            raise InputError("S08", "weight_map is missing or empty", INDEX)
        for shard in named.values():
            if not isinstance(shard, str) or _SHARD.fullmatch(shard) is None:
                raise InputError("S09", f"{str(shard)[:80]!r} is not the name of a .safetensors file in the folder", INDEX)
        shards = set(named.values())
        if len(shards) > _MOST_SHARDS:
            raise InputError("S08", f"{len(shards)} files, at most {_MOST_SHARDS} are allowed", INDEX)
        for shard in sorted(shards):
            if not (self.path / shard).exists():
                raise InputError("S09", f"{shard} is missing", str(self.path))
        return named

    def _open(self, name: str) -> dict[str, Entry]:
        file = MappedFile(self.path / name, LEAST, "safetensors")
        self._files[name] = file
        entries = read_header(file, self.limits)
        _second_opinion(file.path, entries)
        return entries


def _instead(folder: Path) -> str:
    """What is there in place of what was looked for."""
    for pattern, what in (
        ("*.gguf", ", but {}: give that file"),
        ("adapter_config.json", ", but {}: an adapter is no model, merge it into its base first"),
        ("*.bin", ", but {}: only safetensors are read, save the model so"),
        ("*.pth", ", but {}: only safetensors are read, save the model so"),
        ("*.safetensors", ", but {}, which no index names"),
    ):
        found = sorted(folder.glob(pattern))
        if found:
            return what.format("".join(c if c.isprintable() else "?" for c in found[0].name[:60]))
    return ""


def _second_opinion(path: Path, entries: dict[str, Entry]) -> None:
    """The safetensors library must accept the file too, and see the same tensors (S10).

    Bytes are then read from our mapping: for numpy the library copies tensors, and has no bfloat16.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as opened:
            seen = {name: _seen(opened, name) for name in opened.keys()}  # noqa: SIM118, it is no dict
    except (SafetensorError, OSError) as e:
        raise InputError("S10", f"the safetensors library refuses the file: {str(e)[:100]}", path.name) from None
    if seen != {name: (e.dtype, e.shape) for name, e in entries.items()}:
        raise InputError("S10", "the safetensors library reads other tensors from the file", path.name)


def _seen(opened: Any, name: str) -> tuple[str, tuple[int, ...]]:
    part = opened.get_slice(name)
    return part.get_dtype(), tuple(part.get_shape())


def texts(found: dict[str, Any], *path: str) -> Iterator[str]:
    """The strings at the end of a path of keys: one, or those of a list."""
    value: Any = found
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str))
