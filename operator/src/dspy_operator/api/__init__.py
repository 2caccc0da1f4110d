"""What users write: the two custom resources, their schema, and every string that several places share."""
