"""The driver: one model through all stages to an artifact. Stages know nothing of each other; this file does."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infc import __version__
from infc.binding.artifact import MANIFEST, Artifact
from infc.errors import HostError, InfcError
from infc.options import CompileOptions, default_name
from infc.progress import Reporter, Silent
from infc.toolchain import cache as cache_module
from infc.toolchain import cc as cc_module
from infc.toolchain import host, manifest, publish
from infc.toolchain.append import append_blob, files_sha256
from infc.toolchain.build import Builder, Train, build
from infc.toolchain.cc import Compiler

if TYPE_CHECKING:
    from infc.frontend.config import ModelConfig
    from infc.frontend.model_file import ModelFile
    from infc.ir.graph import Graph
    from infc.plan.plan import Plan
    from infc.weights.blob import BlobInfo

BLOB = "weights.blob"  # in a cache entry and while building; an artifact carries it inside its two binaries


def compile(path: str | os.PathLike[str], *, reporter: Reporter | None = None, **options: Any) -> Artifact:
    """Compile a GGUF file or a folder of safetensors.

    Keywords are the fields of ``CompileOptions``: target="native", ctx=, quantize=, name=, out=, pgo=, lto=, cc=, ...

    Raises InputError (bad file or option), LimitError, HostError or ToolchainError; then nothing was written.
    """
    return Driver(Path(path), CompileOptions.create(**options), reporter or Silent()).compile()


@dataclass(frozen=True)
class Sections:
    """Sections TOKENIZER, CHAT (empty: no chat) and META of the blob."""

    tokenizer: bytes
    chat: bytes
    meta: dict[str, object]

    @property
    def size(self) -> int:
        """Bytes in the blob, whole pages, but for the description, which is known when the rest is."""
        return sum(-(-len(part) // 4096) * 4096 for part in (self.tokenizer, self.chat))


class Driver:
    """One compile of one file."""

    def __init__(self, model: Path, options: CompileOptions, reporter: Reporter) -> None:
        self.path = model
        self.reporter = reporter
        self.name = options.name or default_name(model)
        self.out = options.out or Path("build") / f"{self.name}-{options.target_label}"
        self.asked = options
        self.notes: list[str] = []
        self._cc: Compiler | None = None
        self.options = options if options.target != ("native",) else replace(options, target=(self._native(),))

    # ---- stages ----------------------------------------------------------------------------------------------------------

    def read(self) -> tuple[ModelFile, ModelConfig]:
        """Open and validate the model; the caller closes it. What is quantized was validated before."""
        from infc.frontend.inputs import open_model
        from infc.frontend.validate import validate

        self.reporter.stage("read")
        model = open_model(self.path, self.options.limits)
        try:
            config, warnings = validate(model, self.options.limits)
            model = self.quantized(model)
        except BaseException:
            model.close()
            raise
        for warning in (*model.notes, *warnings):
            self._note(warning)
        return model, config

    def quantized(self, model: ModelFile) -> ModelFile:
        """``model`` with the types that were asked for."""
        if self.options.quantize is None:
            return model
        from infc.frontend.quantize import QuantizedModel

        return QuantizedModel(model, self.options.quantize, self.options.quantize_embedding)

    def graphs(self, model: ModelFile, config: ModelConfig) -> list[tuple[str, Graph]]:
        """(stage, verified graph) as built and after each pass."""
        from infc.frontend.families import build as build_graph
        from infc.ir.verify import verify
        from infc.passes.order import run_passes

        self.reporter.stage("passes")
        graph = verify(build_graph(model, config), "frontend")
        return [("frontend", graph), *run_passes(graph)]

    def plan(self, graph: Graph) -> Plan:
        """Decide kernels, layout and memory."""
        from infc.kernels.target import target
        from infc.plan.build import build_plan

        self.reporter.stage("plan")
        return build_plan(graph, self.options, tuple(target(t) for t in self.options.target), self.name)

    # ---- the whole -------------------------------------------------------------------------------------------------------

    def compile(self) -> Artifact:
        """All stages; with ``stop_after`` only the dumps, in DIR."""
        publish.check_destination(self.out, MANIFEST)
        if self.options.stop_after is not None:
            return self._partial()
        self._check_space()
        cache = self._cache()
        if cache is not None and self._input_size() is not None:
            found = self._from_cache(cache)
            if found is not None:
                return found
        model, config = self.read()
        with model:
            return self._build(model, config, cache)

    def _build(self, model: ModelFile, config: ModelConfig, cache: cache_module.Cache | None) -> Artifact:
        from infc.emit import emit
        from infc.plan.cost import step_cost

        graphs = self.graphs(model, config)
        plan = self.plan(graphs[-1][1])
        extra = self.sections(model, config)
        extra.meta.update(asdict(step_cost(plan)))  # bench states limits from these
        with publish.workspace(self.out) as work:
            parts, staged = work / "parts", work / "out"
            staged.mkdir()
            parts.mkdir()
            if self.options.dump:
                self._dump(staged, graphs, plan)
            self.reporter.stage("emit")
            recipe = emit(plan, staged)
            # The weights are repacked while the C compiler works; training waits for them.
            with ThreadPoolExecutor(1) as pool:
                blob_job = pool.submit(self._write_blob, plan, model, extra, parts / BLOB)
                digest_job = pool.submit(files_sha256, self.files)
                train = self._trainer(plan, parts / BLOB, blob_job) if self.options.pgo else None
                built = build(Builder(recipe, work, self.cc, self.options.jobs), self.options.lto, train, self.reporter.stage)
                self.reporter.stage("weights")
                blob, digest = blob_job.result(), digest_job.result().hex()
            for note in built.notes:
                self.reporter.note(note)
            self.reporter.stage("publish")
            model.check_unchanged()
            text = manifest.render(self.options, self.name, self.file_name, digest, plan, blob, built, self.cc, tuple(self.notes))
            (staged / MANIFEST).write_text(text, "utf-8")
            for item in (*staged.iterdir(), built.program, built.library):
                os.rename(item, parts / item.name)
            if cache is not None:
                entry = cache.entry(sum(p.stat().st_size for p in self.files), digest)
                cache.store(entry, parts, self.options.cache_gb * 10**9)
            self._finish(parts, staged, bytes.fromhex(blob.sha256))
        return Artifact.open(self.out)

    def _finish(self, parts: Path, staged: Path, digest: bytes) -> None:
        """Parts (binaries and blob apart) become the folder the user sees."""
        blob = parts / BLOB
        for name in (self.name, f"lib{self.name}.so"):
            append_blob(parts / name, blob, digest)
        blob.unlink()
        for item in parts.iterdir():
            os.rename(item, staged / item.name)
        publish.publish(staged, self.out)

    def _from_cache(self, cache: cache_module.Cache) -> Artifact | None:
        size = self._input_size()
        if size is None or not cache.may_hold(size):
            return None
        self.reporter.stage("cache")
        entry = cache.entry(size, files_sha256(self.files).hex())
        if not entry.is_dir():
            return None
        with publish.workspace(self.out) as work:
            parts, staged = work / "parts", work / "out"
            parts.mkdir()
            staged.mkdir()
            if not cache.load(entry, parts):
                return None
            text = (parts / MANIFEST).read_text("utf-8")
            self._finish(parts, staged, bytes.fromhex(json.loads(text)["weights"]["sha256"]))
        for note in Artifact.open(self.out).manifest.get("notes", []):
            self.reporter.note(note)
        return Artifact.open(self.out)

    def _partial(self) -> Artifact:
        """Stop after a stage: its dumps (and after emit the sources) in DIR, no binaries."""
        stop = self.options.stop_after
        model, config = self.read()
        with model, publish.workspace(self.out) as work:
            staged = work / "out"
            staged.mkdir()
            graphs = self.graphs(model, config)
            if stop == "ir":
                graphs = graphs[:1]
            plan = self.plan(graphs[-1][1]) if stop in ("plan", "emit") else None
            self._dump(staged, graphs, plan)
            if stop == "emit" and plan is not None:
                from infc.emit import emit

                self.reporter.stage("emit")
                emit(plan, staged)
            facts = {"infc": __version__, "name": self.name, "stopped_after": stop}
            (staged / MANIFEST).write_text(manifest.encode(facts), "utf-8")
            publish.publish(staged, self.out)
        return Artifact.open(self.out)

    def sections(self, model: ModelFile, config: ModelConfig) -> Sections:
        """What the blob holds beside the weights. A tokenizer infc does not know is refused here, before anything is written."""
        from infc.tokenizer.chat import reduce_chat
        from infc.tokenizer.compile import compile_tokenizer

        self.reporter.stage("tokenizer")
        tokenizer = compile_tokenizer(model.kv, config.vocab_size)
        chat = reduce_chat(model.kv, limits=self.options.limits, date=self.options.date)
        if not chat:
            self._note(f"chat is left out: {chat.reason}")
        elif chat.note:
            self._note(chat.note)
        meta: dict[str, object] = {"name": config.name, "arch": config.arch, "file": self.file_name, "infc": __version__}
        return Sections(tokenizer, chat.encode() if chat else b"", meta)

    @staticmethod
    def _write_blob(plan: Plan, model: ModelFile, extra: Sections, path: Path) -> BlobInfo:
        from infc.weights.blob import write_blob

        return write_blob(plan, model, path, extra.tokenizer, extra.chat, extra.meta)

    def _trainer(self, plan: Plan, path: Path, blob: Future[BlobInfo]) -> Train:
        from infc.toolchain.train import trainer

        targets = [t.target.isa for t in plan.targets]

        def train(builder: Builder, program: Path) -> tuple[str, ...]:
            digest = bytes.fromhex(blob.result().sha256)
            return trainer(path, digest, targets, plan.layout.size, plan.n_ctx)(builder, program)

        return train

    def _note(self, text: str) -> None:
        """Tell the user now, and the manifest's readers later."""
        self.notes.append(text)
        self.reporter.note(text)

    # ---- pieces ----------------------------------------------------------------------------------------------------------

    def _dump(self, folder: Path, graphs: list[tuple[str, Graph]], plan: Plan | None) -> None:
        from infc.ir.graph import dump

        for i, (stage, graph) in enumerate(graphs):
            (folder / f"ir.{i:02}.{stage}.txt").write_text(dump(graph), "utf-8")
        if plan is not None:
            from infc.plan.describe import describe

            (folder / "plan.txt").write_text(describe(plan), "utf-8")

    @property
    def cc(self) -> Compiler:
        """The C compiler, looked for once."""
        if self._cc is None:
            self._cc = cc_module.find(self.asked.cc, Path(tempfile.gettempdir()))
        return self._cc

    def _native(self) -> str:
        """The best target of this host; a dry run (``stop_after``) needs no C compiler for that."""
        try:
            return host.native(self.cc)
        except InfcError:
            if self.asked.stop_after is None:
                raise
            return host.runnable()[-1]

    @property
    def files(self) -> list[Path]:
        """The files that make the model."""
        from infc.frontend.inputs import files_of

        return files_of(self.path)

    @property
    def file_name(self) -> str:
        """The model's file or folder, without its place."""
        return self.path.name or self.path.absolute().name

    def _input_size(self) -> int | None:
        """Bytes of the model's files if it can be hashed without reading it as a model: anything odd is the reader's to refuse."""
        files = self.files
        return sum(p.stat().st_size for p in files) if files and all(p.is_file() for p in files) else None

    def _check_space(self) -> None:
        size = self._input_size()
        if size is None:
            return
        folder = self.out.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        # Blob, executable, library and the instrumented executable each hold the weights; 64 MB for code and objects.
        need = 4 * size + (64 << 20)
        if free < need:
            raise HostError("H02", f"the output's disk has {free >> 20} MiB free and the compile needs {need >> 20}", str(folder))

    def _cache(self) -> cache_module.Cache | None:
        root = cache_module.default_root()
        if root is None or not self.options.cache:
            return None
        o = self.options
        choices = {
            "infc": cache_module.sources_digest(),
            "cc": [self.cc.command, self.cc.version],
            "name": self.name,
            "file": self.file_name,
            "options": [
                o.quantize,
                o.quantize_embedding,
                o.target,
                o.ctx,
                o.kv,
                o.pgo,
                o.lto,
                o.max_seqs,
                o.max_rows,
                o.kv_tokens,
                o.date,
                o.dump,
            ],  # fmt: skip
            "limits": asdict(o.limits),
            "trains": [t for t in o.target if not host.missing(t)] if o.pgo else [],
        }
        return cache_module.Cache(root, choices)
