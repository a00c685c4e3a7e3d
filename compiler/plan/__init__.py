"""Decides kernels, weight layout, arena offsets and KV pages: Graph -> frozen Plan."""

from infc.plan.build import build_plan
from infc.plan.plan import Plan

__all__ = ["Plan", "build_plan"]
