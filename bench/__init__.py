"""Load and latency runs: the worker beside a plain one, in interleaved rounds. Start with `run.py`."""
