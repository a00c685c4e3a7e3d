"""What a model is, once its file has been checked: the numbers every later stage works from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions are stretched. ``linear``: position / factor. Factors per frequency come as a tensor instead."""

    type: str
    factor: float
    orig_ctx: int
    attn_factor: float


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters under llama2.c's names. Every value is validated: positive, finite, consistent with the tensors.

    ``dim`` is the residual stream's width, ``hidden_dim`` the feed-forward width, ``head_dim`` the width of one head
    (not necessarily dim / n_heads), ``rope_dim`` how many of its leading dimensions rotate. ``vocab_size`` counts the
    rows of the embedding. ``tied_embeddings``: the output head reads the embedding's matrix.
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
    rms_eps: float
    rope_dim: int
    rope_freq_base: float
    rope_scaling: RopeScaling | None
    tied_embeddings: bool
