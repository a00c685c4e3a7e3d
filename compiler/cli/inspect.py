"""``infc inspect``: what a model is, what it would take and what of it is not supported, before anything is compiled.

A model that ``infc compile`` refuses because a part of it is not supported is still shown, with the sentence that compile would
print; a malformed one is an InputError.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infc.errors import InputError
from infc.formats import FORMATS
from infc.options import TARGETS, CompileOptions
from infc.pipeline import Driver
from infc.progress import Silent
from infc.toolchain import host

if TYPE_CHECKING:
    from infc.frontend.config import ModelConfig
    from infc.frontend.model_file import ModelFile
    from infc.plan.plan import Plan, TargetPlan

Facts = dict[str, Any]
# Classes of errors that say "not here", whatever their words: tensor type, tokenizer, shapes the kernels do not take.
_UNSUPPORTED = ("G60", "G76", "P01")
_P = "tokenizer.ggml."
_DESCRIPTION_BYTES = 3 * 4096  # the blob's head, description and trailer, a page each unless the description is long


def _is_unsupported(e: InputError) -> bool:
    return e.code in _UNSUPPORTED or "not supported" in e.what


class _Findings:
    """Runs checks one by one and keeps what they say is unsupported; anything else they find is the caller's error."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, e: BaseException | None, tb: object) -> bool:
        if isinstance(e, InputError) and _is_unsupported(e):
            if not any(s.startswith(f"error[{e.code}]") for s in self.sentences):  # two stages may refuse one thing
                self.sentences.append(str(e))
            return True
        return False


def inspect(path: Path, batch: int, given: Facts) -> Facts:
    """Everything there is to say about the model at ``path``; ``given`` are keywords of ``CompileOptions``. Raises InputError."""
    from infc.frontend.inputs import open_model

    if given.get("target", "native") == "native":
        given["target"] = TARGETS
    given["max_seqs"] = max(batch, given.get("max_seqs", 64))
    options = CompileOptions.create(**given)
    found = _Findings()
    facts: Facts = {"file": path.name or path.absolute().name, "supported": False}
    with found:
        with open_model(path, options.limits) as model:
            _describe(facts, model)
            _check(facts, found, path, model, options, given, batch)
    if "architecture" not in facts:  # a folder whose settings or tokenizer have no equal among GGUF's
        _describe_folder(facts, path, options)
    facts["unsupported"] = found.sentences
    facts["supported"] = not found.sentences
    return facts


def _describe(facts: Facts, model: ModelFile) -> None:
    """What the files say, whether infc knows it or not."""
    arch = str(model.kv.get("general.architecture", ""))
    tokens = model.kv.get(_P + "tokens")
    facts["architecture"] = arch
    facts["name"] = str(model.kv.get("general.name", ""))
    facts["hyperparameters"] = {
        k.removeprefix(arch + "."): v for k, v in model.kv.items() if k.startswith(arch + ".") and isinstance(v, int | float | str)
    }
    from infc.tokenizer.patterns import SPLITS  # here, as a file's layout is shown without the tokenizer compiler

    pre = model.kv.get(_P + "pre", "the folder's expressions" if SPLITS in model.kv else "")
    facts["tokenizer"] = {
        "model": str(model.kv.get(_P + "model", "")), "pre": str(pre),
        "tokens": len(tokens) if isinstance(tokens, list) else 0, "chat_template": "tokenizer.chat_template" in model.kv,
    }  # fmt: skip
    _describe_tensors(facts, [(t.name, t.type, t.ne, t.nbytes) for t in model.tensors.values()])


def _describe_tensors(facts: Facts, tensors: list[tuple[str, str, tuple[int, ...], int]]) -> None:
    count: Counter[str] = Counter(t[1] for t in tensors)
    size: Counter[str] = Counter()
    parameters = 0
    for _, kind, ne, nbytes in tensors:
        size[kind] += nbytes
        n = 1
        for d in ne:
            n *= d
        parameters += n
    facts["parameters"] = parameters
    facts["formats"] = [
        {"type": kind, "tensors": count[kind], "bytes": size[kind], "supported": kind in FORMATS}
        for kind in sorted(size, key=lambda k: -size[k])
    ]
    facts["tensors"] = [{"name": name, "type": kind, "shape": list(ne), "bytes": nbytes} for name, kind, ne, nbytes in tensors]


