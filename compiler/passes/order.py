"""The pass order, one literal tuple with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infc.ir.graph import Graph
from infc.ir.verify import verify
from infc.passes.fuse_attention_quantize import fuse_attention_quantize
from infc.passes.fuse_norm_quantize import fuse_norm_quantize
from infc.passes.fuse_qkv import fuse_qkv
from infc.passes.fuse_residual import fuse_residual
from infc.passes.fuse_swiglu import fuse_swiglu
from infc.passes.quantize_activations import quantize_activations

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    quantize_activations,  # first: the fusions below match on the Quantize it makes
    fuse_norm_quantize,
    fuse_qkv,
    fuse_swiglu,  # before fuse_residual only for the reader's sake: they match disjoint operations
    fuse_attention_quantize,
    fuse_residual,
)


def run_passes(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Yields (pass name, verified graph) after each pass; the last one is the fused graph."""
    for one in PASSES:
        graph = verify(one(graph), one.__name__)
        yield one.__name__, graph
