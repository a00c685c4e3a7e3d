"""The llama architecture: LLaMA 1/2/3, Mistral, SmolLM2. Reads like the paper: norm, attention, norm, SwiGLU."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.gguf import ModelFile
from infc.ir import ops as o
from infc.ir.graph import Graph, Value


class _Builder:
    """Collects values and operations; every value is named ``what`` or ``what.layer``."""

    def __init__(self, model: ModelFile, config: ModelConfig) -> None:
        self.model = model
        self.config = config
        self.values: list[Value] = []
        self.ops: list[o.Op] = []

    def value(self, name: str, width: int, dtype: str = "f32") -> str:
        self.values.append(Value(name, width, dtype))
        return name

    def weight(self, tensor: str) -> o.Weight:
        """A matrix ``(n, k)`` or a vector, which counts as one row of k."""
        info = self.model.tensors[tensor]
        return o.Weight(tensor, info.type, info.ne[1] if len(info.ne) > 1 else 1, info.ne[0])

    def norm(self, x: str, tensor: str, out: str, layer: int) -> str:
        w = self.weight(tensor)
        y = self.value(out, w.k)
        self.ops.append(o.RmsNorm((x,), (y,), o.Origin(layer, tensor), w, self.config.rms_eps))
        return y

    def linear(self, x: str, tensor: str, out: str, layer: int) -> str:
        w = self.weight(tensor)
        y = self.value(out, w.n)
        self.ops.append(o.Linear((x,), (y,), o.Origin(layer, tensor), w))
        return y

    def binary(self, cls: type[o.Op], a: str, b: str, out: str, width: int, origin: o.Origin) -> str:
        y = self.value(out, width)
        self.ops.append(cls((a, b), (y,), origin))
        return y


def build(model: ModelFile, config: ModelConfig) -> Graph:
    """The step graph of a llama model: tokens, positions -> logits, hidden.

    ``config`` must come from ``infc.frontend.validate.validate``, which has checked every tensor this function names.
    """
    c = config
    b = _Builder(model, c)
    b.value("token", 1, "i32")
    b.value("pos", 1, "i32")
    x = b.value("x", c.dim)
    embedding = b.weight("token_embd.weight")
    b.ops.append(o.Embed(("token",), (x,), o.Origin(-1, embedding.tensor), embedding))
    rope = b.value("rope", 2 * c.head_dim)
    factors = "rope_freqs.weight" if "rope_freqs.weight" in model.tensors else None
    b.ops.append(o.RopeRows(("pos",), (rope,), o.Origin(-1, "rope_freqs.weight"), factors))
    for i in range(c.n_layers):
        x = _layer(b, x, rope, i)
    rows = b.value("out_rows", c.dim)
    b.ops.append(o.SelectRows((x,), (rows,), o.Origin(-1, "output_norm.weight")))
    hidden = b.norm(rows, "output_norm.weight", "hidden", -1)
    head = "token_embd.weight" if c.tied_embeddings else "output.weight"
    logits = b.linear(hidden, head, "logits", -1)
    return Graph(c, tuple(b.values), tuple(b.ops), ("token", "pos"), (logits, hidden))


def _layer(b: _Builder, x: str, rope: str, i: int) -> str:
    c = b.config
    blk = f"blk.{i}."

    n = b.norm(x, blk + "attn_norm.weight", f"attn_norm.{i}", i)
    q = b.linear(n, blk + "attn_q.weight", f"q.{i}", i)
    k = b.linear(n, blk + "attn_k.weight", f"k.{i}", i)
    v = b.linear(n, blk + "attn_v.weight", f"v.{i}", i)
    rotated = []
    for name, heads, tensor in ((q, c.n_heads, "attn_q.weight"), (k, c.n_kv_heads, "attn_k.weight")):
        y = b.value(f"{name.split('.')[0]}_rope.{i}", heads * c.head_dim)
        b.ops.append(o.Rope((name, rope), (y,), o.Origin(i, blk + tensor), heads))
        rotated.append(y)
    kv = b.value(f"kv.{i}", c.n_kv_heads * c.head_dim, "kv")
    b.ops.append(o.KvWrite((rotated[1], v), (kv,), o.Origin(i, blk + "attn_v.weight"), i))
    a = b.value(f"attn.{i}", c.n_heads * c.head_dim)
    b.ops.append(o.Attention((rotated[0], kv), (a,), o.Origin(i, blk + "attn_output.weight"), i))
    y = b.linear(a, blk + "attn_output.weight", f"attn_out.{i}", i)
    x = b.binary(o.Add, x, y, f"x_attn.{i}", c.dim, o.Origin(i, blk + "attn_output.weight"))

    n = b.norm(x, blk + "ffn_norm.weight", f"ffn_norm.{i}", i)
    gate = b.linear(n, blk + "ffn_gate.weight", f"gate.{i}", i)
    up = b.linear(n, blk + "ffn_up.weight", f"up.{i}", i)
    silu = b.value(f"silu.{i}", c.hidden_dim)
    b.ops.append(o.Silu((gate,), (silu,), o.Origin(i, blk + "ffn_gate.weight")))
    h = b.binary(o.Mul, silu, up, f"h.{i}", c.hidden_dim, o.Origin(i, blk + "ffn_up.weight"))
    y = b.linear(h, blk + "ffn_down.weight", f"down.{i}", i)
    return b.binary(o.Add, x, y, f"x_ffn.{i}", c.dim, o.Origin(i, blk + "ffn_down.weight"))
