"""The C interface of infc.h as Python sees it: declarations, one error check, one handle that many threads may share."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from typing import Any

from cffi import FFI

from infc.errors import HostError, InfcError, InputError, LimitError

# infc.h's error codes and the exception each one becomes.
EINPUT, ELIMIT, EHOST, ENOMEM, EFILE, EINTERNAL = -1, -2, -3, -4, -5, -6
_ERRORS: dict[int, tuple[str, type[InfcError]]] = {
    EINPUT: ("C01", InputError),
    ELIMIT: ("C02", LimitError),
    EHOST: ("C03", HostError),
    ENOMEM: ("C04", HostError),
    EFILE: ("C05", HostError),
    EINTERNAL: ("C06", InfcError),
}


def declarations(header: str) -> str:
    """The declarations of a C header without comments and preprocessor lines, as cffi's ``cdef`` takes them."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.S)
    text = re.sub(r'#ifdef __cplusplus\s*extern "C" \{\s*#endif', "", text)
    text = re.sub(r"#ifdef __cplusplus\s*\}\s*#endif", "", text)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\bINFC_API\b", "", "\n".join(lines))


@lru_cache(maxsize=1)
def interface() -> FFI:
    """The parsed interface, once per process."""
    ffi = FFI()
    ffi.cdef(declarations(resources.files("infc.runtime_c").joinpath("infc.h").read_text("utf-8")))
    return ffi


def abi_version() -> int:
    """INFC_ABI_VERSION of the packaged header."""
    header = resources.files("infc.runtime_c").joinpath("infc.h").read_text("utf-8")
    found = re.search(r"#define INFC_ABI_VERSION (\d+)", header)
    assert found is not None
    return int(found.group(1))


class Handle:
    """An open ``infc_model``. Calls run without the GIL; ``close`` waits for nobody: the last call that ends frees the model."""

    def __init__(
        self,
        library: str | os.PathLike[str],
        threads: int,
        isa: str | None,
        ubatch: int = 0,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        """``weights``: the file that carries them, if it is not ``library``."""
        self.ffi = interface()
        path = os.path.abspath(library)
        try:
            self.lib: Any = self.ffi.dlopen(path)
        except OSError as e:
            raise InputError("art", f"cannot load the library: {e}", path) from None
        found, expected = self.lib.infc_abi_version(), abi_version()
        if found != expected:
            raise InputError("art", f"the library has interface version {found}, this infc reads {expected}: compile it again", path)
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self.end_tokens: list[int] | None = None  # tokens that end a text, once somebody asked
        options = self.ffi.new("infc_options *")
        options.size = self.ffi.sizeof("infc_options")
        options.threads = threads
        options.ubatch = ubatch
        isa_text = self.ffi.new("char[]", isa.encode()) if isa is not None else self.ffi.NULL
        options.isa = isa_text
        weights_path = self.ffi.new("char[]", os.fsencode(os.path.abspath(weights))) if weights is not None else self.ffi.NULL
        options.weights_path = weights_path
        out = self.ffi.new("infc_model **")
        self.check(self.lib.infc_open(options, out))
        self._model = out[0]

    def check(self, code: int) -> int:
        """``code`` if it is no error; raises the exception of a negative one with the library's sentence."""
        if code >= 0:
            return code
        text = self.ffi.string(self.lib.infc_last_error()).decode("utf-8", "replace")
        name, kind = _ERRORS.get(code, _ERRORS[EINTERNAL])
        raise kind(name, text or f"the library returned {code}")

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The model pointer, valid inside the block. Raises InputError after ``close``."""
        with self._lock:
            if self._closed:
                raise InputError("C01", "the model is closed")
            self._users += 1
        try:
            yield self._model
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self.lib.infc_close(self._model)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Refuse new calls; free the model now, or when the calls in progress end. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._users += 1
        self._leave()
