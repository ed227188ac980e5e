"""Provenance beside images, stored as BuildKit stores it."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture
def project(busybox_image, context: Path) -> Path:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nARG WHO\nRUN echo $WHO > /who\n")
    return context


def attested(layout: Path) -> tuple[dict, dict, dict]:
    """Return the index, the attestation manifest and the statement of an OCI layout."""

    def blob(digest: str) -> dict:
        return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    index = blob(entry["digest"])
    image, beside = index["manifests"]
    assert beside["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert beside["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = blob(beside["digest"])
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.in-toto+json"
    assert layer["annotations"] == {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
    assert blob(manifest["config"]["digest"])["rootfs"]["diff_ids"] == [layer["digest"]]
    statement = blob(layer["digest"])
    (subject,) = statement["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == image["digest"]
    assert subject["name"].startswith("pkg:docker/")
    return index, manifest, statement


@pytest.mark.parametrize("mode", ["min", "max"])
def test_provenance(pybuild, project, tmp_path, peers, mode) -> None:
    layout = tmp_path / "layout"
    words = ["--build-arg", "WHO=somebody", "--label", "a=b", "--secret", "id=HOME"]
    flag = f"--provenance=mode={mode},builder-id=https://ci.example/1"
    pybuild("-t", "x:1", *words, flag, "-o", f"type=oci,tar=false,dest={layout}", project)
    _, _, statement = attested(layout)
    predicate = statement["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert details["builder"]["id"] == "https://ci.example/1"
    assert details["metadata"]["startedOn"] < details["metadata"]["finishedOn"]
    (base,) = definition["resolvedDependencies"]
    assert base["uri"].startswith("pkg:docker/busybox@test?platform=linux%2F")
    parameters = definition["externalParameters"]["request"]
    assert definition["externalParameters"]["configSource"] == {"path": "Dockerfile"}
    if mode == "max":
        assert parameters["args"] == {"build-arg:WHO": "somebody", "label:a": "b"}
        assert parameters["secrets"] == [{"id": "HOME", "optional": True}]
        assert "RUN echo" in definition["internalParameters"]["buildConfig"]["dockerfile"]
    else:
        assert "somebody" not in json.dumps(parameters)
    assert peers("skopeo")("inspect", f"oci:{layout}:1"), "the image is found beside it"
    loaded = type(pybuild)(tmp_path / "other")
    assert "x:1" in loaded("load", "-i", layout).stdout
    assert loaded("run", "--rm", "x:1", "cat", "/who").stdout == "somebody\n"


def test_at_a_registry(pybuild, project, start_registry, peers) -> None:
    name = f"{start_registry().host}/x:1"
    pybuild("-t", name, "--provenance=true", "--push", project)
    text = peers("skopeo")("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    entries = json.loads(text)["manifests"]
    assert [entry["platform"]["os"] for entry in entries] == ["linux", "unknown"]
    # What we say of it is what skopeo sees.
    assert pybuild("manifest", "inspect", name).stdout == text
    assert pybuild("imagetools", "inspect", "--raw", name).stdout == text
    said = pybuild("buildx", "imagetools", "inspect", name).stdout
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert f"MediaType: {json.loads(text)['mediaType']}\nDigest:    {digest}\n" in said
    for entry in entries:
        assert f"  Name:        {name.removesuffix(':1')}@{entry['digest']}\n" in said
    platform = "/".join((entries[0]["platform"]["os"], entries[0]["platform"]["architecture"]))
    assert f"  Platform:    {platform}\n  Attested:    https://slsa.dev/provenance/v1\n" in said
    assert f"    vnd.docker.reference.digest: {entries[0]['digest']}\n" in said
    form = ["--format", "{{.Provenance.SLSA.buildDefinition.buildType}} {{json .SBOM}}"]
    assert pybuild("imagetools", "inspect", *form, name).stdout.endswith("definitions.md {}\n")
    details = json.loads(pybuild("imagetools", "inspect", "--format=json", name).stdout)
    assert details["Manifest"]["manifests"] == entries
    assert details["Image"]["rootfs"]["type"] == "layers"
    single = f"{name}@{entries[0]['digest']}"
    assert pybuild("imagetools", "inspect", single).stdout.count("Digest:") == 1
    absent = pybuild("imagetools", "inspect", f"{name}2", check=False)
    assert (absent.returncode, "manifest unknown" in absent.stderr) == (1, True)
    assert pybuild("run", "--rm", "--pull=always", name, "true").returncode == 0
    assert pybuild("system", "check", "--deep").returncode == 0
    assert pybuild.image_names() == {"busybox:test", name}


def test_it_is_off_unless_asked(pybuild, project, tmp_path) -> None:
    layout = tmp_path / "layout"
    pybuild("--provenance=false", "-o", f"type=oci,tar=false,dest={layout}", project)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["mediaType"].endswith("image.manifest.v1+json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--provenance=most", 'invalid mode "most"\nhint: there is min and max'),
        ("--provenance=mode=max,version=v0.2", 'invalid version "v0.2"\nhint: there is v1'),
        (
            "--attest=type=provenance,color=red",
            'unknown key "color"\nhint: there is mode, version, builder-id, reproducible, '
            "inline-only, filename, disabled",
        ),
        ("--provenance=reproducible=2", 'invalid reproducible "2"\nhint: write true or false'),
        ("--provenance=filename=../x", 'invalid filename "../x"'),
        (
            "--sbom=color=red",
            'unknown key "color"\nhint: there is generator, disabled, inline-only',
        ),
        ("--sbom=generator=A B", "--sbom: generator: invalid reference 'A B'"),
        ("--sbom=generator=x,extra=1", "inline-only and, for the generator, names of upper case"),
        ("--attest=type=signature", 'unknown type "signature"\nhint: there is provenance and sbom'),
        ("--attest=mode=max", '"mode=max" names no type'),
        ("--attest=type=sbom --sbom=true", "duplicate attestation field sbom"),
        ("--attest=type=sbom --attest=type=sbom", "duplicate attestation field sbom"),
        ("--attest=type=provenance,disabled=perhaps", 'invalid disabled "perhaps"'),
    ],
)
def test_wrong_values(pybuild, context, words, message) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    values = [f"--{word}" for word in words.removeprefix("--").split(" --")]
    done = pybuild(*values, context, check=False)
    assert (done.returncode in (1, 2), "COPY" in done.stderr) == (True, False)
    assert message in done.stderr


def predicates(layout: Path) -> list[tuple[str, dict]]:
    """Return what is attested in an OCI layout: the predicates' types and the predicates."""

    def blob(digest: str) -> dict:
        return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    document = blob(entry["digest"])
    if "manifests" not in document:
        return []
    layers = blob(document["manifests"][1]["digest"])["layers"]
    statements = [blob(layer["digest"]) for layer in layers]
    for layer, statement in zip(layers, statements, strict=True):
        assert layer["annotations"] == {"in-toto.io/predicate-type": statement["predicateType"]}
        (subject,) = statement["subject"]
        assert f"sha256:{subject['digest']['sha256']}" == document["manifests"][0]["digest"]
    return [(statement["predicateType"], statement["predicate"]) for statement in statements]


