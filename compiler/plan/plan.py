"""The plan: everything that is decided before C is written. Frozen; templates print it and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from infc.frontend.config import ModelConfig, Rope
from infc.ir.ops import Weight
from infc.kernels.spec import KernelSpec
from infc.kernels.target import Target
from infc.plan.memory import ArenaPlan

PAGE_ALIGN = 4096


def padded(rows: int) -> int:
    """``rows`` in whole tiles of sixteen: how q8 values of many rows are laid out."""
    return -(-rows // 16) * 16


@dataclass(frozen=True)
class PanelPlacement:
    """Where the panels of one matrix go: panel p at ``offset + (p // per_unit) * unit_stride + (p % per_unit) * panel_bytes``, those of
    expert e ``e * expert_stride`` further on.

    Interleaving (gate with up, q with k and v of one group) is a stride; a matrix alone has one unit. Offsets count from the
    start of section WEIGHTS.
    """

    weight: Weight
    offset: int
    panel_bytes: int
    per_unit: int
    unit_stride: int
    expert_stride: int = 0


@dataclass(frozen=True)
class VectorPlacement:
    """A float vector, zero-padded to a multiple of 16 values."""

    weight: Weight
    offset: int


@dataclass(frozen=True)
class RopePlacement:
    """(n_ctx, dim / 2, 2) f32: per position the cosine and sine of each pair's angle. ``buffer`` holds those of a step's rows."""

    offset: int
    n_ctx: int
    spec: Rope
    buffer: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.n_ctx * self.spec.dim * 4


@dataclass(frozen=True)
class WeightLayout:
    """Section WEIGHTS, in the order in which a step reads it."""

    panels: tuple[PanelPlacement, ...]
    vectors: tuple[VectorPlacement, ...]
    ropes: tuple[RopePlacement, ...]
    size: int


@dataclass(frozen=True)
class Buffer:
    """An activation in the arena (or, ``private``, in each thread's scratch when M is small)."""

    name: str
    width: int
    dtype: str
    rows: int

    @property
    def size(self) -> int:
        """Bytes for ``rows`` rows; a q8 value is int8 (rows, width), then d, s and ds (rows, width / 32) of 4 bytes."""
        if self.dtype in ("f32", "choice"):
            return self.rows * self.width * (4 if self.dtype == "f32" else 8)
        rows = padded(self.rows) * self.terms
        return rows * self.width + 3 * rows * (self.width // 32) * 4

    @property
    def terms(self) -> int:
        """Rows of int8 per row of values: 2 for q8x2, in which rows 2m and 2m + 1 belong to row m."""
        return 2 if self.dtype == "q8x2" else 1


@dataclass(frozen=True)
class LinearPlan:
    """One matrix inside a phase: its kernels, one per batch class, and where its panels lie within the phase's unit."""

    role: str
    weight_type: str
    n: int
    k: int
    source: str  # buffer read
    kernels: tuple[KernelSpec, ...]  # gemv, small, gemm; and, on a target with tiles, what runs in their place
    panels_per_unit: int
    unit_offset: int
    bias: int = -1  # where its bias begins among the phase's vectors, in floats; -1: it has none


@dataclass(frozen=True)
class ExpertsPlan:
    """What a phase of a mixture of experts knows besides: how many experts there are and how many a row takes, where one's weights lie
    after the last one's."""

    count: int
    used: int
    stride: int = 0
    renormalise: bool = False
    share: str = ""  # buffer of the weight of a layer that all rows take; "": there is none


@dataclass(frozen=True)
class Phase:
    """What the threads do between two barriers. ``kind`` names the template that prints it."""

    kind: str  # embed, norm, norm_add, quantize, qkv, rows_kv, attention, store, residual, gate_up, up, head; those of infc.plan.experts
    name: str  # identifier within its layer kind
    source: str
    target: str
    linears: tuple[LinearPlan, ...] = ()
    units: int = 0  # work items along the output rows
    unit_bytes: int = 0
    offset: int = 0  # of the weights: from the layer's base, or from the section for phases outside the layers
    extra: int = 0  # of the vectors (biases, norms of heads), likewise; of embed: of the positions' matrix
    tensor: str = ""  # for comments: which tensors, as blk.*.name
    quantize: bool = False  # the epilogue writes q8
    terms: int = 1  # int8 terms of a norm's result, or of the head's input
    tiles_from: int = 0  # rows from which the last kernel of each linear is the cheaper one; 0: there is no such kernel
    layer_norm: bool = False  # of a norm: LayerNorm, its bias behind its weight; else RMSNorm
    activation: str = ""  # of gate_up: silu, gelu or swiglu_oai; of up: gelu or relu2
    head_norms: tuple[int, int] = (-1, -1)  # of q and k: where their norm lies among the vectors, in floats; -1: there is none
    rope: str = ""  # buffer of the rotations; "": positions turn nothing
    scale: float = 1.0  # of what is stored: logits, what joins the residual stream, queries, embeddings
    cap: float = 0.0  # soft cap of logits or scores; 0: none
    window: int = 0  # keys older than this are not seen; 0: all are
    positions: str = ""  # of embed: weight format of the learned positions; "": there are none
    barrier: bool = True  # the threads meet after it
    awaits: int = 0  # of attention: work items of one kv head that must be done before; 0: a barrier was there
    experts: ExpertsPlan | None = None
    sinks: bool = False  # of attention: each head has one, at ``extra``
    row_scale: str = ""  # of residual: buffer of one factor a row; "": there is none


@dataclass(frozen=True)
class LayerKind:
    """Layers that differ only in where their weights lie share one C function."""

    index: int
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class LayerRun:
    """``count`` consecutive layers of one kind, from ``first``."""

    kind: int
    first: int
    count: int


@dataclass(frozen=True)
class KvPlan:
    """The page pool. One page holds ``page_size`` positions of all layers; one part is one (layer, kv head)."""

    dtype: str
    page_size: int
    part_bytes: int
    page_bytes: int
    n_pages: int
    max_seqs: int
    whole_head: bool  # a work item of q, k and v is a whole head
    integer: bool  # attention multiplies int16, not floats

    @property
    def pool_bytes(self) -> int:
        """All pages."""
        return self.n_pages * self.page_bytes


@dataclass(frozen=True)
class TargetPlan:
    """What differs between the targets of one (fat) program."""

    target: Target
    prologue: tuple[Phase, ...]
    kinds: tuple[LayerKind, ...]
    epilogue: tuple[Phase, ...]
    notes: tuple[str, ...]  # plan.txt: per op the kernel chosen, those rejected and why


@dataclass(frozen=True)
class Plan:
    """A whole program: shapes, memory, weights, and one TargetPlan per instruction set."""

    name: str
    config: ModelConfig
    n_ctx: int
    max_rows: int
    small_rows: int  # rows that the threads' private buffers hold
    layer_offsets: tuple[int, ...]
    runs: tuple[LayerRun, ...]
    layout: WeightLayout
    buffers: tuple[Buffer, ...]
    arena: ArenaPlan
    private: ArenaPlan
    tile_bytes: int
    kv: KvPlan
    targets: tuple[TargetPlan, ...]

    @property
    def padded_rows(self) -> int:
        """Rows that a q8 buffer of ``max_rows`` rows holds."""
        return padded(self.max_rows)

    def buffer(self, name: str) -> Buffer:
        """The buffer called ``name``."""
        return next(b for b in self.buffers if b.name == name)


def wanted_phases(plan: Plan, tp: TargetPlan) -> tuple[Phase, ...]:
    """The last layer's phases from its attention on: they take no more than the rows that somebody wants. Before them keys and values are
    written, and of what they leave only the residual stream, x, is read after them."""
    phases = next(k for k in tp.kinds if k.index == plan.runs[-1].kind).phases
    first = next(i for i, p in enumerate(phases) if p.kind == "attention")
    made = {"x", phases[first].target}
    for p in phases[first + 1 :]:
        read = {p.source, *(lin.source for lin in p.linears), *((p.row_scale,) if p.row_scale else ())}
        assert read <= made, f"{p.name} reads {read - made}, which the forward pass does not gather"
        made |= {p.target, *((p.experts.share,) if p.experts is not None and p.experts.share else ())}
    return phases[first:]
