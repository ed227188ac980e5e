"""`--sbom`: the packages of an image as an SPDX document.

Source: spdx.github.io/spdx-spec/v2.3; package URLs: github.com/package-url/purl-spec;
BuildKit docs/attestations/sbom.md for the predicate's type.
"""

import re
from urllib.parse import quote

from builder.errors import BuildError, NotSupportedYet
from builder.export.attestations import Statement
from builder.packages import Package
from builder.request import FALSE, TRUE, BuildRequest, Place
from store.digest import Digest, hex_of

PREDICATE = "https://spdx.dev/Document"
_KEYS = ("generator", "disabled")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*\Z")
_EPOCH = "1970-01-01T00:00:00Z"


def check_sbom(place: Place | None) -> None:
    """Raise BuildError for a wrong value of --sbom."""
    for key, value in place.options if place is not None else ():
        if key == "generator":
            raise NotSupportedYet("--sbom: generator", hint="--sbom=true lists dpkg, apk, pip, npm")
        if key not in _KEYS:
            raise BuildError(f'--sbom: unknown key "{key}"', hint=f"there is {', '.join(_KEYS)}")
        if key == "disabled" and value.lower() not in (*TRUE, *FALSE):
            raise BuildError(f'--sbom: invalid disabled "{value}"', hint="write true or false")


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
    return Statement(PREDICATE, document)


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
