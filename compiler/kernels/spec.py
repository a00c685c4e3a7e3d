"""The registry of linear kernels: selection, emission, tests and benchmarks all read this one table.

A kernel is a function of ``runtime_c/infc_linear.h``; its C name is rendered from the spec, never parsed back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from infc.formats import FORMATS, BlockFormat
from infc.kernels.target import Target, load_targets


@dataclass(frozen=True)
class KernelSpec:
    """y = W x for one weight format, one ISA and one class of batch sizes.

    ``batch`` is ``gemv`` (M = 1), ``small`` (M up to the target's small_max: weights leave memory once, rows of activations
    in register tiles), ``gemm`` (panels unpacked once into L1) or ``tiles`` (the same on AMX tiles of sixteen rows).
    """

    op: str
    weight: BlockFormat
    batch: str
    target: Target
    layout: str = "r16"

    @property
    def activation(self) -> str:
        """``q8`` or ``f32``."""
        return self.weight.activation

    @property
    def c_function(self) -> str:
        """The name in runtime_c/infc_linear.h."""
        return f"linear_{self.weight.name.lower()}_{self.activation}_{self.batch}"

    def rows(self) -> tuple[int, int]:
        """Smallest and largest M the kernel takes; the upper end of gemm and tiles is open (a large number)."""
        last = self.target.small_max
        return {"gemv": (1, 1), "small": (2, last)}.get(self.batch, (last + 1, 1 << 30))

    def rejects(self, m: int) -> str | None:
        """Why the kernel cannot run M = ``m`` rows; None if it can."""
        lo, hi = self.rows()
        return None if lo <= m <= hi else f"takes M = {lo}..{hi if hi < 1 << 30 else 'any'}"

    def weight_bytes(self, n: int, k: int) -> int:
        """Bytes of an (n, k) matrix in this layout: 16-row panels, the last one padded with zero rows."""
        panels = -(-n // 16)
        return panels * (k // self.weight.block_size) * self.weight.r16_bytes

    def cost(self, n: int, k: int, m: int) -> float:
        """Seconds on one core: the larger of reading the weights and the arithmetic, at the target's measured rates.

        A tile has sixteen rows, however many of them are wanted.
        """
        rate = self.target.rate(self.batch)
        rows = -(-m // 16) * 16 if self.batch == "tiles" else m
        return max(self.weight_bytes(n, k) / rate.gb_s, n * k * rows / rate.gmac_s) * 1e-9


@cache
def registry() -> tuple[KernelSpec, ...]:
    """Every linear kernel there is: targets x formats x the target's batch classes. Tiles multiply int8 only."""
    return tuple(
        KernelSpec("linear", f, c, t)
        for t in load_targets()
        for f in FORMATS.values()
        for c in t.classes
        if c != "tiles" or f.activation == "q8"
    )


def candidates(weight_type: str, target: Target) -> tuple[KernelSpec, ...]:
    """Kernels for a weight format on a target, one or more per batch class."""
    return tuple(s for s in registry() if s.target == target and s.weight.name == weight_type)
