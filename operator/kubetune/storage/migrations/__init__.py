"""Migrations of kubetune's own tables, run by `storage.migrate`. Optuna's tables have Optuna's."""
