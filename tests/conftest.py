"""Settings of all tests."""

import os

from hypothesis import settings

# Machines are shared and noisy: time is measured in a benchmark, never in a test. CI draws the same
# examples on every run.
settings.register_profile("ttc_env", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("ttc_env")
