"""Weight formats: ggml's block sizes, and the r16 layout (16 output rows interleaved) that kernels read.

One table for every stage; what a format computes is in ``runtime_c/quant/<name>.h``, how it is repacked in ``infc.weights``.
"""

from __future__ import annotations

from dataclasses import dataclass

from infc.errors import InputError

ROWS = 16  # output rows per panel: the lanes of one AVX-512 vector, two AVX2 vectors, one AMX tile


@dataclass(frozen=True)
class BlockFormat:
    """``block_size`` weights of one row take ``raw_bytes`` in the file and ``r16_bytes`` / 16 in a panel.

    ``activation`` is what the kernel multiplies with: ``q8`` (int8 blocks of 32) or ``f32``.
    """

    name: str
    block_size: int
    raw_bytes: int
    r16_bytes: int
    activation: str


FORMATS: dict[str, BlockFormat] = {
    f.name: f
    for f in (
        BlockFormat("F32", 1, 4, 64, "f32"),
        BlockFormat("F16", 1, 2, 32, "f32"),
        BlockFormat("BF16", 1, 2, 32, "f32"),
        BlockFormat("Q4_0", 32, 18, 288, "q8"),
        BlockFormat("Q4_1", 32, 20, 320, "q8"),
        BlockFormat("Q5_0", 32, 22, 352, "q8"),
        BlockFormat("Q5_1", 32, 24, 384, "q8"),
        BlockFormat("Q8_0", 32, 34, 544, "q8"),
        BlockFormat("Q2_K", 256, 84, 1344, "q8"),
        BlockFormat("Q3_K", 256, 110, 1824, "q8"),
        BlockFormat("Q4_K", 256, 144, 2368, "q8"),
        BlockFormat("Q5_K", 256, 176, 2880, "q8"),
        BlockFormat("Q6_K", 256, 210, 3360, "q8"),
        BlockFormat("IQ4_NL", 32, 18, 288, "q8"),
        BlockFormat("IQ4_XS", 256, 136, 2208, "q8"),
        BlockFormat("MXFP4", 32, 17, 272, "q8"),
        BlockFormat("TQ1_0", 256, 54, 1056, "q8"),
        BlockFormat("TQ2_0", 256, 66, 1056, "q8"),
    )
}


def format_of(name: str) -> BlockFormat:
    """The format called ``name``; InputError lists those there are."""
    if name not in FORMATS:
        raise InputError("G60", f"tensor type {name} is not supported", "supported: " + ", ".join(FORMATS))
    return FORMATS[name]
