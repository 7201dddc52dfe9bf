"""The harness: trials, one training loop, instruments, store and report."""
