"""All Prometheus metrics, in one place; docs/metrics.md tells their users what they mean."""
