"""scripts/debian_rootfs.py: which of a machine's apt sources go into an image, and how."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "debian_rootfs.py"

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://mirror.example/disabled
Suites: bookworm
Components: main

Types: deb
URIs: https://other.example/vendor
Suites: stable
Components: main
"""
ONE_LINE = """\
# deb http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-security main contrib # why
deb-src http://mirror.example/debian bookworm main
"""


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("debian_rootfs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """Return a folder like a machine's /etc/apt."""
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list.d" / "debian.sources").write_text(DEB822)
    (folder / "sources.list").write_text(ONE_LINE)
    return folder


def test_only_enabled_binary_sources_of_the_release_are_taken(
    script: ModuleType, apt: Path
) -> None:
    assert script.host_sources("bookworm", apt) == [
        {
            "types": "deb",
            "uris": "http://mirror.example/debian",
            "suites": "bookworm-security",
            "components": "main contrib",
            "architectures": "amd64",
            "signed-by": "/k.gpg",
        },
        {
            "types": "deb",
            "uris": "http://mirror.example/debian",
            "suites": "bookworm bookworm-updates",
            "components": "main",
            "signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg",
        },
    ]


def test_a_release_that_no_source_names_is_refused(script: ModuleType, apt: Path) -> None:
    with pytest.raises(SystemExit, match="name no buster"):
        script.make(apt / "out.tar", "buster", apt)
    assert not (apt / "out.tar").exists()


def test_what_is_rendered_is_read_back(script: ModuleType, apt: Path) -> None:
    sources = script.host_sources("bookworm", apt)
    assert list(script.stanzas(script.render(sources))) == sources


def test_a_key_inside_a_source_is_no_file(script: ModuleType) -> None:
    text = "Types: deb\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n /notafile\n"
    (fields,) = script.stanzas(text)
    assert script.keyrings(fields) == []
    assert script.keyrings({"signed-by": "/a.gpg /b.gpg"}) == ["/a.gpg", "/b.gpg"]
    assert script.keyrings({"signed-by": "0123ABCD"}) == []


def test_a_vendors_keyring_is_taken_along_and_https_gets_certificates(script: ModuleType) -> None:
    source = {"uris": "https://mirror.example/debian", "signed-by": "/etc/apt/keyrings/v.gpg"}
    command = script.mmdebstrap_command("bookworm", [source], Path("/out.tar"))
    assert "--setup-hook=upload /etc/apt/keyrings/v.gpg /etc/apt/keyrings/v.gpg" in command
    assert "--include=ca-certificates" in command
    assert command[-3:] == ["bookworm", "/out.tar", "-"]
