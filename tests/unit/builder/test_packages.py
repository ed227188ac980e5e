"""The packages of a root file system, and their SPDX document."""

import json
import os
from pathlib import Path

import pytest

from builder.export.sbom import package_url, sbom_of
from builder.packages import Package, packages_of
from store.digest import digest_of

DPKG = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b7
Description: shell
 Version: 1 is no field

Package: gone
Status: deinstall ok config-files
Version: 1
"""
APK = "C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\np:so:libc=1\n\nP:zlib\nV:1.3-r0\nL:Zlib\n"
METADATA = "Metadata-Version: 2.1\nName: Flask_Thing\nVersion: 3.0\n\nName: not-this\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def write(name: str, text: str) -> None:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("var/lib/dpkg/status", DPKG)
    write("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\n")
    write("var/lib/dpkg/status.d/tzdata.md5sums", "Package: none\nVersion: 1\n")
    write("lib/apk/db/installed", APK)
    write("usr/lib/python3/site-packages/flask-3.0.dist-info/METADATA", METADATA)
    write(
        "app/node_modules/@scope/it/package.json", json.dumps({"name": "@scope/it", "version": "1"})
    )
    write("app/node_modules/bad/package.json", "{")
    write("app/node_modules/odd/package.json", json.dumps({"name": 1, "version": []}))
    write("app/package.json", json.dumps({"name": "app", "version": "1"}))
    os.symlink("/etc/passwd", tmp_path / "root/var/lib/dpkg/status.d/link")
    os.mkfifo(tmp_path / "root/var/lib/dpkg/status.d/fifo")
    return tmp_path / "root"


def found(root: Path) -> list[Package]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return packages_of(fd)
    finally:
        os.close(fd)


def test_packages(root: Path) -> None:
    assert [(p.manager, p.name, p.version) for p in found(root)] == [
        ("apk", "musl", "1.2.4-r2"),
        ("apk", "zlib", "1.3-r0"),
        ("deb", "bash", "5.2.15-2+b7"),
        ("deb", "tzdata", "2024a"),
        ("npm", "@scope/it", "1"),
        ("pypi", "Flask_Thing", "3.0"),
    ]


def test_links_lead_nowhere_else(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "node_modules/x").mkdir(parents=True)
    (outside / "node_modules/x/package.json").write_text('{"name": "x", "version": "1"}')
    os.symlink(outside, root / "linked")
    assert not [p for p in found(root) if p.name == "x"]


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (Package("deb", "g++", "4:12", "amd64"), "pkg:deb/debian/g%2B%2B@4%3A12?arch=amd64"),
        (Package("pypi", "Flask_Thing", "3.0"), "pkg:pypi/flask-thing@3.0"),
        (Package("npm", "@scope/it", "1"), "pkg:npm/%40scope/it@1"),
        (Package("apk", "musl", "1-r2", "x86_64"), "pkg:apk/alpine/musl@1-r2?arch=x86_64"),
    ],
)
def test_package_urls(package: Package, url: str) -> None:
    assert package_url(package) == url


def test_the_document(root: Path) -> None:
    statement = sbom_of(found(root), digest_of(b"x"), "2024-01-02T03:04:05.678Z")
    document = json.loads(json.dumps(statement.predicate))
    assert statement.predicate_type == "https://spdx.dev/Document"
    assert document["creationInfo"]["created"] == "2024-01-02T03:04:05Z"
    rows = document["packages"]
    assert len({row["SPDXID"] for row in rows}) == len(rows) == len(document["relationships"]) == 6
    assert rows[0]["licenseDeclared"] == "MIT"
    assert rows[0]["externalRefs"][0]["referenceType"] == "purl"
