"""Caps on what a model file may ask for. Each one has a command-line flag that raises it.

A cap is checked before memory is reserved for the thing it counts, so a small file cannot ask for a large allocation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _cap(default: int, flag: str, what: str) -> int:
    """A dataclass field that carries its flag and its help text; the type is what a reader of Limits sees."""
    value: int = field(default=default, metadata={"flag": flag, "what": what})
    return value


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of SECURITY.md. Counts are plain numbers; sizes are bytes."""

    kv: int = _cap(4096, "--max-kv", "metadata keys")
    tensors: int = _cap(65536, "--max-tensors", "tensors")
    layers: int = _cap(512, "--max-layers", "layers")
    experts: int = _cap(1024, "--max-experts", "experts")
    vocab: int = _cap(1 << 20, "--max-vocab", "tokens in the vocabulary")
    key_bytes: int = _cap(1 << 10, "--max-key-bytes", "bytes in a metadata key")
    token_bytes: int = _cap(64 << 10, "--max-token-bytes", "bytes in a token")
    string_bytes: int = _cap(16 << 20, "--max-string-bytes", "bytes in a metadata string")
    template_bytes: int = _cap(1 << 20, "--max-template-bytes", "bytes in the chat template")
    metadata_bytes: int = _cap(256 << 20, "--max-metadata-bytes", "bytes of metadata")
    # Bounds the time of the string loop: 8 bytes of file can ask for one more Python object.
    strings: int = _cap(4 << 20, "--max-strings", "strings in all metadata arrays")
    alignment: int = _cap(65536, "--max-alignment", "bytes of tensor alignment")

    def flag(self, name: str) -> str:
        """The command-line flag that raises the limit ``name``."""
        return next(str(f.metadata["flag"]) for f in fields(self) if f.name == name)

    def over(self, name: str) -> str:
        """The end of an error message: which limit was passed and how to raise it."""
        return f"over the limit of {getattr(self, name)} (raise it with {self.flag(name)})"


DEFAULT = Limits()
