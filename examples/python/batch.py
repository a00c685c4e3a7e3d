"""Many prompts share every forward pass, and each gets the very text it would get alone: ``python batch.py build/NAME-TARGET``.

The weights are read once a step, however many prompts take part: that is why a batch is faster than one prompt after the other.
"""

from __future__ import annotations

import sys

import infc

PROMPTS = ["The capital of France is", "Water boils at", "A haiku about the sea:", "2 + 2 ="]


def main(artifact: str) -> None:
    with infc.load(artifact) as llm:
        together = llm.batch(PROMPTS, max_tokens=16, temperature=0)
        for prompt, text in zip(PROMPTS, together, strict=True):
            print(f"{prompt!r} -> {text!r}")
        alone = [llm.generate(p, max_tokens=16, temperature=0) for p in PROMPTS]
    assert together == alone


if __name__ == "__main__":
    main(*sys.argv[1:])
