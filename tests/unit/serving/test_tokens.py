import pytest

from dspy_server.tokens import Feedback, Keys, TokenError, find_keys, sign, verify

SECRET = "0123456789abcdef"
FEEDBACK = Feedback("triage", "rev0", "r1", 1000, "")


def get_keys(secret: str = SECRET) -> Keys:
    keys = find_keys(secret, "")
    assert keys is not None
    return keys


def test_a_token_says_what_was_signed() -> None:
    assert verify(get_keys(), sign(get_keys(), FEEDBACK), program="triage", now=999) == FEEDBACK


def test_a_token_is_the_same_for_every_pod_and_release() -> None:
    assert sign(get_keys(), FEEDBACK).rpartition(".")[2] == "h5CRUKcOBmhgqMJ1xlelNYYSoWe9pFdcJ-t0a7LOoQc"


def test_an_expired_token_is_refused() -> None:
    with pytest.raises(TokenError, match="expired"):
        verify(get_keys(), sign(get_keys(), FEEDBACK), program="triage", now=1001)


def test_a_token_of_another_program_is_refused() -> None:
    with pytest.raises(TokenError, match="another program"):
        verify(get_keys(), sign(get_keys(), FEEDBACK), program="search", now=0)


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(TokenError):
        verify(get_keys("fedcba9876543210"), sign(get_keys(), FEEDBACK), program="triage", now=0)


def test_every_changed_character_is_a_forgery() -> None:
    token = sign(get_keys(), FEEDBACK)
    for index, character in enumerate(token):
        forged = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        if index == len(token) - 1:
            continue  # base64 leaves the last bits of the last character unused
        with pytest.raises(TokenError):
            verify(get_keys(), forged, program="triage", now=0)


@pytest.mark.parametrize(
    "token", ["", "v1", "v1..", "v2.a.b", "v1.e30.x", "v1." + "a" * 2000 + ".b", "ü.ä.ö", "v1.ü.ä"]
)
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(TokenError):
        verify(get_keys(), token, program="triage", now=0)


def test_without_a_feedback_key_the_api_key_is_derived_from() -> None:
    assert find_keys("", SECRET) == find_keys(SECRET, "other-api-key-0123456789")
    assert find_keys("", SECRET) is not None


def test_a_short_secret_is_no_key() -> None:
    assert find_keys("short", "short") is None


def test_a_user_is_a_pseudonym() -> None:
    assert get_keys().get_user("alice@example.com") == get_keys().get_user("alice@example.com")
    assert "alice" not in get_keys().get_user("alice@example.com")
    assert get_keys().get_user("alice") != get_keys("fedcba9876543210").get_user("alice")
