"""The kopf surface: every watch event of a resource or of a child of it puts its key on the worklist, nothing else."""
