"""How kubetune speaks to the Kubernetes API server: raw JSON, one bounded pool, errors with names."""
