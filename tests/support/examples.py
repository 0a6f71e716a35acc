"""How many examples a rule is tried on: a few in every run, a hundred times as many on request."""

from hypothesis import HealthCheck, Phase, settings

EVERY_RUN = "every-run"
THOROUGH = "thorough"


def register_profiles() -> None:
    """Register both; `--hypothesis-profile=thorough` chooses the second."""
    common = settings(
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow
        ],  # so may be a machine that does something else
    )
    settings.register_profile(
        EVERY_RUN,
        common,
        # the same examples each time: a red build is a bug, never bad luck
        derandomize=True,
        max_examples=15,
        phases=[
            phase for phase in Phase if phase is not Phase.explain
        ],  # minutes for a long example
    )
    settings.register_profile(THOROUGH, common, max_examples=1500, print_blob=True)


def examples(weight: float) -> settings:
    """Try a rule on more or fewer examples than others, as its cases are many or slow to make."""
    return settings(max_examples=round(weight * settings.default.max_examples))