def test_packages_beside_provenance(pybuild, project, tmp_path) -> None:
    (project / "status").write_text("Package: bash\nStatus: install ok installed\nVersion: 5.2\n")
    text = (project / "Dockerfile").read_text()
    (project / "Dockerfile").write_text(f"{text}COPY status /var/lib/dpkg/status\n")
    layout = tmp_path / "layout"
    output = ["-o", f"type=oci,tar=false,dest={layout}", project]
    words = ["--attest=type=provenance,mode=max,reproducible=true", "--attest=type=sbom"]
    pybuild("-t", "x:1", *words, *output)
    (spdx, packages), (slsa, provenance) = predicates(layout)
    assert (spdx, slsa) == ("https://spdx.dev/Document", "https://slsa.dev/provenance/v1")
    (package,) = packages["packages"]
    assert (package["name"], package["versionInfo"]) == ("bash", "5.2")
    assert provenance["runDetails"]["metadata"]["buildkit_reproducible"] is True
    shutil.rmtree(layout)
    words = ["--attest=type=provenance,disabled=true", "--attest=type=sbom,disabled=true"]
    pybuild("-t", "x:1", *words, *output)
    assert predicates(layout) == []


def test_files_beside_a_root(pybuild, context, tmp_path) -> None:
    """Without an image the attestations are files, about all files that are written."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /dir/\n")
    (context / "status").write_text("x")
    out, name = tmp_path / "out", "provenance.json"
    words = ["--provenance=min", "--sbom=true"]
    pybuild(*words, "-o", out, context)
    digits = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (out / "dir").iterdir()
    }
    for file, kind in ((name, "slsa.dev/provenance/v1"), ("sbom.spdx.json", "spdx.dev/Document")):
        assert (out / file).stat().st_mode & 0o777 == 0o600
        statement = json.loads((out / file).read_text())
        assert statement["predicateType"] == f"https://{kind}"
        assert {e["name"]: e["digest"]["sha256"] for e in statement["subject"]} == digits
    words = ["--attest=type=provenance,filename=how.json", "--attest=type=sbom,inline-only=true"]
    both = ["--platform", "linux/amd64,linux/arm64"]
    archive = tmp_path / "out.tar"
    pybuild(*words, *both, "-o", f"type=tar,dest={archive}", context)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert [name for name in names if name.endswith("json")] == [
        "linux_amd64/how.json",
        "linux_arm64/how.json",
    ]
    flat = tmp_path / "flat"
    pybuild(*words, *both, "-o", f"type=local,dest={flat},platform-split=false", context)
    assert {path.name for path in flat.iterdir()} == {
        *("dir", "how.linux_amd64.json", "how.linux_arm64.json")
    }


# --- generators

GENERATOR = """\
FROM busybox:test
ENV KIND=https://spdx.dev/Document
COPY --chmod=755 <<'END' /scan
#!/bin/sh -e
list() {
  name=$(basename "$1")
  echo "{\\"predicateType\\":\\"$KIND\\",\\"predicate\\":{\\"name\\":\\"$name\\",
    \\"comment\\":\\"$(ls "$1" | tr '\\n' ' ')$BUILDKIT_SCAN_EXTRA\\"}}" \\
    > "$BUILDKIT_SCAN_DESTINATION/$name.spdx.json"
}
touch "$BUILDKIT_SCAN_SOURCE/new" 2> /dev/null && exit 3
echo scratch > /tmp/scratch
list "$BUILDKIT_SCAN_SOURCE"
test -z "$BUILDKIT_SCAN_SOURCE_EXTRAS" || for root in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do
  list "$root"
