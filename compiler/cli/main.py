"""Commands of ``infc`` and the exit status contract: 0 ok, 2 bad input, 3 limit or host, 4 toolchain, 70 internal error.

Stages are imported inside the commands: ``infc --help`` should not wait for numpy.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from infc import __version__
from infc.errors import InfcError
from infc.limits import Limits
from infc.options import QUANTIZE_MIXES, QUANTIZERS, STAGES, TARGETS

Command = Callable[..., None]
_QUANTIZE = (
    f"make matrices of F32, F16 or BF16 blocks: {', '.join(QUANTIZERS)}, or a mix as llama.cpp's: {', '.join(QUANTIZE_MIXES)}. The head "
    "(a tied embedding is one) becomes Q6_K, with q8_0 and mxfp4 Q8_0; norms, biases and routers stay; rows that no block divides get "
    "a type of blocks of 32, or stay"
)


def _limit_options(command: Command) -> Command:
    """One flag per limit of SECURITY.md."""
    for f in reversed(fields(Limits)):
        help_text = f"accept up to N {f.metadata['what']} ({f.default})"
        command = click.option(f.metadata["flag"], f"limit_{f.name}", type=click.IntRange(1), metavar="N", help=help_text)(command)
    return command


def _plan_options(command: Command) -> Command:
    """What changes the plan, so ``compile`` and ``plan`` take the same."""
    for option in reversed((
        click.option("--target", default="native", metavar="T[,T]", help=f"native, {', '.join(TARGETS)}, or a list for a fat program"),
        click.option("--ctx", type=int, metavar="N", help="positions of one sequence (the model's, at most 4096)"),
        click.option("--kv", default="q16", metavar="TYPE", help="KV cache: q16 (scaled int16, integer attention) or f16"),
        click.option("--max-seqs", type=int, metavar="N", default=64, show_default=True, help="sequences open at once"),
        click.option("--max-rows", type=int, metavar="N", default=512, show_default=True, help="rows of one forward chunk"),
        click.option("--kv-tokens", type=int, metavar="N", help="positions of all sequences together (4 times --ctx)"),
        click.option("--quantize", metavar="TYPE", help=_QUANTIZE),
        click.option("--quantize-embedding", metavar="TYPE", help="the type of the embedding and the head"),
        click.option("--name", metavar="NAME", help="name of the artifact (from the file's)"),
    )):  # fmt: skip
        command = option(command)
    return command


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``CompileOptions`` from click's."""
    limits = {k.removeprefix("limit_"): given.pop(k) for k in list(given) if k.startswith("limit_")}
    given["limits"] = Limits(**{k: v for k, v in limits.items() if v is not None})
    return given


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infc")
def infc() -> None:
    """Compile a language model for one CPU: a standalone executable, a shared library, a Python module."""


@infc.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="output folder (build/NAME-TARGET)")
@click.option("--draft", type=click.Path(path_type=Path), metavar="MODEL", help="a small model that guesses ahead (not yet available)")
@click.option("--no-pgo", is_flag=True, help="leave out profile-guided optimisation")
@click.option("--no-lto", is_flag=True, help="leave out link-time optimisation")
@click.option("--cc", metavar="CC", help="the C compiler ($CC, gcc, clang)")
@click.option("--date", metavar="YYYY-MM-DD", help="the date that the chat template writes, every day (else that of the day)")
@click.option("--stop-after", metavar="{" + ",".join(STAGES) + "}", help="stop after a stage and write what it made")
@click.option("--dump", is_flag=True, help="also write every stage's dump and plan.txt")
@click.option("-j", "--jobs", type=int, default=2, show_default=True, metavar="N", help="C compilers at a time")
@click.option("--no-cache", is_flag=True, help="neither use nor fill the cache ($INFC_CACHE, ~/.cache/infc)")
@click.option("--cache-gb", type=int, default=8, show_default=True, metavar="N", help="bound of the cache")
@_plan_options
@_limit_options
def compile_command(model: Path, no_pgo: bool, no_lto: bool, no_cache: bool, **given: Any) -> None:
    """Compile MODEL to DIR/NAME, DIR/libNAME.so, DIR/NAME.h, DIR/manifest.json and DIR/src.

    MODEL is a GGUF file (of a split one, any part) or a folder of safetensors with its config.json and tokenizer.json.
    """
    from infc import pipeline
    from infc.cli.progress import Progress

    with Progress() as progress:
        options = _options(given)
        artifact = pipeline.compile(
            model, reporter=progress.reporter, pgo=not no_pgo, lto=not no_lto, cache=not no_cache, **options
        )  # fmt: skip
    print(artifact.program if artifact.program.exists() else artifact.path)


@infc.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, metavar="B", help="sequences of --ctx positions each")
@click.option("--json/--table", "as_json", default=None, help="JSON where stdout is no terminal, else tables")
@_plan_options
@_limit_options
def inspect(model: Path, batch: int, as_json: bool | None, **given: Any) -> None:
    """Show what MODEL is, what it would take on every target, and what of it is not supported.

    MODEL is what compile takes. One that is not supported is shown all the same (status 0; JSON says "supported": false); one that is
    malformed is an error.
    """
    from infc.cli import inspect as command

    command.run(model, batch, not sys.stdout.isatty() if as_json is None else as_json, _options(given))


@infc.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, metavar="B", help="sequences of --ctx positions each")
@_plan_options
@_limit_options
def plan(model: Path, batch: int, **given: Any) -> None:
    """Print the plan of MODEL: exact bytes, and per operation the kernel chosen and those rejected."""
    from infc.cli.describe import describe_plan

    print(describe_plan(model, batch, _options(given)))


