"""A model as Hugging Face lays it out: a folder of safetensors, config.json and tokenizer.json, read as if it were a GGUF file."""

from infc.frontend.hf.model import read

__all__ = ["read"]
