"""The pass order, one literal tuple with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infc.ir.graph import Graph
from infc.ir.verify import verify
from infc.passes.fuse_attention_quantize import fuse_attention_quantize
from infc.passes.fuse_experts import fuse_experts
from infc.passes.fuse_head import fuse_head
from infc.passes.fuse_mlp import fuse_mlp
from infc.passes.fuse_norm_add import fuse_norm_add
from infc.passes.fuse_norm_quantize import fuse_norm_quantize
from infc.passes.fuse_qkv import fuse_qkv
from infc.passes.fuse_residual import fuse_residual
from infc.passes.quantize_activations import quantize_activations

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    fuse_head,  # before quantize_activations, which gives the head two terms
    quantize_activations,  # before the fusions below: they match on the Quantize it makes
    fuse_norm_quantize,
    fuse_qkv,
    fuse_mlp,  # before fuse_residual only for the reader's sake: they match disjoint operations
    fuse_experts,
    fuse_attention_quantize,
    fuse_residual,
    fuse_norm_add,
)


def run_passes(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Yields (pass name, verified graph) after each pass; the last one is the fused graph."""
    for one in PASSES:
        graph = verify(one(graph), one.__name__)
        yield one.__name__, graph
