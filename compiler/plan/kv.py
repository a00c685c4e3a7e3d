"""The page pool of the KV cache, and what each format of it needs."""

from __future__ import annotations

from dataclasses import dataclass

from infc.errors import InputError
from infc.frontend.config import ModelConfig
from infc.plan.plan import KvPlan

_MAX_HEAD_DIM = 256  # Q16_MAX_HEAD_DIM of runtime_c/kv/q16.h


@dataclass(frozen=True)
class KvFormat:
    """A format of runtime_c/kv: keys and values of one page, layer and kv head take ``page_size`` times
    ``element_bytes`` x 2 x head_dim and ``scale_bytes``. ``whole_head``: a head has one scale, so one work item writes all of it.
    ``integer``: attention multiplies them as int16, not as floats."""

    name: str
    page_size: int
    element_bytes: int
    scale_bytes: int
    whole_head: bool
    integer: bool

    def part_bytes(self, head_dim: int) -> int:
        """Bytes of one page, layer and kv head."""
        return self.page_size * (2 * head_dim * self.element_bytes + self.scale_bytes)


# Pages are a multiple of 16 positions, one AVX-512 vector of scores. f16: 32 and 64 read alike on Zen 3, 16 rescales the online
# softmax too often, 32 wastes less of a short sequence's last page. q16: the integer sums over 64 positions just fit 31 bits, and
# 64 bytes of probabilities are the width of an AMX tile.
KV_FORMATS = {f.name: f for f in (KvFormat("q16", 64, 2, 12, True, True), KvFormat("f16", 32, 2, 0, False, False))}


def plan_kv(c: ModelConfig, dtype: str, n_ctx: int, kv_tokens: int, max_seqs: int) -> KvPlan:
    """Pages for ``kv_tokens`` positions in all; and no fewer than sequences, of which each that has begun holds one."""
    f = KV_FORMATS[dtype]
    if f.whole_head and c.head_dim > _MAX_HEAD_DIM:
        raise InputError("P02", f"a {dtype} KV cache takes heads of up to {_MAX_HEAD_DIM} dimensions, not {c.head_dim}", "use --kv f16")
    part = f.part_bytes(c.head_dim)
    page = c.n_layers * c.n_kv_heads * part
    pages_per_seq = -(-n_ctx // f.page_size)
    n_pages = max(max_seqs, -(-kv_tokens // f.page_size), pages_per_seq)
    return KvPlan(dtype, f.page_size, part, page, n_pages, max_seqs, f.whole_head, f.integer)
