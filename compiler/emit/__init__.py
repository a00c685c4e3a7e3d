"""Prints a Plan as C through the only jinja2 environment."""

from infc.emit.emit import emit
from infc.emit.recipe import Recipe, Source

__all__ = ["Recipe", "Source", "emit"]
