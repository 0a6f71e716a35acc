"""Faults on real servers: whole workers, an executor, and an oracle that knows only the contract."""
