"""The model's view of a text, as numpy arrays: ``python logits.py build/NAME-TARGET "The cat sat on the mat"``."""

from __future__ import annotations

import sys

import numpy as np

import infc


def main(artifact: str, text: str = "The cat sat on the mat") -> None:
    with infc.load(artifact) as llm:
        ids = llm.tokenize(text)
        logits = llm.logits(ids)  # (n_tokens, vocab) float32, written by the library into this array
        best = logits.argmax(axis=1)
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        logprob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        print(f"{'token':>16}  {'log p':>7}  most likely instead")
        for i, token in enumerate(ids[1:]):
            print(f"{llm.detokenize([token])!r:>16}  {logprob[i, token]:7.2f}  {llm.detokenize([int(best[i])])!r}")
        print(f"{'next':>16}  {logprob[-1, best[-1]]:7.2f}  {llm.detokenize([int(best[-1])])!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
