"""Who gets the canary: a sticky, monotone, salted hash of the user.

Pure. `snapshot.py` asks it once a request.
"""

import hashlib
from typing import Final

BUCKETS: Final = 10_000


def get_bucket(program: str, canary_revision: str, user: str) -> int:
    """The bucket of a user, 0 … 9999: the same in every pod, another order for each canary.

    The salt is the canary's revision, so that it is not always the same tenth of the users that goes first.
    """
    digest = hashlib.sha256(f"{program}|{canary_revision}|{user}".encode()).digest()
    return int.from_bytes(digest[:8]) % BUCKETS


def is_canary(program: str, canary_revision: str, user: str, weight: int) -> bool:
    """Whether `user` gets the canary at `weight` percent; a rising weight only ever adds users."""
    return get_bucket(program, canary_revision, user) < weight * (BUCKETS // 100)
