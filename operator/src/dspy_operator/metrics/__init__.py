"""Prometheus: at most four queries a look, counters turned into looks; the only user of prometheus_api_client.

Called by `reconcile/observe.py`. An outage is a value (`Unmeasured`), never an exception.
"""
