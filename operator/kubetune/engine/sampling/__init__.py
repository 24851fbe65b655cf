"""Suggestions made in processes of their own: `pool` here, `process` there, `wire` between them."""
