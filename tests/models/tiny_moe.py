"""Small random mixtures of experts with everything their family has.

Each token's embedding says in its first values which experts it prefers, later layers leave those values almost alone, and the routers read
them: so which experts a row takes does not hang on the last place of a sum, and models of different rounding can be compared.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

from tests.models.tiny import CHATML, vocabulary

# Each family's in the tests.
EXPERT_TYPES = {
    "mixtral": "Q4_0", "qwen2moe": "Q8_0", "qwen3moe": "F16", "qwen3vlmoe": "Q4_1", "olmoe": "Q5_0", "gpt-oss": "MXFP4",
}  # fmt: skip
_ARCHITECTURES = {"mixtral": "llama"}


def write_tiny_moe(
    path: str | Path,
    *,
    family: str,
    types: str = "F16",
    expert_types: str = "Q8_0",
    dim: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 32,
    hidden_dim: int = 96,
    shared_dim: int = 128,
    count: int = 6,
    used: int = 2,
    n_ctx: int = 512,
    n_merges: int = 60,
    window: int = 40,
    seed: int = 0,
) -> Path:
    """Write a valid GGUF, its head a matrix of its own, and return its path. ``types``, ``expert_types``: formats of matrices;
    the routers are F32."""
    rng = np.random.default_rng(seed)
    arch = _ARCHITECTURES.get(family, family)
    if family in ("qwen2moe", "olmoe"):
        head_dim = dim // n_heads  # llama.cpp knows no other in these families
    if family == "olmoe":
        n_kv_heads = n_heads  # likewise
    tokens, merges, token_types = vocabulary(n_merges)
    w = gguf.GGUFWriter(path, arch)
    w.add_name(f"tiny {family}")
    w.add_block_count(n_layers)
    w.add_context_length(n_ctx)
    w.add_embedding_length(dim)
    w.add_head_count(n_heads)
    w.add_head_count_kv(n_kv_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_expert_count(count)
    w.add_expert_used_count(used)
    if family in ("mixtral", "olmoe"):
        w.add_feed_forward_length(hidden_dim)
    else:
        w.add_feed_forward_length(shared_dim)
        w.add_expert_feed_forward_length(hidden_dim)
    if family == "qwen2moe":
        w.add_expert_shared_feed_forward_length(shared_dim)
    if family == "qwen3vlmoe":
        w.add_rope_dimension_sections([6, 5, 5, 0])
    if family == "gpt-oss":
        w.add_sliding_window(window)
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(4.0)
        w.add_rope_scaling_orig_ctx_len(128)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types(token_types)
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(CHATML)

    def normal(*shape: int, std: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    def matrix(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        qtype = gguf.GGMLQuantizationType[expert_types if name.endswith("_exps") else types]
        w.add_tensor(name + ".weight", quantize(values, qtype), raw_dtype=qtype)

    def stream(*shape: int, std: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Rows that are added to the residual stream: little to the values that choose experts."""
        values = normal(*shape, std=std / shape[-1] ** 0.5)
        values[..., :count, :] *= np.float32(0.002)
        return values

    def norm(name: str, n: int = dim) -> None:
        values = 1 + normal(n, std=0.1)
        if n == dim:
            values[:count] = 1
        w.add_tensor(name + ".weight", values)

    bias = family in ("qwen2moe", "gpt-oss")
    q, kv = n_heads * head_dim, n_kv_heads * head_dim
    embedding = normal(len(tokens), dim)
    levels = np.linspace(-2, 2, count, dtype=np.float32)
    embedding[:, :count] = np.stack([rng.permutation(levels) for _ in tokens])
    matrix("token_embd", embedding)
    for i in range(n_layers):
        blk = f"blk.{i}."
        norm(blk + "attn_norm")
        for name, n, std in (("attn_q", q, 1.5), ("attn_k", kv, 1.5), ("attn_v", kv, 1.0)):
            matrix(blk + name, normal(n, dim, std=std / dim**0.5))
            if bias:
                w.add_tensor(f"{blk}{name}.bias", normal(n, std=0.3))
        matrix(blk + "attn_output", stream(dim, q, std=1.0))
        if family == "gpt-oss":
            out = normal(dim, std=0.2)
            out[:count] = 0
            w.add_tensor(blk + "attn_output.bias", out)
            w.add_tensor(blk + "attn_sinks.weight", 1 + normal(n_heads))
        if family == "olmoe":
            norm(blk + "attn_q_norm", q)
            norm(blk + "attn_k_norm", kv)
        if family in ("qwen3moe", "qwen3vlmoe"):
            norm(blk + "attn_q_norm", head_dim)
            norm(blk + "attn_k_norm", head_dim)
        norm(blk + ("post_attention_norm" if family == "gpt-oss" else "ffn_norm"))
        router = normal(count, dim, std=0.02)
        router[np.arange(count), rng.permutation(count)] = 1.5
        w.add_tensor(blk + "ffn_gate_inp.weight", router)
        matrix(blk + "ffn_gate_exps", normal(count, hidden_dim, dim, std=1.5 / dim**0.5))
        matrix(blk + "ffn_up_exps", normal(count, hidden_dim, dim, std=1.5 / dim**0.5))
        matrix(blk + "ffn_down_exps", stream(count, dim, hidden_dim, std=0.8))
        if family == "gpt-oss":
            w.add_tensor(blk + "ffn_gate_inp.bias", normal(count, std=0.1))
            w.add_tensor(blk + "ffn_gate_exps.bias", normal(count, hidden_dim, std=2.0))  # far enough for the clamps to matter
            w.add_tensor(blk + "ffn_up_exps.bias", normal(count, hidden_dim, std=3.0))
            down = normal(count, dim, std=0.3)
            down[:, :count] = 0
            w.add_tensor(blk + "ffn_down_exps.bias", down)
        if family == "qwen2moe":
            w.add_tensor(blk + "ffn_gate_inp_shexp.weight", normal(dim, std=1 / dim**0.5))
            matrix(blk + "ffn_gate_shexp", normal(shared_dim, dim, std=1 / dim**0.5))
            matrix(blk + "ffn_up_shexp", normal(shared_dim, dim, std=1 / dim**0.5))
            matrix(blk + "ffn_down_shexp", stream(dim, shared_dim, std=1.5))
    norm("output_norm")
    matrix("output", normal(len(tokens), dim, std=3 / dim**0.5))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return Path(path)
