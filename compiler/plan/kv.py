"""The page pool of the KV cache."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.plan.plan import KvPlan

# A multiple of 16, one AVX-512 vector of scores. Measured on Zen 3 (docs/performance.md): 32 and 64 read alike, 16 rescales
# the online softmax too often; 32 wastes less of a short sequence's last page.
PAGE_SIZE = 32


def plan_kv(c: ModelConfig, dtype: str, n_ctx: int, kv_tokens: int, max_seqs: int) -> KvPlan:
    """Pages for ``kv_tokens`` positions in all; every sequence may end in a partly filled page, which the pool allows for."""
    part = 2 * PAGE_SIZE * c.head_dim * 2  # keys and values, f16
    page = c.n_layers * c.n_kv_heads * part
    pages_per_seq = -(-n_ctx // PAGE_SIZE)
    n_pages = max(-(-kv_tokens // PAGE_SIZE), pages_per_seq)
    return KvPlan(dtype, PAGE_SIZE, part, page, n_pages, max_seqs)
