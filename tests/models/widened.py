"""A llama model whose widths are multiples of 256, equal to the given one: rows of 576 have no blocks of 256, so no K-quants.

    python -m tests.models.widened MODEL.gguf OUT.gguf [--multiple 256]

The residual stream and the heads get zero weights up to the next multiple; a norm over n of w values sees its mean square shrink by n / w,
so its weights are scaled by the root of that, and its eps by that. Attention heads are added with their group, and their outputs meet
zeros. Weights are dequantized to F32. In exact arithmetic the logits are those of the model: tests/reference/test_widened.py.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_COPIED = ("tokenizer.", "general.name", "general.license")


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _padded(w: F32, rows: int, columns: int) -> F32:
    out = np.zeros((rows, columns), np.float32)
    out[: w.shape[0], : w.shape[1]] = w
    return out


def widen(source: str | Path, out: str | Path, multiple: int = 256) -> None:
    """Writes the file; ValueError where the model is no plain llama. multiple = 1 only dequantizes."""
    reader = gguf.GGUFReader(source)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    if keys["general.architecture"] != "llama":
        raise ValueError(f"architecture {keys['general.architecture']}: only llama can be widened")
    if any("rope.scaling" in name for name in keys) or any(t.name == "rope_freqs.weight" for t in reader.tensors):
        raise ValueError("scaled rotations are not carried over: only a plain llama can be widened")
    k = {name.removeprefix("llama."): v for name, v in keys.items() if name.startswith("llama.")}
    dim, heads, kv_heads, hidden = (
        k[n] for n in ("embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length")
    )
    head = k.get("attention.key_length", dim // heads)
    wide, wide_hidden = _up(dim, multiple), _up(hidden, multiple)
    kv_wide = kv_heads
    while kv_wide * (heads // kv_heads) * head % multiple:
        kv_wide += 1
    wide_heads = kv_wide * (heads // kv_heads)
    share = dim / wide
    writer = gguf.GGUFWriter(out, "llama")
    for name, field in reader.fields.items():
        if name.startswith(_COPIED) and not name.endswith("chat_template"):
            kind, sub = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), kind, sub)
    writer.add_block_count(k["block_count"])
    writer.add_context_length(k["context_length"])
    writer.add_embedding_length(wide)
    writer.add_feed_forward_length(wide_hidden)
    writer.add_head_count(wide_heads)
    writer.add_head_count_kv(kv_wide)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(k["rope.freq_base"])
    writer.add_rope_dimension_count(k["rope.dimension_count"])
    writer.add_layer_norm_rms_eps(k["attention.layer_norm_rms_epsilon"] * share)
    writer.add_vocab_size(k["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    q_rows, kv_rows = wide_heads * head, kv_wide * head
    rows = {"attn_q": q_rows, "attn_k": kv_rows, "attn_v": kv_rows, "attn_output": wide, "ffn_gate": wide_hidden, "ffn_up": wide_hidden}
    rows |= {"ffn_down": wide}
    columns = {"attn_output": q_rows, "ffn_down": wide_hidden}
    for tensor in reader.tensors:
        w: Any = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        kind = tensor.name.split(".")[-2]
        if w.ndim == 1:
            w = _padded(w[None] * np.float32(math.sqrt(share)), 1, wide)[0]
        else:
            w = _padded(w, rows.get(kind, len(w)), columns.get(kind, wide))
        writer.add_tensor(tensor.name, w)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--multiple", type=int, default=256)
    asked = parser.parse_args()
    if asked.multiple < 1:
        parser.error("--multiple begins at 1")
    try:
        widen(asked.model, asked.out, asked.multiple)
    except (OSError, ValueError) as e:
        parser.error(str(e))


if __name__ == "__main__":
    main()
