"""API objects turned into what people want to see: frozen dataclasses, pure functions, time handed in."""
