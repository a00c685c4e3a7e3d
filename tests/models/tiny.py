"""Small random llama models with a real byte-level vocabulary, for tests that need a whole file and not its meaning.

Weights are scaled so that every activation stays near unit size and logits spread enough for argmax to be stable.
Same arguments, same bytes.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

FORMATS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
_FILE_TYPES = dict(F32=0, F16=1, Q4_0=2, Q4_1=3, Q8_0=7, Q5_0=8, Q5_1=9, BF16=32)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # control tokens, ids 0, 1, 2
USER_DEFINED = "<tool_call>"  # found in text like a special one, but printed: id 3

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = """the cat sat on the mat and the dog ran to the house where the old man was waiting for his tea in the morning
once upon a time there was a little girl who lived in a village near the forest and every day she went to the well
for water and sang the songs that her mother had taught her when she was small and there she met the other children
It's what they're after: we'll see, I'd say, you've 12 of 345 things, 1999 - 2024, and 3.14 is (almost) enough...
naïve café über straße Ωmega привет мир 世界 こんにちは ÿ ½ 🙂 def main(x):\n    return x + 1\n\n\tif not x: pass
"""


def text_of_the_vocabulary() -> str:
    """What the tiny vocabulary is made of."""
    return _TEXT


def byte_alphabet() -> list[str]:
    """GPT-2's character for each of the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain} | {b: chr(0x100 + i) for i, b in enumerate(rest)}
    return [table[b] for b in range(256)]


@cache
def vocabulary(n_merges: int) -> tuple[list[str], list[str], list[int]]:
    """(tokens, merges, token types): specials, one user-defined token, 256 bytes, then one token a merge of plain BPE."""
    alphabet = byte_alphabet()
    words = Counter(tuple(alphabet[b] for b in w.encode()) for w in _TEXT.replace(" ", "\0 ").split("\0"))
    tokens = [*SPECIALS, USER_DEFINED, *alphabet]
    types = [3] * len(SPECIALS) + [4] + [1] * 256
    merges: list[str] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for w, n in words.items():
            for pair in zip(w, w[1:], strict=False):
                pairs[pair] += n
        if not pairs:
            raise ValueError(f"the text gives only {len(merges)} merges")
        (a, b), _ = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
        merges.append(f"{a} {b}")
        if a + b not in tokens:
            tokens.append(a + b)
            types.append(1)
        joined: Counter[tuple[str, ...]] = Counter()
        for w, n in words.items():
            out: list[str] = []
            for c in w:
                if out and out[-1] == a and c == b:
                    out[-1] = a + b
                else:
                    out.append(c)
            joined[tuple(out)] += n
        words = joined
    return tokens, merges, types


def write_tiny_llama(
    path: str | Path,
    *,
    dim: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int | None = None,
    hidden_dim: int = 96,
    n_merges: int = 60,
    n_ctx: int = 512,
    types: str | dict[str, str] = "mixed",
    tied: bool = True,
    rope_freqs: bool = False,
    rope_freq_base: float = 10000.0,
    rope_scaling: float | None = None,
    chat_template: str | None = CHATML,
    pre: str = "smollm",
    add_bos: bool = False,
    name: str = "tiny llama",
    seed: int = 0,
) -> Path:
    """Write a valid GGUF and return its path.

    ``types``: one format for all matrices, "mixed" (drawn per tensor from the eight that fit the row length), or a
    mapping from a role (token_embd, attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down, output) to a format,
    roles left out being F32. ``rope_scaling``: a linear factor. The vocabulary has 260 + n_merges tokens (at most).
    """
    rng = np.random.default_rng(seed)
    head = head_dim or dim // n_heads
    tokens, merges, token_types = vocabulary(n_merges)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(name)
    w.add_block_count(n_layers)
    w.add_context_length(n_ctx)
    w.add_embedding_length(dim)
    w.add_feed_forward_length(hidden_dim)
    w.add_head_count(n_heads)
    w.add_head_count_kv(n_kv_heads)
    if head * n_heads != dim:
        w.add_key_length(head)
        w.add_value_length(head)
    w.add_rope_dimension_count(head)
    w.add_rope_freq_base(rope_freq_base)
    w.add_layer_norm_rms_eps(1e-5)
    if rope_scaling is not None:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope_scaling)
    if isinstance(types, str) and types in _FILE_TYPES:
        w.add_file_type(_FILE_TYPES[types])
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(token_types)
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(add_bos)
    w.add_add_space_prefix(False)
    if chat_template is not None:
        w.add_chat_template(chat_template)

    def matrix(tensor: str, n: int, k: int, std: float) -> None:
        role = tensor.removesuffix(".weight").split(".")[-1]
        if isinstance(types, dict):
            kind = types.get(role, "F32")
        elif types == "mixed":
            kind = str(rng.choice(FORMATS if k % 32 == 0 else FORMATS[:3]))
        else:
            kind = types
        values = rng.standard_normal((n, k), dtype=np.float32) * np.float32(std)
        qtype = gguf.GGMLQuantizationType[kind]
        w.add_tensor(tensor, quantize(values, qtype), raw_dtype=qtype)

    def norm(tensor: str) -> None:
        w.add_tensor(tensor, 1 + 0.1 * rng.standard_normal(dim, dtype=np.float32))

    q, kv = n_heads * head, n_kv_heads * head
    matrix("token_embd.weight", len(tokens), dim, 3 / dim**0.5 if tied else 1.0)
    if rope_freqs:
        w.add_tensor("rope_freqs.weight", np.linspace(1, 8, head // 2, dtype=np.float32))
    for i in range(n_layers):
        blk = f"blk.{i}."
        norm(blk + "attn_norm.weight")
        matrix(blk + "attn_q.weight", q, dim, 1.5 / dim**0.5)
        matrix(blk + "attn_k.weight", kv, dim, 1.5 / dim**0.5)
        matrix(blk + "attn_v.weight", kv, dim, 1 / dim**0.5)
        matrix(blk + "attn_output.weight", dim, q, 1 / q**0.5)
        norm(blk + "ffn_norm.weight")
        matrix(blk + "ffn_gate.weight", hidden_dim, dim, 1 / dim**0.5)
        matrix(blk + "ffn_up.weight", hidden_dim, dim, 1 / dim**0.5)
        matrix(blk + "ffn_down.weight", dim, hidden_dim, 1.5 / hidden_dim**0.5)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", len(tokens), dim, 3 / dim**0.5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return Path(path)


def retokenized(file: Path, out: Path, keys: dict[str, Any]) -> Path:
    """The model of ``file`` with another tokenizer: ``keys`` for those of ``tokenizer.*``, its tokens filled up to the model's rows."""
    reader = gguf.GGUFReader(file)
    w = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "tokenizer.")):
            w.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    n = next(int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight")
    unused = n - len(keys["tokenizer.ggml.tokens"])
    assert unused >= 0, "the vocabulary is larger than the model's"
    w.add_token_list([*keys["tokenizer.ggml.tokens"], *(f"[PAD{i}]" for i in range(n - unused, n))])
    w.add_token_types([*keys["tokenizer.ggml.token_type"], *[5] * unused])
    if "tokenizer.ggml.scores" in keys:
        w.add_token_scores([*keys["tokenizer.ggml.scores"], *[0.0] * unused])
    for key, value in keys.items():
        if key.rpartition(".")[2] not in ("tokens", "token_type", "scores"):
            kind = {bool: w.add_bool, int: w.add_uint32, str: w.add_string, np.ndarray: w.add_array}[type(value)]
            kind(key, value.tobytes() if isinstance(value, np.ndarray) else value)
    for t in reader.tensors:
        w.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return out
