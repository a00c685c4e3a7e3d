"""Measures compiled artifacts: where a step's time goes, how far from the machine's limits, how far ahead of a peer."""
