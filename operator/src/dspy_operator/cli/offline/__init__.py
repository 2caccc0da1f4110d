"""The decision core without a cluster: recorded looks judged, records replayed, rollouts planned.

Pure, but for the files that `manifests` reads.
"""
