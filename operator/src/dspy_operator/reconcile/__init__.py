"""The imperative shell: observe, decide, record, execute. The only place that reads a clock and the world."""
