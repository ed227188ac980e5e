"""`--sbom`: the packages of an image as an SPDX document, ours or a generator's.

Source: spdx.github.io/spdx-spec/v2.3; package URLs: github.com/package-url/purl-spec;
BuildKit docs/attestations/sbom.md for the predicate's type.
"""

import json
import os
import re
import stat
from urllib.parse import quote

from builder.errors import BuildError, ExportError
from builder.export.attestations import Statement
from builder.packages import Package
from builder.request import FALSE, TRUE, BuildRequest, Place
from store.digest import Digest, hex_of
from store.errors import InvalidReference
from store.reference import Reference

PREDICATE = "https://spdx.dev/Document"
# Where a generator writes, what it writes of the image itself, and what else it can be told.
OUT = "/run/out"
CORE = "sbom"
PARAMETER = re.compile(r"[A-Z][A-Z0-9_]*")
_FILE_NAME = f"{CORE}.spdx.json"
CYCLONEDX = "https://cyclonedx.org/bom"
_PROVENANCE = "https://slsa.dev/provenance/"
_KEYS = ("generator", "disabled", "inline-only")
_SWITCHES = ("disabled", "inline-only")
_LARGEST_BYTES = 64 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*\Z")
_EPOCH = "1970-01-01T00:00:00Z"


def check_sbom(place: Place | None) -> None:
    """Raise BuildError for a wrong value of --sbom."""
    if place is None:
        return
    generator = place.option("generator")
    allowed = ", ".join(_KEYS)
    if generator is not None:
        allowed += " and, for the generator, names of upper case"
        _check_image(generator)
    for key, value in place.options:
        if generator is not None and PARAMETER.fullmatch(key):
            continue
        if key not in _KEYS:
            raise BuildError(f'--sbom: unknown key "{key}"', hint=f"there is {allowed}")
        if key in _SWITCHES and value.lower() not in (*TRUE, *FALSE):
            raise BuildError(f'--sbom: invalid {key} "{value}"', hint="write true or false")


def _check_image(name: str) -> None:
    try:
        Reference.parse(name)
    except InvalidReference as error:
        raise BuildError(
            f"--sbom: generator: {error}", hint=error.hint or "it is the name of an image"
        ) from error


def is_wanted(request: BuildRequest) -> bool:
    """Tell whether a request asks for a list of packages."""
    return request.sbom is not None and not request.sbom.is_on("disabled")


def sbom_of(packages: list[Package], image_id: Digest, created: str | None) -> Statement:
    """Return the SPDX document of an image; it says the same of the same image at any time."""
    rows = [_package(number, package) for number, package in enumerate(packages)]
    document: dict[str, object] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "sbom",
        "documentNamespace": f"https://pybuild.invalid/spdx/{hex_of(image_id)}",
        "creationInfo": {
            "creators": ["Tool: pybuild"],
            # SPDX knows whole seconds only.
            "created": re.sub(r"\.\d+|(?<=\d)\+00:00", "", created or _EPOCH),
        },
        "packages": rows,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": row["SPDXID"],
            }
            for row in rows
        ],
    }
    return Statement(PREDICATE, document, _FILE_NAME)


def scanned(root_fd: int) -> list[Statement]:
    """Return what a generator wrote into the root file system of its container, the core first.

    A file is an in-toto statement, or SPDX or CycloneDX by itself. Raises ExportError.
    Source: BuildKit exporter/attestation/unbundle.go.
    """
    fd = root_fd
    opened: list[int] = []
    try:
        for name in OUT.strip("/").split("/"):
            fd = os.open(name, _FOLDER, dir_fd=fd)
            opened.append(fd)
        names = sorted(os.listdir(fd), key=lambda name: (name.partition(".")[0] != CORE, name))
        found = [_statement(_read(fd, name), name) for name in names]
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise ExportError(f"--sbom: what the generator wrote cannot be read: {cause}") from error
    finally:
        for each in opened:
            os.close(each)
    if not found:
        raise ExportError(
            "--sbom: the generator has written nothing",
            hint="it has to write $BUILDKIT_SCAN_DESTINATION/NAME.spdx.json",
        )
    return found


def _read(folder_fd: int, name: str) -> bytes:
    with open(os.open(name, _FILE, dir_fd=folder_fd), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ExportError(f"--sbom: the generator's {name} is no file")
        data = file.read(_LARGEST_BYTES + 1)
    if len(data) > _LARGEST_BYTES:
        raise ExportError(f"--sbom: the generator's {name} is larger than 64 MiB")
    return data


def _statement(data: bytes, name: str) -> Statement:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"--sbom: the generator's {name} is not valid JSON") from error
    fields = document if isinstance(document, dict) else {}
    kind = fields.get("predicateType")
    if isinstance(kind, str) and kind and "predicate" in fields:
        if kind.startswith(_PROVENANCE):
            raise ExportError(f"--sbom: the generator's {name} is provenance, not a list")
        return Statement(kind, fields["predicate"], name)
    if "spdxVersion" in fields:
        return Statement(PREDICATE, document, name)
    if fields.get("bomFormat") == "CycloneDX":
        return Statement(CYCLONEDX, document, name)
    raise ExportError(
        f"--sbom: the generator's {name} is no list of packages",
        hint="an in-toto statement, SPDX or CycloneDX, as JSON",
    )


def package_url(package: Package) -> str:
    """Return a package's URL: pkg:deb/debian/bash@5.2-1?arch=amd64."""
    name = package.name
    if package.manager == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()
    path = "/".join(quote(part, safe="") for part in name.split("/"))
    kind = {"deb": "deb/debian", "apk": "apk/alpine"}.get(package.manager, package.manager)
    arch = f"?arch={package.architecture}" if package.architecture else ""
    return f"pkg:{kind}/{path}@{quote(package.version, safe='')}{arch}"


def _package(number: int, package: Package) -> dict[str, object]:
    stem = re.sub(r"[^A-Za-z0-9.-]", "-", package.name)
    known = _LICENSE.match(package.license)
    return {
        "SPDXID": f"SPDXRef-Package-{package.manager}-{stem}-{number}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "sourceInfo": f"from {package.path}",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": package.license if known else "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package_url(package),
            }
        ],
    }
