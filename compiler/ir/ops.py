"""The operations of a forward pass, as frozen dataclasses.

A graph describes one step over M rows (one token each, of any sequences). Widths are per row: a value of width ``n`` is an array
of shape ``(M, n)``. The frontend emits the plain operations in the order of the paper; passes replace groups of them with the
fused ones at the end of this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from infc.frontend.config import Rope as RopeSpec


@dataclass(frozen=True)
class Origin:
    """Where an operation comes from: the layer (-1 outside the layers) and the tensor that names it best."""

    layer: int
    tensor: str


@dataclass(frozen=True)
class Weight:
    """A matrix of the model file: ``n`` output rows by ``k`` inputs, stored as ``type`` (a ggml type name); a vector is one row of k.

    It may be part of a tensor: rows (of a vector: elements) from ``first`` on. ``halves`` (head_dim, rotated): inside each head of
    head_dim rows, rows i and i + rotated / 2 of the file become neighbours 2i and 2i + 1, as rotation by pairs wants them.
    ``experts`` > 1: as many such matrices, one after the other.
    """

    tensor: str
    type: str
    n: int
    k: int
    first: int = 0
    halves: tuple[int, int] | None = None
    experts: int = 1


@dataclass(frozen=True)
class Op:
    """Base: names of the values read and written, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: Origin

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Matrices and vectors of the model file that the operation reads, in storage order."""
        return ()


def some(*weights: Weight | None) -> tuple[Weight, ...]:
    """Those that there are."""
    return tuple(w for w in weights if w is not None)


@dataclass(frozen=True)
class OneWeight(Op):
    """An operation that reads one tensor, and perhaps a bias."""

    weight: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.weight,)


@dataclass(frozen=True)
class Biased(OneWeight):
    """``bias`` is added to each row's result; None: there is none."""

    bias: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.weight, self.bias)


@dataclass(frozen=True)
class Embed(OneWeight):
    """tokens -> x: row ``token`` of the embedding matrix, times ``scale``; plus row ``pos`` of ``positions``. inputs: token, pos."""

    scale: float = 1.0
    positions: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.weight, self.positions)


@dataclass(frozen=True)
class RopeRows(Op):
    """positions -> the cosine and signed sine of each row's position, from a table made at compile time."""

    spec: RopeSpec


@dataclass(frozen=True)
class RmsNorm(OneWeight):
    """y = x / sqrt(mean(x^2) + eps) * w (Zhang and Sennrich, 2019)."""

    eps: float


@dataclass(frozen=True)
class LayerNorm(OneWeight):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * w + bias (Ba et al., 2016)."""

    bias: Weight
    eps: float

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.weight, self.bias)


@dataclass(frozen=True)
class HeadNorm(OneWeight):
    """RmsNorm of each head on its own, all with the same weight."""

    eps: float
    n_heads: int


@dataclass(frozen=True)
class Quantize(Op):
    """f32 -> q8: int8 with one scale per 32 values. ``terms`` 2: what the first rounding lost is quantized again (q8x2)."""

    terms: int


@dataclass(frozen=True)
class Linear(Biased):
    """y = W x + bias."""


@dataclass(frozen=True)
class Rope(Op):
    """Rotates adjacent pairs of each head by the row's position (Su et al., 2021). inputs: x, rope rows."""

    n_heads: int


@dataclass(frozen=True)
class KvWrite(Op):
    """Appends k and v of each row to its sequence's pages. inputs: k, v."""

    layer: int


@dataclass(frozen=True)
class Attention(Op):
    """Softmax(scale q k^T) v over the pages of each row's sequence. inputs: q, cache.

    ``window``: keys that are older by that or more are not seen; 0: all are. ``softcap`` c: a score x becomes c tanh(x / c); 0: it stays.
    ``sinks``: of each head a logit that takes its share of the softmax and adds nothing.
    """

    layer: int
    scale: float
    window: int = 0
    softcap: float = 0.0
    sinks: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.sinks)


@dataclass(frozen=True)
class Silu(Op):
    """y = x / (1 + exp(-x))."""


@dataclass(frozen=True)
class Gelu(Op):
    """y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel, 2016)."""


@dataclass(frozen=True)
class Relu2(Op):
    """y = max(x, 0)^2 (So et al., 2021)."""


@dataclass(frozen=True)
class Mul(Op):
    """Element-wise product."""


@dataclass(frozen=True)
class Add(Op):
    """Element-wise sum: the residual connection."""


@dataclass(frozen=True)
class Scale(Op):
    """y = x * factor."""

    factor: float


@dataclass(frozen=True)
class Softcap(Op):
    """y = cap tanh(x / cap)."""

    cap: float


@dataclass(frozen=True)
class SelectRows(Op):
    """Keeps the rows whose logits or hidden state the caller wants."""


# ---- fused -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormQuantize(Biased):
    """RmsNorm, or with a bias LayerNorm, then Quantize, while the row is in cache."""

    eps: float = 0.0
    terms: int = 1


@dataclass(frozen=True)
class NormAdd(OneWeight):
    """x + RmsNorm(y): a norm after its block, into the residual stream. inputs: y, x."""

    eps: float


@dataclass(frozen=True)
class Projection:
    """One of q, k and v: its matrix, its bias and the norm of its heads (or None)."""

    weight: Weight
    bias: Weight | None = None
    norm: Weight | None = None


@dataclass(frozen=True)
class QkvRopeKvWrite(Op):
    """q, k and v of one normalised row in one pass over the weights; biases, the heads' norms, RoPE and the page write are its
    epilogue. inputs: what q, k and v read, and the rope rows unless positions do not turn anything."""

    q: Projection
    k: Projection
    v: Projection
    layer: int
    eps: float  # of the heads' norms
    scale: float  # of Attention

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (*self.matrices, *self.vectors)

    @property
    def matrices(self) -> tuple[Weight, Weight, Weight]:
        """q, k and v."""
        return (self.q.weight, self.k.weight, self.v.weight)

    @property
    def vectors(self) -> tuple[Weight, ...]:
        """Biases of q, k and v, then the norms of q and k, as far as there are any."""
        return some(self.q.bias, self.k.bias, self.v.bias, self.q.norm, self.k.norm)


@dataclass(frozen=True)
class NormRopeKvWrite(Op):
    """RmsNorm of whole rows of q and k, RoPE, page write: for norms that span heads. inputs: q, k, v, and the rope rows if any."""

    q_norm: Weight
    k_norm: Weight
    layer: int
    eps: float
    scale: float  # of Attention

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.q_norm, self.k_norm)


@dataclass(frozen=True)
class GateUp(Op):
    """h = activation(Wg x) * (Wu x), quantized at once where ``quantize`` says so (Shazeer, 2020). ``activation``: silu or gelu."""

    gate: Weight
    up: Weight
    activation: str
    quantize: bool
    gate_bias: Weight | None = None
    up_bias: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.gate, self.up, self.gate_bias, self.up_bias)


@dataclass(frozen=True)
class Up(Biased):
    """h = activation(W x + bias), quantized at once where ``quantize`` says so. ``activation``: gelu or relu2."""

    activation: str = "gelu"
    quantize: bool = False


@dataclass(frozen=True)
class AttentionQuantize(Attention):
    """Attention whose epilogue quantizes each head's output."""


@dataclass(frozen=True)
class LinearResidual(Biased):
    """x += scale (W y + bias). inputs: y, x."""

    scale: float = 1.0


@dataclass(frozen=True)
class Head(Biased):
    """logits = cap tanh(scale (W x + bias) / cap); ``cap`` 0: no tanh."""

    scale: float = 1.0
    cap: float = 0.0
