"""What a family's file provides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infc.frontend.config import ModelConfig
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.frontend.rules import Rule
from infc.ir.graph import Graph
from infc.limits import Limits


@dataclass(frozen=True)
class Family:
    """``name`` is ``general.architecture``. ``config`` reads and checks the keys, ``tensors`` lists what must be in the file, and
    ``build`` makes the step graph (tokens, positions -> logits, hidden) of a file that both have accepted."""

    name: str
    config: Callable[[Keys, Limits], ModelConfig]
    tensors: Callable[[ModelConfig], Iterator[Rule]]
    build: Callable[[ModelFile, ModelConfig], Graph]
