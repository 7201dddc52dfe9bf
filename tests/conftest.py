"""What every test needs: the same examples in every run, and OpenMP threads that sleep on a shared machine."""

from hypothesis import settings

from bench.executors import set_environment

set_environment()  # before torch loads
settings.register_profile("same", derandomize=True, deadline=None)  # a search for new examples is a job of its own
settings.load_profile("same")
