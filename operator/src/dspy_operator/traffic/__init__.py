"""Moving traffic: what a split of decisions looks like in the cluster, and back."""
