"""What families build their graphs from: one method per operation of the paper, tensors under GGUF's names."""

from __future__ import annotations

from dataclasses import replace

from infc.frontend.config import Experts, ModelConfig
from infc.frontend.gguf import ModelFile
from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph, Value


class Builder:
    """Collects values and operations; every value is named ``what`` or ``what.layer``.

    Names of tensors come without ``blk.N.`` and ``.weight``. A bias is used where the file has one: which biases a family may have is
    in its tensor rules, so ``validate`` has refused all others.
    """

    def __init__(self, model: ModelFile, config: ModelConfig) -> None:
        self.model = model
        self.config = config
        self.values: list[Value] = []
        self.ops: list[o.Op] = []
        self.ropes: list[str] = []

    # ---- the ends --------------------------------------------------------------------------------------------------------

    def embed(self) -> str:
        """Tokens to rows of the embedding, and the rotations of all positions."""
        c = self.config
        self._value("token", 1, "i32")
        self._value("pos", 1, "i32")
        x = self._value("x", c.dim)
        table = self._weight("token_embd.weight")
        positions = self._weight("position_embd.weight") if "position_embd.weight" in self.model.tensors else None
        inputs = ("token",) if positions is None else ("token", "pos")
        self.ops.append(o.Embed(inputs, (x,), o.Origin(-1, table.tensor), table, c.embedding_scale, positions))
        for i, spec in enumerate(c.ropes):
            self.ropes.append(self._value("rope" if i == 0 else f"rope_{i}", 2 * c.head_dim))
            self.ops.append(o.RopeRows(("pos",), (self.ropes[-1],), o.Origin(-1, "rope_freqs.weight"), spec))
        return x

    def finish(self, x: str) -> Graph:
        """The last norm, the head, and the whole graph: tokens, positions -> logits, hidden."""
        c = self.config
        rows = self._value("out_rows", c.dim)
        self.ops.append(o.SelectRows((x,), (rows,), o.Origin(-1, "output_norm.weight")))
        hidden = self.norm(rows, "output_norm", -1, out="hidden")
        head = "token_embd" if c.tied_embeddings else "output"
        logits = self.linear(hidden, head, -1, out="logits", bias="output.bias")
        if c.logit_scale != 1:
            logits = self._same(o.Scale, logits, "logits_scaled", -1, head, factor=c.logit_scale)
        if c.logit_softcap:
            logits = self._same(o.Softcap, logits, "logits_capped", -1, head, cap=c.logit_softcap)
        return Graph(c, tuple(self.values), tuple(self.ops), ("token", "pos"), (logits, hidden))

    # ---- rows ------------------------------------------------------------------------------------------------------------

    def norm(self, x: str, name: str, i: int, out: str = "") -> str:
        """RMSNorm, or LayerNorm where the norm has a bias."""
        w = self._weight(self._name(name, i) + ".weight")
        y = self._value(out or f"{name}.{i}", w.k)
        bias = self._optional(self._name(name, i) + ".bias")
        origin = o.Origin(i, w.tensor)
        if bias is not None:
            self.ops.append(o.LayerNorm((x,), (y,), origin, w, bias, self.config.norm_eps))
        else:
            self.ops.append(o.RmsNorm((x,), (y,), origin, w, self.config.norm_eps))
        return y

    def linear(self, x: str, name: str, i: int, out: str = "", bias: str = "") -> str:
        """W x, and a bias if there is one."""
        w = self._weight(self._name(name, i) + ".weight")
        return self._linear(x, w, self._optional(bias or self._name(name, i) + ".bias"), out or f"{_SHORT.get(name, name)}.{i}", i)

    def add(self, x: str, y: str, i: int) -> str:
        """The residual connection: x + residual_scale y."""
        tensor = next(op for op in reversed(self.ops) if op.outputs[0] == y).origin.tensor
        if self.config.residual_scale != 1:
            y = self._same(o.Scale, y, y.split(".")[0] + f"_scaled.{i}", i, tensor, factor=self.config.residual_scale)
        first = not any(v.name == f"x_attn.{i}" for v in self.values)
        out = self._value(f"{'x_attn' if first else 'x_ffn'}.{i}", self.config.dim)
        self.ops.append(o.Add((x, y), (out,), o.Origin(i, tensor)))
        return out

    # ---- attention -------------------------------------------------------------------------------------------------------

    def qkv(self, x: str, i: int) -> tuple[str, str, str]:
        """q, k and v, each a matrix of its own or all rows of ``attn_qkv``. Rows that turn by halves are put side by side."""
        c = self.config
        layer = c.layers[i]
        spec = c.ropes[layer.rope] if layer.rope >= 0 else None
        halves = (c.head_dim, spec.dim) if spec is not None and spec.halves else None
        fused = f"blk.{i}.attn_qkv.weight" in self.model.tensors
        names, first = [], 0
        for part, heads in (("q", c.n_heads), ("k", c.n_kv_heads), ("v", c.n_kv_heads)):
            name, n = f"blk.{i}." + ("attn_qkv" if fused else f"attn_{part}"), heads * c.head_dim
            w, bias = self._weight(name + ".weight"), self._optional(name + ".bias")
            order = None if part == "v" else halves
            if fused:
                w, bias = replace(w, n=n, first=first), bias and replace(bias, k=n, first=first)
                first += n
            w, bias = replace(w, halves=order), bias and replace(bias, halves=order)
            names.append(self._linear(x, w, bias, f"{part}.{i}", i))
        return names[0], names[1], names[2]

    def head_norm(self, x: str, name: str, i: int) -> str:
        """RMSNorm of each head of q or k."""
        w = self._row_order(self._weight(self._name(name, i) + ".weight"), i)
        width = self._width(x)
        y = self._value(f"{name}.{i}", width)
        self.ops.append(o.HeadNorm((x,), (y,), o.Origin(i, w.tensor), w, self.config.norm_eps, width // self.config.head_dim))
        return y

    def row_norm(self, x: str, name: str, i: int) -> str:
        """RMSNorm of the whole row of q or k."""
        w = self._row_order(self._weight(self._name(name, i) + ".weight"), i)
        y = self._value(f"{name}.{i}", w.k)
        self.ops.append(o.RmsNorm((x,), (y,), o.Origin(i, w.tensor), w, self.config.norm_eps))
        return y

    def rope(self, x: str, i: int) -> str:
        """Rotates q or k by the layer's angles; a layer without leaves it as it is."""
        layer = self.config.layers[i]
        if layer.rope < 0:
            return x
        what, width = x.removesuffix("_norm." + str(i)).removeprefix("attn_").split(".")[0], self._width(x)
        y = self._value(f"{what}_rope.{i}", width)
        origin = o.Origin(i, f"blk.{i}.attn_{what}.weight")
        self.ops.append(o.Rope((x, self.ropes[layer.rope]), (y,), origin, width // self.config.head_dim))
        return y

    def attention(self, q: str, k: str, v: str, i: int) -> str:
        """Causal attention within the layer's window, over all that the sequence has said."""
        c = self.config
        kv = self._value(f"kv.{i}", c.n_kv_heads * c.head_dim, "kv")
        self.ops.append(o.KvWrite((k, v), (kv,), o.Origin(i, f"blk.{i}.attn_v.weight"), i))
        a = self._value(f"attn.{i}", c.n_heads * c.head_dim)
        scale = c.attention_scale or c.head_dim**-0.5
        origin = o.Origin(i, f"blk.{i}.attn_output.weight")
        sinks = self._optional(f"blk.{i}.attn_sinks.weight")
        self.ops.append(o.Attention((q, kv), (a,), origin, i, scale, c.layers[i].window, c.attention_softcap, sinks))
        return a

    # ---- feed forward ----------------------------------------------------------------------------------------------------

    def gate_up(self, x: str, i: int) -> tuple[str, str]:
        """Both halves of a gated MLP's first step: ``ffn_gate`` and ``ffn_up``, or the rows of ``ffn_up`` alone."""
        name = f"blk.{i}.ffn_up"
        if f"blk.{i}.ffn_gate.weight" in self.model.tensors:
            return self.linear(x, "ffn_gate", i), self.linear(x, "ffn_up", i)
        n = self.config.hidden_dim
        both = self._weight(name + ".weight")
        gate, up = (self._linear(x, replace(both, n=n, first=f), None, f"{out}.{i}", i) for out, f in (("gate", 0), ("up", n)))
        return gate, up

    def silu(self, x: str) -> str:
        """x sigmoid(x)."""
        return self._activation(o.Silu, "silu", x)

    def gelu(self, x: str) -> str:
        """GELU in its tanh form."""
        return self._activation(o.Gelu, "gelu", x)

    def relu2(self, x: str) -> str:
        """The square of what is positive."""
        return self._activation(o.Relu2, "relu2", x)

    def mul(self, a: str, b: str) -> str:
        """Element-wise product."""
        source = next(op for op in reversed(self.ops) if op.outputs[0] == b)
        y = self._like(b, f"h.{source.origin.layer}")
        self.ops.append(o.Mul((a, b), (y,), source.origin))
        return y

    # ---- mixture of experts ----------------------------------------------------------------------------------------------

    def route(self, x: str, i: int) -> tuple[str, str]:
        """Which experts each row takes, and their weights; and the weight of the one that all rows share, if there is one."""
        c = self._experts
        w, bias = self._weight(f"blk.{i}.ffn_gate_inp.weight"), self._optional(f"blk.{i}.ffn_gate_inp.bias")
        shared = self._optional(f"blk.{i}.ffn_gate_inp_shexp.weight")
        panels = -(-c.count // 16) + (1 if shared is not None else 0)
        outputs = [self._value(f"route.{i}", c.used, "choice"), self._value(f"router.{i}", 16 * panels)]
        if shared is not None:
            outputs.append(self._value(f"share.{i}", 1))
        self.ops.append(e.Route((x,), tuple(outputs), o.Origin(i, w.tensor), w, bias, c.used, c.renormalise, shared))
        return outputs[0], outputs[-1]

    def scale_rows(self, x: str, scales: str, i: int) -> str:
        """Each row times its number."""
        source = next(op for op in reversed(self.ops) if op.outputs[0] == x)
        y = self._like(x, f"scaled.{i}")
        self.ops.append(e.ScaleRows((x, scales), (y,), source.origin))
        return y

    def swiglu_oai(self, gate: str, up: str) -> str:
        """gpt-oss's product of gate and up."""
        source = next(op for op in reversed(self.ops) if op.outputs[0] == up)
        y = self._like(up, f"h.{source.origin.layer}")
        self.ops.append(e.SwigluOai((gate, up), (y,), source.origin))
        return y

    def expert_linear(self, x: str, choices: str, name: str, i: int) -> str:
        """W x, and a bias if there is one, of each expert taken."""
        w = self._weight(f"blk.{i}.{name}.weight")
        bias = self._optional(f"blk.{i}.{name}.bias")
        y = self._value(f"{_SHORT[name]}.{i}", w.n, slots=self._experts.used)
        all_biases = replace(bias, n=1, k=bias.n * bias.k) if bias is not None else None
        self.ops.append(e.ExpertLinear((x, choices), (y,), o.Origin(i, w.tensor), w, all_biases))
        return y

    def expert_sum(self, x: str, y: str, choices: str, i: int) -> str:
        """x plus the weighted sum over the experts that each row takes."""
        out = self._value(f"x_experts.{i}", self.config.dim)
        self.ops.append(e.ExpertSum((x, y, choices), (out,), o.Origin(i, f"blk.{i}.ffn_down_exps.weight")))
        return out

    @property
    def _experts(self) -> Experts:
        assert self.config.experts is not None
        return self.config.experts

    # ---- pieces ----------------------------------------------------------------------------------------------------------

    def _name(self, name: str, i: int) -> str:
        return f"blk.{i}.{name}" if i >= 0 else name

    def _value(self, name: str, width: int, dtype: str = "f32", slots: int = 0) -> str:
        self.values.append(Value(name, width, dtype, slots))
        return name

    def _like(self, other: str, name: str) -> str:
        """A value of the same shape."""
        v = next(v for v in self.values if v.name == other)
        return self._value(f"experts_{name}" if v.slots else name, v.width, slots=v.slots)

    def _width(self, name: str) -> int:
        return next(v.width for v in self.values if v.name == name)

    def _weight(self, tensor: str) -> o.Weight:
        """A matrix ``(n, k)``, one for every expert, or a vector, which counts as one row of k."""
        info = self.model.tensors[tensor]
        k, n, experts = (*info.ne, 1, 1)[:3]
        return o.Weight(tensor, info.type, n, k, experts=experts)

    def _optional(self, tensor: str) -> o.Weight | None:
        return self._weight(tensor) if tensor in self.model.tensors else None

    def _row_order(self, w: o.Weight, i: int) -> o.Weight:
        """What is multiplied with q or k lies as their rows do."""
        layer = self.config.layers[i]
        if layer.rope < 0 or not self.config.ropes[layer.rope].halves:
            return w
        return replace(w, halves=(self.config.head_dim, self.config.ropes[layer.rope].dim))

    def _linear(self, x: str, w: o.Weight, bias: o.Weight | None, out: str, i: int) -> str:
        y = self._value(out, w.n)
        self.ops.append(o.Linear((x,), (y,), o.Origin(i, w.tensor), w, bias))
        return y

    def _same(self, cls: type[o.Scale] | type[o.Softcap], x: str, out: str, i: int, tensor: str, **fields: float) -> str:
        y = self._value(out, self._width(x))
        self.ops.append(cls((x,), (y,), o.Origin(i, tensor), **fields))
        return y

    def _activation(self, cls: type[o.Op], what: str, x: str) -> str:
        source = next(op for op in reversed(self.ops) if op.outputs[0] == x)
        y = self._like(x, f"{what}.{source.origin.layer}")
        self.ops.append(cls((x,), (y,), source.origin))
        return y


_SHORT = {"attn_output": "attn_out", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}
_SHORT |= {"ffn_gate_exps": "gate", "ffn_up_exps": "up", "ffn_down_exps": "down"}
