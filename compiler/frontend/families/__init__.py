"""One file a family, which reads like its paper: keys, tensors, graph. Everything after the frontend knows features, not families.

To add one: copy the nearest file, list it here, and give the tests' writer and float64 model what is new (docs/adding.md).
"""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.families import (
    arcee,
    ernie4_5,
    exaone,
    gemma,
    gemma2,
    gemma3,
    glm4,
    gpt2,
    gpt_oss,
    granite,
    internlm2,
    jais2,
    llama,
    nemotron,
    olmo2,
    olmoe,
    phi3,
    qwen2,
    qwen2moe,
    qwen2vl,
    qwen3,
    qwen3moe,
    qwen3vl,
    qwen3vlmoe,
    seed_oss,
    smollm3,
    starcoder2,
)
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.ir.graph import Graph

FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY, gemma.FAMILY, gemma2.FAMILY, gemma3.FAMILY, phi3.FAMILY, granite.FAMILY,
        olmo2.FAMILY, smollm3.FAMILY, starcoder2.FAMILY, gpt2.FAMILY,
        qwen2vl.FAMILY, qwen3vl.FAMILY, glm4.FAMILY, seed_oss.FAMILY, exaone.FAMILY, internlm2.FAMILY, ernie4_5.FAMILY,
        arcee.FAMILY, nemotron.FAMILY, jais2.FAMILY,
        qwen2moe.FAMILY, qwen3moe.FAMILY, qwen3vlmoe.FAMILY, olmoe.FAMILY, gpt_oss.FAMILY,
    )
}  # fmt: skip


def build(model: ModelFile, config: ModelConfig) -> Graph:
    """The step graph of a model that ``infc.frontend.validate.validate`` has accepted."""
    return FAMILIES[config.arch].build(model, config)


__all__ = ["FAMILIES", "Family", "build"]
