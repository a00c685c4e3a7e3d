"""Print a text while it is written: ``python stream.py build/NAME-TARGET "Once upon a time"``."""

from __future__ import annotations

import sys

import infc


def main(artifact: str, prompt: str = "Once upon a time") -> None:
    with infc.load(artifact) as llm:
        score = 0.0
        for token in llm.stream(prompt, max_tokens=48, temperature=0.8, seed=1):
            print(token.text, end="", flush=True)  # complete characters only
            score += token.logprob
        print(f"\n[log probability {score:.2f}]", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
