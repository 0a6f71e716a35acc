"""Settings of the test run."""

from hypothesis import settings

# the same examples in every run: a red build is a bug, never bad luck
settings.register_profile("unit", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("unit")
