"""The only place that knows SQL, Optuna's schema and the migrations."""
