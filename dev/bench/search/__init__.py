"""``make bench-search``: every sampler and pruner against random search and against its reference library."""
