"""Python over the emitted library's C interface, through cffi."""
