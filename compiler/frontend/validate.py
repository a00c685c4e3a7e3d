"""All checks of a model file in their order: cheap ones first, the weights' bytes last."""

from __future__ import annotations

from infc.frontend import check_data, check_tensors, check_vocab, hparams
from infc.frontend.config import ModelConfig
from infc.frontend.gguf import ModelFile
from infc.limits import DEFAULT, Limits


def validate(model: ModelFile, limits: Limits = DEFAULT) -> tuple[ModelConfig, list[str]]:
    """The model's configuration, and sentences worth showing to the user. Raises InputError for what cannot be compiled."""
    warnings: list[str] = []
    config = hparams.config(model, limits, warnings)
    check_tensors.check(model, config)
    check_vocab.check(model, config.arch, limits, warnings)
    check_data.check(model, warnings)
    return config, warnings
