"""The training run of profile-guided optimisation: prompts that ship, one thread, every batch class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from infc.errors import ToolchainError
from infc.toolchain import host, process
from infc.toolchain.append import append_blob
from infc.toolchain.build import Builder, SkipProfile, Train

_TIMEOUT_S = 150
# Bytes of weights an instrumented single-thread run gets through in a few seconds, by instruction set. It bounds the number of
# tokens by the size of the model and not by the clock, which would make the profile, and so the program, differ between runs.
_BUDGET = {"scalar": 1.5e9, "avx2": 16e9, "avx512": 24e9, "amx": 24e9}
_MIN_TOKENS, _MAX_TOKENS = 24, 160  # at least one panel of rows for the large class
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Lesson:
    """One run: arguments of the executable."""

    arguments: tuple[str, ...]


def prompts() -> list[str]:
    """The shipped texts, longest first."""
    text = resources.files("infc.toolchain").joinpath("training_prompts.txt").read_text("utf-8")
    return sorted((p.strip() for p in text.split("\n\n") if p.strip()), key=len, reverse=True)


def lessons(weights_bytes: int, n_ctx: int, isa: str) -> list[Lesson]:
    """Runs that reach M=1, small and large classes, greedy and sampled decoding. Raises SkipProfile if the context is too short."""
    tokens = int(max(_MIN_TOKENS, min(_MAX_TOKENS, _BUDGET[isa] / max(weights_bytes, 1))))
    decode = max(4, tokens // 8)
    room = n_ctx - decode - 2
    chars = min(tokens * _CHARS_PER_TOKEN, room)  # a vocabulary of bytes makes a token of every character
    if chars < 16:
        raise SkipProfile(f"a context of {n_ctx} positions is too short to train on")
    long, *others = prompts()
    medium, short = others[0], others[-1]
    common = ("-t", "1", "--isa", isa, "--ignore-eos")
    return [
        Lesson(("-p", long[:chars], "-n", str(decode), "--temp", "0", *common)),
        Lesson(("-p", medium[: chars // 4], "-ub", "6", "-n", str(decode // 2), "--temp", "0.8", "--seed", "1", *common)),
        Lesson(("-p", short[: min(32, chars)], "-ub", "1", "-n", "4", "--temp", "0", "--repeat-penalty", "1.1", *common)),
    ]


def trainer(blob: Path, digest: bytes, targets: Sequence[str], weights_bytes: int, n_ctx: int) -> Train:
    """A ``Train`` function for ``build``: appends the weights to the instrumented executable and runs the lessons."""

    def train(builder: Builder, program: Path) -> tuple[str, ...]:
        able = [t for t in targets if not host.missing(t)]
        notes = tuple(f"no training of {t}: this CPU lacks {', '.join(host.missing(t))}" for t in targets if t not in able)
        if not able:
            raise SkipProfile(f"this CPU cannot run {', '.join(targets)} (it lacks {', '.join(host.missing(targets[0]))})")
        append_blob(program, blob, digest)
        for isa in able:
            for i, lesson in enumerate(lessons(weights_bytes, n_ctx, isa)):
                _run(builder, program, lesson, f"{isa}-{i}")
        return notes

    return train


def _run(builder: Builder, program: Path, lesson: Lesson, tag: str) -> None:
    extra = {"LLVM_PROFILE_FILE": str(builder.work / f"{tag}.profraw")}
    try:
        done = process.run([str(program), *lesson.arguments], builder.work, builder.tmp, _TIMEOUT_S, extra)
    except ToolchainError as e:
        if e.code != process.OVERRUN:
            raise
        raise SkipProfile(f"the training run did not end: {e.what}") from None
    if done.status == 3:
        raise SkipProfile(f"the training run was refused: {process.first_error(done.stderr)}")
    if done.status != 0:
        how = f"signal {-done.status}" if done.status < 0 else f"status {done.status}"
        raise ToolchainError("T04", f"the training run ended with {how}", process.first_error(done.stderr))
