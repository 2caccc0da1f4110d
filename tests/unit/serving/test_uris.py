import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_server.uris import Scheme, Uri, UriError, is_uri, parse_uri

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("https://Models.example.com/a/b.json", Uri(Scheme.HTTPS, "models.example.com", "/a/b.json")),
        ("https://h:8443/a?sig=x%2B", Uri(Scheme.HTTPS, "h:8443", "/a", query="sig=x%2B")),
        ("https://[2001:db8::1]:8443/a", Uri(Scheme.HTTPS, "[2001:db8::1]:8443", "/a")),
        (f"oci://r.io:5000/team/p@{DIGEST}", Uri(Scheme.OCI, "r.io:5000", "team/p", digest=DIGEST)),
        (f"oci://r.io/p:v2@{DIGEST}", Uri(Scheme.OCI, "r.io", "p", digest=DIGEST)),
        ("s3://bucket/a/b c.json".replace(" ", "%20"), Uri(Scheme.S3, "bucket", "a/b%20c.json")),
        ("gs://my_bucket/p.json", Uri(Scheme.GS, "my_bucket", "p.json")),
        ("file:///mnt/my%20models/p.json", Uri(Scheme.FILE, "", "/mnt/my models/p.json")),
    ],
)
def test_every_kind_of_uri_is_read(text: str, uri: Uri) -> None:
    assert is_uri(text)
    assert parse_uri(text) == uri


@pytest.mark.parametrize(
    "text",
    [
        "http://h/a",
        "ftp://h/a",
        "https:///a",
        "https://user:hunter2@h/a",
        "https://h/a#fragment",
        "https://h/a b",
        "https://h/a\nhost: x",
        "https://h\\@evil/a",
        "https://h/é",
        "https://[::1",
        "https://h/" + "a" * 1024,
        "oci://r.io/p:v2",
        "oci://r.io/P@" + DIGEST,
        "oci://r.io/../p@" + DIGEST,
        f"oci://r.io/p@{DIGEST}?x=1",
        "oci://r.io/p@sha512:" + "a" * 64,
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/a/../b",
        "s3://bucket//b",
        "s3://B/b",
        "s3://bucket/b?x=1",
        "file://host/a",
        "file:///a/../etc/passwd",
        "file:///a/%2e%2e/etc/passwd",
        "file:///a%00b",
        "file:a://",
        "",
    ],
)
def test_what_is_no_uri_of_an_artifact_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UriError) as caught:
        parse_uri(text)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=60) | st.from_regex(r"(https|oci|s3|gs|file)://[!-~]{0,40}", fullmatch=True))
def test_any_text_is_a_uri_or_an_error(text: str) -> None:
    try:
        uri = parse_uri(text)
    except UriError:
        return
    assert "@" not in uri.host
    assert ".." not in uri.path.split("/") or uri.scheme is Scheme.HTTPS


def test_a_signature_in_the_query_is_not_shown() -> None:
    assert str(parse_uri("https://h/p.json?X-Amz-Signature=hidden")) == "https://h/p.json"


def test_a_mounted_path_is_no_uri() -> None:
    assert not is_uri("/etc/dspy/programs/0/program.json")
