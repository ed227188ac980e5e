"""Provenance beside images, stored as BuildKit stores it."""

import json
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
    raw = json.loads(peers("skopeo")("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert [entry["platform"]["os"] for entry in raw["manifests"]] == ["linux", "unknown"]
    assert pybuild("run", "--rm", "--pull=always", name, "true").returncode == 0
    assert pybuild("system", "check", "--deep").returncode == 0
    assert pybuild.image_names() == {"busybox:test", name}


def test_it_is_off_unless_asked(pybuild, project, tmp_path) -> None:
    layout = tmp_path / "layout"
    pybuild("--provenance=false", "-o", f"type=oci,tar=false,dest={layout}", project)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["mediaType"].endswith("image.manifest.v1+json")


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("most", 'invalid mode "most"', "min and max"),
        ("mode=max,version=v0.2", 'invalid version "v0.2"', "there is v1"),
        ("mode=max,color=red", 'unknown key "color"', "mode, version, builder-id, disabled"),
    ],
)
def test_wrong_values(pybuild, project, value, message, hint) -> None:
    done = pybuild(f"--provenance={value}", project, check=False)
    assert (done.returncode, "RUN" in done.stderr) == (1, False)
    assert message in done.stderr
    assert hint in done.stderr


def test_packages_beside_provenance(pybuild, project, tmp_path) -> None:
    (project / "status").write_text("Package: bash\nStatus: install ok installed\nVersion: 5.2\n")
    text = (project / "Dockerfile").read_text()
    (project / "Dockerfile").write_text(f"{text}COPY status /var/lib/dpkg/status\n")
    layout = tmp_path / "layout"
    words = ["--sbom=true", "--provenance=min", "-o", f"type=oci,tar=false,dest={layout}"]
    pybuild("-t", "x:1", *words, project)

    def blob(digest: str) -> dict:
        return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    layers = blob(blob(entry["digest"])["manifests"][1]["digest"])["layers"]
    kinds = [layer["annotations"]["in-toto.io/predicate-type"] for layer in layers]
    assert kinds == ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
    (package,) = blob(layers[0]["digest"])["predicate"]["packages"]
    assert (package["name"], package["versionInfo"]) == ("bash", "5.2")
    done = pybuild("--sbom=generator=scan", project, check=False)
    assert "--sbom: generator: not supported yet" in done.stderr
