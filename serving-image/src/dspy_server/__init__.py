"""Serves a compiled DSPy program in production; `counter` is what a program itself may use.

`counter(name)` lives in `metrics.py`; it is found here so that user code needs one import and no private name.
"""

from dspy_server.metrics import UserCounter, counter

__all__ = ["UserCounter", "counter"]
