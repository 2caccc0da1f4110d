"""The API server: the only place that imports `kubernetes`.

Called by `reconcile/`, `traffic/`, `handlers/` and `cli/`; knows objects as plain dicts and nothing of rollouts.
"""