@infc.command()
def targets() -> None:
    """List the targets and whether this machine runs them."""
    from infc.cli.describe import describe_targets

    print(describe_targets())


@infc.command()
@click.option("--cc", metavar="CC", help="the C compiler to ask")
def doctor(cc: str | None) -> None:
    """Say what this machine offers: compiler, CPU, quotas, disk. Status 4 without a compiler."""
    from infc.cli.doctor import examine

    print(examine(cc))


def _execute(artifact: Path, arguments: tuple[str, ...]) -> None:
    """Become the artifact's executable."""
    from infc.binding.artifact import Artifact
    from infc.errors import InputError

    program = Artifact.open(artifact).program
    sys.stdout.flush()
    try:
        os.execv(program, [str(program), *arguments])
    except OSError as e:
        raise InputError("art", f"cannot start the executable: {e.strerror}", str(program)) from None


_PASS = {"ignore_unknown_options": True, "allow_interspersed_args": False}  # what follows ARTIFACT is the executable's


@infc.command(context_settings=_PASS)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(artifact: Path, arguments: tuple[str, ...]) -> None:
    """Run ARTIFACT's executable with the rest of the line: infc run build/NAME-avx2 -p "Once"."""
    _execute(artifact, arguments)


@infc.command(context_settings={"ignore_unknown_options": True})
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--vs", type=click.Path(path_type=Path), metavar="LLAMA_BENCH", help="take turns with this llama-bench and print ratios")
@click.option("--vs-batched", type=click.Path(path_type=Path), metavar="PROGRAM", help="the same with llama-batched-bench, for -b")
@click.option("--vs-model", type=click.Path(path_type=Path), metavar="FILE", help="the model file that the peers load")
@click.option("--vs-args", default="", metavar="TEXT", help="more arguments of the peers, such as '-fa 1'")
@click.option("--turns", type=click.IntRange(1, 1000), default=5, show_default=True, metavar="N", help="turns of each side")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="draw the roofline with every kernel on it")
def bench(
    artifact: Path,
    arguments: tuple[str, ...],
    vs: Path | None,
    vs_batched: Path | None,
    vs_model: Path | None,
    vs_args: str,
    turns: int,
    plot: Path | None,
) -> None:
    """Time ARTIFACT beside the machine's read bandwidth and arithmetic peaks.

    The rest of the line goes to its own bench command: -p 128,512 -n 64 -d 0,4096 -b 0 -t 1,2 -r 5 -o md. Against a peer, -r are the
    repetitions of one turn (2).
    """
    if vs is None and vs_batched is None and plot is None:
        if vs_model is not None or vs_args:
            raise click.UsageError("--vs-model and --vs-args go with --vs or --vs-batched")
        _execute(artifact, ("bench", *arguments))
    from infc.binding.artifact import Artifact
    from infc.cli import bench as command

    opened = Artifact.open(artifact)
    if vs is not None or vs_batched is not None:
        command.versus(opened, arguments, vs, vs_batched, vs_model, vs_args, turns)
    if plot is not None:
        command.plot(opened, arguments if vs is None and vs_batched is None else ("-p", "0", "-n", "0", "-b", "0"), plot)


@infc.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-t", "--threads", type=click.IntRange(0, 1024), default=1, show_default=True, metavar="T", help="0: what the system grants")
@click.option("-b", "--batch", type=click.IntRange(1, 4096), default=1, show_default=True, metavar="B", help="sequences to decode together")
@click.option("-p", "--prompt", type=click.IntRange(1), metavar="N", help="a prompt of N tokens instead of decoding")
@click.option("-d", "--depth", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="positions held before")
@click.option("-n", "--steps", type=click.IntRange(1, 100000), metavar="N", help="steps to time (32; 3 of a prompt)")
@click.option("--isa", metavar="ISA", help="use this instruction set of those compiled in")
@click.option("--cc", metavar="CC", help="the C compiler ($CC, gcc, clang)")
@click.option("--json/--table", "as_json", default=None, help="JSON where stdout is no terminal, else a table")
def explain(as_json: bool | None, **given: Any) -> None:
    """List ARTIFACT's kernels: calls, bytes, multiply-accumulates and time of a step, and how near each comes to the machine's limits.

    The artifact's own sources are compiled once more, with a clock between the kernels.
    """
    from infc.cli import explain as command

    command.run(as_json=not sys.stdout.isatty() if as_json is None else as_json, **given)


def _fail(text: str, status: int) -> int:
    print(f"infc: {text}", file=sys.stderr)
    return status


def _trace(error: BaseException) -> None:
    """Where an error arose, for whoever asks with INFC_DEBUG=1."""
    if os.environ.get("INFC_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)


def _internal(error: BaseException) -> int:
    _trace(error)
    wrapped = InfcError("bug", f"internal error: {type(error).__name__}: {error}", "INFC_DEBUG=1 shows where")
    return _fail(str(wrapped), 70)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status. Every failure is one line on stderr."""
    try:
        infc.main(args=argv, prog_name="infc", standalone_mode=False)
        sys.stdout.flush()
        return 0
    except InfcError as e:
        return _fail(str(e), e.exit_code)
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as e:
        return _fail(str(InfcError("opt", e.format_message(), "see infc --help")), 2)
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        # A full or read-only disk, a vanished file: the machine's doing, not a bug.
        _trace(e)
        where = str(e.filename) if e.filename else ""
        return _fail(str(InfcError("H03", (e.strerror or str(e)).lower(), where)), 3)
    except Exception as e:
        return _internal(e)


if __name__ == "__main__":
    sys.exit(main())
