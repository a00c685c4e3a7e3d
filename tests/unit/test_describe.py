"""The bytes that `infc plan` prints are those of the C side."""

import re
from collections.abc import Callable
from pathlib import Path

from infc.binding.artifact import Artifact
from infc.plan.describe import GEMM_SCRATCH_BYTES, describe, memory_need
from infc.plan.memory import align
from tests.unit.test_golden import _plan

RUNTIME = Path(__file__).parents[2] / "runtime_c"


def test_scratch_is_what_the_header_says() -> None:
    text = (RUNTIME / "infc_forward_sizes.h").read_text()
    found = re.search(r"INFC_GEMM_SCRATCH_BYTES = (\d+) \* (\d+)", text)
    assert found is not None
    assert int(found[1]) * int(found[2]) == GEMM_SCRATCH_BYTES


def test_arena_is_what_the_program_says(tiny_artifact: Artifact, tiny_llama: Callable[..., Path]) -> None:
    with tiny_artifact.load(threads=1) as model:
        info = model.info
        _, plan = _plan(tiny_llama(), (info.isa,))
        assert info.weights_bytes == plan.layout.size
        assert info.kv_bytes == plan.kv.pool_bytes
        need = memory_need(plan, info.n_ctx, 1, 1)
        thread = plan.tile_bytes + GEMM_SCRATCH_BYTES + plan.private.size
        assert info.arena_bytes == plan.arena.size + thread
        assert (need.arena, need.scratch) == (align(plan.arena.size, 4096), align(thread, 4096))
        assert need.kv == align(info.n_ctx, info.page_size) // info.page_size * plan.kv.page_bytes


def test_text_names_every_buffer_and_kernel(tiny_llama: Callable[..., Path]) -> None:
    _, plan = _plan(tiny_llama(types="Q4_0"), ("avx2",))
    text = describe(plan)
    assert all(name in text for name, _ in plan.arena.offsets)
    assert "linear_q4_0_q8_gemv" in text and "not linear_q4_0_q8_gemm: takes M = 16..any" in text
