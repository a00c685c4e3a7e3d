"""The ``infc`` command."""
