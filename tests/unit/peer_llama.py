"""llama.cpp's tokenizer through the library inside ``xllamacpp`` (extra ``peer``), vocabulary only. Skips where it is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cffi
import pytest

# As in the llama.h that xllamacpp 2026.10 was built from; a struct of another layout would not load a file without weights.
_CDEF = """
struct params {
    void *devices, *overrides; int32_t n_gpu_layers; int split_mode, load_mode, lazy_mode; int32_t main_gpu; const float *tensor_split;
    void *progress, *progress_data, *kv_overrides; bool vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc, load_mtp;
};
struct params llama_model_default_params(void);
void *llama_model_load_from_file(const char *path, struct params params);
const void *llama_model_get_vocab(const void *model);
int32_t llama_tokenize(const void *vocab, const char *text, int32_t size, int32_t *ids, int32_t cap, bool special, bool parse_special);
int32_t llama_detokenize(const void *vocab, const int32_t *ids, int32_t n, char *text, int32_t cap, bool remove, bool unparse);
void llama_log_set(void (*log)(int level, const char *text, void *data), void *data);
"""


class PeerTokenizer:
    """The tokenizer of a GGUF file as llama.cpp has it."""

    def __init__(self, path: Path) -> None:
        spec = importlib.util.find_spec("xllamacpp")
        if spec is None or spec.submodule_search_locations is None:
            pytest.skip("xllamacpp is not installed (extra peer)")
        (library,) = Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so")
        self.ffi = cffi.FFI()
        self.ffi.cdef(_CDEF)
        self.lib: Any = self.ffi.dlopen(str(library))
        self._quiet = self.ffi.callback("void(int, const char *, void *)", lambda level, text, data: None)
        self.lib.llama_log_set(self._quiet, self.ffi.NULL)
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        self._model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        if self._model == self.ffi.NULL:
            pytest.skip("this xllamacpp does not load the vocabulary")
        self._vocab = self.lib.llama_model_get_vocab(self._model)
        self._ids = self.ffi.new("int32_t[]", 1 << 16)

    def encode(self, text: bytes, bos: bool = False, special: bool = False) -> list[int]:
        n = self.lib.llama_tokenize(self._vocab, text, len(text), self._ids, 1 << 16, bos, special)
        assert n >= 0
        return list(self._ids[0:n])

    def decode(self, ids: list[int], special: bool = True) -> bytes:
        out = self.ffi.new("char[]", 1 << 16)
        n = self.lib.llama_detokenize(self._vocab, ids, len(ids), out, 1 << 16, False, special)
        assert n >= 0
        return bytes(self.ffi.buffer(out, n))
