"""Rolls out compiled DSPy programs on Kubernetes. `reconcile/reconciler.py` is the page to read first."""
