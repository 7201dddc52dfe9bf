"""One trial, from seed to result."""

# What a server loads once for all processes that are forked from it; torch's optimisers import the second on first use,
# for 1.2 s.
PRELOADED = ["bench.training.run", "torch._dynamo", "platformdirs", "numpy.random"]