done
END
ENTRYPOINT ["/scan"]
"""


@pytest.fixture
def generator(pybuild, busybox_image, tmp_path) -> Path:
    """Make the image gen:1, which lists the names in each root; return its context."""
    folder = tmp_path / "generator"
    folder.mkdir()
    (folder / "Dockerfile").write_text(GENERATOR)
    pybuild("-t", "gen:1", folder)
    return folder


def test_a_generator(pybuild, generator, context, tmp_path, peers) -> None:
    (context / "Dockerfile").write_text(
        "ARG BUILDKIT_SBOM_SCAN_STAGE=tools\nFROM busybox:test AS tools\nRUN touch /tool\n"
        "FROM tools AS other\nARG BUILDKIT_SBOM_SCAN_STAGE=false\nRUN touch /other\n"
        "FROM busybox:test AS never\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN false\n"
        "FROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT\nCOPY --from=other /other /\n"
    )
    (context / "file").touch()
    layout = tmp_path / "layout"
    words = ["-t", "x:1", "-o", f"type=oci,tar=false,dest={layout}"]
    words += ["--sbom=generator=gen:1,EXTRA=and more", "--provenance=min"]
    pybuild(*words, "--build-arg", "BUILDKIT_SBOM_SCAN_CONTEXT=true", context)
    *lists, (slsa, _) = predicates(layout)
    assert slsa == "https://slsa.dev/provenance/v1"
    assert {kind for kind, _ in lists} == {"https://spdx.dev/Document"}
    found = {each["name"]: each["comment"].split() for _, each in lists}
    assert list(found) == ["sbom", "sbom-context", "sbom-tools"], "the image's own comes first"
    assert found["sbom"] == ["other", "and", "more"]
    assert found["sbom-context"][:2] == ["Dockerfile", "file"]
    assert "tool" in found["sbom-tools"]
    assert peers("skopeo")("inspect", f"oci:{layout}:1")
    # A scan is a step: cached, and run again when what it looks at has changed.
    again = pybuild(*words, context)
    assert "[sbom] generate with gen:1" in again.stderr
    assert not [kind for kind, each in predicates(layout) if each.get("name") == "sbom-context"]
    assert pybuild(*words, context).stderr.count("CACHED") == again.stderr.count("CACHED") + 1
    assert "BUILDKIT_SBOM" not in pybuild("inspect", "-f", "{{json .Config}}", "x:1").stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "list() {",
            "exit 4\nlist() {",
            'process "/scan" did not complete successfully: exit code: 4',
        ),
        ("list() {", "exit 0\nlist() {", "--sbom: the generator has written nothing"),
        ('ENTRYPOINT ["/scan"]', "CMD []", "--sbom: generator gen:1 has no command"),
    ],
)
def test_generators_that_fail(pybuild, generator, context, old, new, message) -> None:
    text = GENERATOR.replace(old, new)
    assert text != GENERATOR
    (generator / "Dockerfile").write_text(text)
    pybuild("-t", "gen:1", generator)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    done = pybuild("-t", "x:1", "--sbom=generator=gen:1", context, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "x:1" not in pybuild.image_names()


def test_a_locked_generator(pybuild, generator, context) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    pybuild("lock", context)
    words = ["--locked", "--sbom=generator=gen:1", context]
    done = pybuild(*words, check=False)
    assert "gen:1 (linux/" in done.stderr
    assert "is not in Dockerfile.lock" in done.stderr
    pybuild("lock", *words[1:])
    pybuild(*words)
