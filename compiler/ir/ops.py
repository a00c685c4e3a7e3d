"""The operations of a forward pass, as frozen dataclasses.

A graph describes one step over M rows (one token each, of any sequences). Widths are per row: a value of width ``n`` is an array
of shape ``(M, n)``. The frontend emits the plain operations in the order of the paper; passes replace groups of them with the
fused ones at the end of this file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where an operation comes from: the layer (-1 outside the layers) and the tensor that names it best."""

    layer: int
    tensor: str


@dataclass(frozen=True)
class Weight:
    """A matrix of the model file: ``n`` output rows by ``k`` inputs, stored as ``type`` (a ggml type name)."""

    tensor: str
    type: str
    n: int
    k: int


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


@dataclass(frozen=True)
class OneWeight(Op):
    """An operation that reads exactly one tensor."""

    weight: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.weight,)


@dataclass(frozen=True)
class Embed(OneWeight):
    """tokens -> x: row ``token`` of the embedding matrix."""


@dataclass(frozen=True)
class RopeRows(Op):
    """positions -> the cosine and signed sine of each row's position, from a table made at compile time.

    ``freq_factors`` names the tensor that divides the frequencies (Llama 3.1's long context), or is None.
    """

    freq_factors: str | None


@dataclass(frozen=True)
class RmsNorm(OneWeight):
    """y = x / sqrt(mean(x^2) + eps) * w (Zhang and Sennrich, 2019)."""

    eps: float


@dataclass(frozen=True)
class Quantize(Op):
    """f32 -> q8: int8 with one scale per 32 values. ``terms`` 2: what the first rounding lost is quantized again (q8x2)."""

    terms: int


@dataclass(frozen=True)
class Linear(OneWeight):
    """y = W x."""


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
    """Softmax(q k^T / sqrt(head_dim)) v over the pages of each row's sequence. inputs: q, cache."""

    layer: int


@dataclass(frozen=True)
class Silu(Op):
    """y = x / (1 + exp(-x))."""


@dataclass(frozen=True)
class Mul(Op):
    """Element-wise product."""


@dataclass(frozen=True)
class Add(Op):
    """Element-wise sum: the residual connection."""


@dataclass(frozen=True)
class SelectRows(Op):
    """Keeps the rows whose logits or hidden state the caller wants."""


# ---- fused -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormQuantize(OneWeight):
    """RmsNorm, then Quantize, while the row is in cache."""

    eps: float
    terms: int


@dataclass(frozen=True)
class QkvRopeKvWrite(Op):
    """q, k and v of one normalised row in one pass over the weights; RoPE and the page write are its epilogue."""

    q: Weight
    k: Weight
    v: Weight
    layer: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.q, self.k, self.v)


@dataclass(frozen=True)
class GateUpSwiglu(Op):
    """h = silu(Wg x) * (Wu x), quantized at once where ``quantize`` says so (Shazeer, 2020)."""

    gate: Weight
    up: Weight
    quantize: bool

    @property
    def weights(self) -> tuple[Weight, ...]:
        return (self.gate, self.up)


@dataclass(frozen=True)
class AttentionQuantize(Op):
    """Attention whose epilogue quantizes each head's output."""

    layer: int


@dataclass(frozen=True)
class LinearResidual(OneWeight):
    """x += W y. inputs: y, x."""
