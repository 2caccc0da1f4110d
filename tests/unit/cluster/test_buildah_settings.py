"""What a build by a Dockerfile is told of this machine: how pip reaches the package index, and no path."""

import configparser
from pathlib import Path

from tests.cluster.buildah_images import parse_settings, write_settings


def test_the_options_of_the_network_are_taken_and_the_environment_counts_most() -> None:
    lines = [
        ":env:.index-url='https://index.example.com/simple'",
        "global.cert='/authorities.pem'",
        "global.index-url='https://other.example.com/simple'",
        "global.find-links='/wheels'",
        "download.proxy='http://proxy.example.com'",
        "install.extra-index-url='\\nhttps://a.example.com\\nhttps://b.example.com'",
    ]
    assert parse_settings(lines) == {
        "cert": "/authorities.pem",
        "index-url": "https://index.example.com/simple",
        "extra-index-url": "\nhttps://a.example.com\nhttps://b.example.com",
    }


def test_the_authorities_come_along_and_many_values_stay_many(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text("an authority")
    folder = tmp_path / "pip"
    folder.mkdir()
    more = "\nhttps://a.example.com/%20\nhttps://b.example.com"
    write_settings(folder, {"cert": str(tmp_path / "own.pem"), "extra-index-url": more})
    parser = configparser.RawConfigParser()
    parser.read(folder / "pip.conf")
    assert dict(parser["global"]) == {"cert": "/etc/xdg/pip/authorities.pem", "extra-index-url": more}
    assert (folder / "authorities.pem").read_text() == "an authority"


def test_a_machine_without_settings_gives_none(tmp_path: Path) -> None:
    assert parse_settings([]) == {}
    write_settings(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["pip.conf"]
