"""Feedback tokens: what lets any pod believe a client that says how good an answer was.

Pure, no state: `v1.<payload>.<HMAC-SHA256>`. Time is handed in.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "v1"
LIFETIME_SECONDS: Final = 72 * 3600
MIN_SECRET_BYTES: Final = 16
MAX_TOKEN_CHARS: Final = 1024


class TokenError(ValueError):
    """The token is forged, expired, or of another program."""


@dataclass(frozen=True)
class Feedback:
    """What a token says: whose answer of which revision may be scored, until when (Unix seconds)."""

    program: str
    revision: str
    request_id: str
    expires: int
    user: str


@dataclass(frozen=True)
class Keys:
    """Keys derived from one secret: for tokens, and for the user's pseudonym."""

    token: bytes
    user: bytes

    def get_user(self, value: str) -> str:
        """The pseudonym (16 hex) of a user header's value; it cannot be turned back without the key."""
        return hmac.new(self.user, value.encode(), hashlib.sha256).hexdigest()[:16]


def find_keys(feedback_key: str, api_key: str) -> Keys | None:
    """Keys from the configured feedback secret, else from the primary's API key, else none.

    A secret of less than 16 bytes protects nothing and counts as none.
    """
    secret = next((s.encode() for s in (feedback_key, api_key) if len(s.encode()) >= MIN_SECRET_BYTES), None)
    return None if secret is None else build_keys(secret)


def build_keys(secret: bytes) -> Keys:
    """The keys that a secret gives."""
    return Keys(token=_derive(secret, b"feedback-token"), user=_derive(secret, b"user"))


def _derive(secret: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) with an empty salt and one block of output."""
    pseudo_random = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(pseudo_random, b"dspy-server/" + purpose + b"\x01", hashlib.sha256).digest()


def sign(keys: Keys, feedback: Feedback) -> str:
    """The token for one answer."""
    fields = [feedback.program, feedback.revision, feedback.request_id, feedback.expires, feedback.user]
    payload = _encode(json.dumps(fields, separators=(",", ":")).encode())
    return f"{PREFIX}.{payload}.{_mac(keys, payload)}"


def verify(keys: Keys, token: str, *, program: str, now: float) -> Feedback:
    """What a genuine, unexpired token of `program` says.

    Raises:
        TokenError: with a sentence that gives an attacker nothing.
    """
    parts = token.split(".")
    if len(token) > MAX_TOKEN_CHARS or len(parts) != 3 or parts[0] != PREFIX:  # noqa: PLR2004 - v1.payload.mac
        raise TokenError("not a feedback token")
    if not hmac.compare_digest(_mac(keys, parts[1]).encode(), parts[2].encode()):
        raise TokenError("not a feedback token of this deployment")
    try:
        feedback = Feedback(*json.loads(base64.urlsafe_b64decode(parts[1] + "==")))
    except (binascii.Error, TypeError, ValueError) as exc:
        raise TokenError("not a feedback token") from exc
    if feedback.program != program:
        raise TokenError("a feedback token of another program")
    if feedback.expires < now:
        raise TokenError("the feedback token has expired")
    return feedback


def _mac(keys: Keys, payload: str) -> str:
    return _encode(hmac.new(keys.token, f"{PREFIX}.{payload}".encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
