"""How things look in Kubernetes: pure builders, one file per kind, plain dicts out."""
