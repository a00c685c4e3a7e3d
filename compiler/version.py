"""The version that banners, manifests and ``--version`` show."""

VERSION = "0.1.0"