def _describe_folder(facts: Facts, path: Path, options: CompileOptions) -> None:
    from infc.frontend.hf.folder import CONFIG, Folder, texts

    folder = Folder(path, options.limits)
    try:
        config = folder.json(CONFIG, "S11")
        facts["architecture"] = next(texts(config, "architectures"), "")
        facts["name"] = facts["file"]
        facts["hyperparameters"] = {k: v for k, v in config.items() if isinstance(v, int | float | str)}
        entries = [(name, e) for name, (_, e) in folder.entries.items()]
        _describe_tensors(facts, [(name, e.dtype, tuple(reversed(e.shape)), e.nbytes) for name, e in entries])
    finally:
        folder.close()


def _check(facts: Facts, found: _Findings, path: Path, model: ModelFile, options: CompileOptions, given: Facts, batch: int) -> None:
    """Every check of ``infc compile`` in its order, each on its own; then the plan, if all that it needs has passed."""
    from infc.frontend import check_data, check_tensors, check_vocab, hparams

    notes = list(model.notes)
    config: ModelConfig | None = None
    with found:
        config = hparams.config(model, options.limits, notes)
    unknown = sorted({t.type for t in model.tensors.values()} - set(FORMATS))
    if unknown:
        found.sentences.append(f"error[G60]: tensor types {', '.join(unknown)} are not supported (supported: {', '.join(FORMATS)})")
    elif config is not None:
        with found:
            check_tensors.check(model, config)
    with found:
        check_vocab.check(model, facts["architecture"], options.limits, notes)
    if config is not None:
        facts["hyperparameters"] = {k: v for k, v in asdict(config).items() if k not in ("arch", "name")}
    if not found.sentences:
        check_data.check(model, notes)
    facts["notes"] = notes
    if config is not None and not unknown:
        with found:
            _plan(facts, path, model, config, options, given, batch)


def _plan(facts: Facts, path: Path, model: ModelFile, config: ModelConfig, options: CompileOptions, given: Facts, batch: int) -> None:
    """Memory for ``batch`` sequences of the context, and the kernels of every target: from the planner of ``infc compile``."""
    from infc.plan.describe import memory_need

    if options.kv_tokens is None:
        ctx = options.resolved(config.n_ctx_train).ctx
        assert ctx is not None  # resolved() decides it
        given = given | {"kv_tokens": ctx * batch}
    reporter = Silent()
    driver = Driver(path, CompileOptions.create(**given, stop_after="plan"), reporter)
    before = len(model.notes)
    model = driver.quantized(model)
    if options.quantize is not None:
        facts["notes"] += model.notes[before:]
        _describe_tensors(facts, [(t.name, t.type, t.ne, t.nbytes) for t in model.tensors.values()])
    plan = driver.plan(driver.graphs(model, config)[-1][1])
    threads = len(os.sched_getaffinity(0))
    tables = driver.sections(model, config).size + _DESCRIPTION_BYTES
    need = memory_need(plan, plan.n_ctx, batch, threads, tables)
    facts["notes"] += reporter.notes
    facts["memory"] = {"context": plan.n_ctx, "sequences": batch, "threads": threads, "bytes": asdict(need) | {"total": need.total}}
    facts["targets"] = [
        {"target": t.target.name, "missing_here": list(host.missing(t.target.name)), "kernels": _kernels(plan, t)} for t in plan.targets
    ]


def _kernels(plan: Plan, t: TargetPlan) -> list[Facts]:
    """One row a role and format: what runs one row, few and many."""
    rows: dict[tuple[str, str, int, int], Facts] = {}
    phases = [*t.prologue, *(p for kind in t.kinds for p in kind.phases), *t.epilogue]
    for phase in phases:
        for lin in phase.linears:
            if phase.kind == "embed":  # rows are looked up, not multiplied
                rows[lin.role, lin.weight_type, lin.n, lin.k] = {
                    "role": lin.role, "type": lin.weight_type, "n": lin.n, "k": lin.k, "kernels": [],
                }  # fmt: skip
                continue
            key = (lin.role, lin.weight_type, lin.n, lin.k)
            rows.setdefault(
                key,
                {"role": lin.role, "type": lin.weight_type, "n": lin.n, "k": lin.k, "kernels": [k.c_function for k in lin.kernels]},
            )
    return list(rows.values())


def run(path: Path, batch: int, as_json: bool, given: Facts) -> None:
    """The command."""
    facts = inspect(path, batch, given)
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        from infc.cli.inspect_tables import show

        show(facts)
