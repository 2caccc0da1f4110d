"""The API server: the only place that imports `kubernetes`.

Called by `reconcile/`, `traffic/`, `handlers/` and `cli/`; objects are plain dicts, rollouts unknown.
"""
