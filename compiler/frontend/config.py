"""What a model is, once its file has been checked: the numbers and features every later stage works from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Yarn:
    """Which frequencies are stretched (Peng et al., 2023): those that turn less than ``beta_slow`` times in the original context by the
    whole factor, those that turn more than ``beta_fast`` times not at all. ``mix``: how much of that is done."""

    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mix: float = 1.0


@dataclass(frozen=True, slots=True)
class Rope:
    """One set of rotations (Su et al., 2021): ``dim`` leading dimensions of a head turn, pair i by position * base^(-2i/dim) / factor.

    ``factors`` names a tensor (dim / 2) that divides the frequencies as well; ``long_factors`` the one that takes its place in a
    program compiled for more than ``orig_ctx`` positions. Cosines and sines are multiplied by ``attn_factor``. ``halves``: pair i is
    (i, i + dim / 2) of the file's rows, not (2i, 2i + 1).
    """

    dim: int
    base: float = 10000.0
    factor: float = 1.0
    attn_factor: float = 1.0
    orig_ctx: int = 0
    factors: str | None = None
    long_factors: str | None = None
    halves: bool = False
    yarn: Yarn | None = None

    def factors_for(self, n_ctx: int) -> str | None:
        """The tensor that divides the frequencies of a program compiled for ``n_ctx`` positions."""
        return self.long_factors if self.long_factors is not None and n_ctx > self.orig_ctx else self.factors


@dataclass(frozen=True, slots=True)
class Layer:
    """What may differ from layer to layer. ``window``: a query at position p sees keys p - window + 1 .. p; 0: all up to p.
    ``rope``: index in ``ModelConfig.ropes``; -1: no rotation."""

    window: int = 0
    rope: int = 0


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in every layer: of ``count`` feed-forward layers of width ``hidden_dim`` a row takes ``used``. ``renormalise``:
    their weights add up to 1. ``shared_dim``: the width of one that all rows take; 0: there is none."""

    count: int
    used: int
    hidden_dim: int
    renormalise: bool = True
    shared_dim: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters under llama2.c's names. Every value is validated: positive, finite, consistent with the tensors.

    ``dim`` is the residual stream's width, ``hidden_dim`` the feed-forward width, ``head_dim`` the width of one head
    (not necessarily dim / n_heads). ``vocab_size`` counts the rows of the embedding. ``tied_embeddings``: the output head reads the
    embedding's matrix. The fields from ``embedding_scale`` on have values that change nothing: a family sets those it has.
    ``attention_scale`` multiplies q k^T (0: 1 / sqrt(head_dim)); a soft cap c (0: none) makes c tanh(x / c) of x.
    """

    arch: str
    name: str
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_dim: int
    vocab_size: int
    n_ctx_train: int
    norm_eps: float
    tied_embeddings: bool
    ropes: tuple[Rope, ...]
    layers: tuple[Layer, ...]
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_scale: float = 0.0
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    experts: Experts | None = None
