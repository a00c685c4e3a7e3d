"""Part of infc."""
