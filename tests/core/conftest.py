"""How hypothesis looks for examples: alike in every run."""

from __future__ import annotations

import hypothesis

# none is refused for its time: on a busy machine that would decide what passes
hypothesis.settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")
