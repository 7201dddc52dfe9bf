"""What every test needs before torch loads: OpenMP threads that sleep when the machine is shared."""

from bench.executors import set_environment

set_environment()
