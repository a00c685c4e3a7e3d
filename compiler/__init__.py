"""infc compiles one model for one CPU: ``compile()`` a GGUF file to an executable and a library, ``load()`` the library.

Errors are subclasses of ``InfcError``: ``InputError`` (bad file, argument or text), ``LimitError``, ``HostError``, ``ToolchainError``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from infc.errors import HostError, InfcError, InputError, LimitError, ToolchainError

if TYPE_CHECKING:
    from infc.binding.artifact import Artifact
    from infc.binding.model import Model
    from infc.binding.text import Token
    from infc.progress import Reporter

__version__ = "0.1.0"
__all__ = [
    "Artifact", "HostError", "InfcError", "InputError", "LimitError", "Model", "Token", "ToolchainError", "__version__", "compile", "load",
]  # fmt: skip


def compile(path: str | os.PathLike[str], *, reporter: Reporter | None = None, **options: Any) -> Artifact:
    """Compile a GGUF file for a CPU and return the artifact.

    Keywords: target="native" | "scalar" | "avx2" | "avx512" | "amx" | "avx2,avx512", ctx= (positions), name=, out= (folder), pgo=True,
    lto=True, cc= (compiler), max_seqs=64, kv_tokens= (positions of all sequences together), limits=Limits(...); an unknown
    keyword is an InputError. Nothing is written when an error is raised.
    """
    from infc import pipeline

    return pipeline.compile(path, reporter=reporter, **options)


def load(path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None, ubatch: int = 0) -> Model:
    """Open an artifact folder in this process.

    ``threads`` 0: as many as affinity, quota and cores allow. ``isa``: one of those compiled in, else the best the host has.
    ``ubatch``: rows of one forward chunk, 0 for the compiled maximum. Neither changes a bit of any result.
    """
    from infc.binding.artifact import Artifact

    return Artifact.open(path).load(threads=threads, isa=isa, ubatch=ubatch)


def __getattr__(name: str) -> Any:
    """Types by their public name, imported when first asked for: ``import infc`` stays cheap."""
    if name == "Artifact":
        from infc.binding.artifact import Artifact

        return Artifact
    if name == "Model":
        from infc.binding.model import Model

        return Model
    if name == "Token":
        from infc.binding.text import Token

        return Token
    raise AttributeError(f"module 'infc' has no attribute {name!r}")
