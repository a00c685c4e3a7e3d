"""EXAONE 3 and 3.5 (arXiv:2408.03541, 2412.04862), EXAONE Deep: LLaMA's layer with Llama 3.1's factors of the frequencies; pairs of a
rotation are half a head apart."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope
from infc.frontend.families import internlm2
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    return dense(keys, limits, (rope(keys, limits, halves=True),))


FAMILY = Family("exaone", config, internlm2.tensors, internlm2.build)
