"""The pinned versions of versions.env, by name.

The first thing that every build and every image asks.
"""

from pathlib import Path

VERSIONS_FILE = Path(__file__).with_name("versions.env")


def parse_versions(text: str) -> dict[str, str]:
    """Turn lines `NAME=value` into a dict; blank lines and comments are skipped.

    Raises:
        ValueError: a line is neither, or a name comes twice.
    """
    versions: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not (equals and name.isidentifier() and value) or name in versions:
            raise ValueError(f"line {number} is not a new NAME=value: {line!r}")
        versions[name] = value
    return versions


def get_version(name: str) -> str:
    """The pinned version of one thing; KeyError when it has none."""
    return parse_versions(VERSIONS_FILE.read_text())[name]
