"""Settings of the test run."""

from hypothesis import Phase, settings

# the same examples in every run: a red build is a bug, never bad luck
settings.register_profile(
    "unit",
    derandomize=True,
    deadline=None,
    max_examples=15,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # minutes for a long example
)
settings.load_profile("unit")
