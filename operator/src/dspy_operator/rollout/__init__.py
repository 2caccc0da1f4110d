"""The functional core: what to do next, decided from one frozen observation."""
