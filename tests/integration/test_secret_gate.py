"""The gate for secrets, for real: no value gets into an image, or into anything in the store."""

import base64
import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

import pybuild as api
from builder.errors import BuildError

pytestmark = pytest.mark.kernel

SECRET = "correct-horse-battery-staple+~~~?"
BASE = "busybox:test"
OTHER = "another-value-of-some-length"
MOUNT = "RUN --mount=type=secret,id=token,env=TOKEN "


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Return what --secret takes for a file with a value and a line end."""
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return f"id=token,src={path}"


@pytest.fixture
def build(pybuild, busybox_image, context):
    """Build a Dockerfile text (`{base}` stands for the base image) as `x`; return the result."""

    def call(text: str, *args: str, **options):
        (context / "Dockerfile").write_text(text.replace("{base}", busybox_image))
        return pybuild("build", "-t", "x", "--progress=plain", *args, context, **options)

    return call


@pytest.fixture
def refused(build, pybuild, store_root):
    """Build what the gate has to stop; return the error and make sure that nothing is left."""

    def call(text: str, *args: str) -> str:
        result = build(text, *args, check=False)
        assert result.returncode == 1, result.stderr
        assert "x:latest" not in pybuild.image_names()
        for shown in (result.stdout, result.stderr):
            assert SECRET not in shown
        assert places_of(store_root) == []
        (shown, *_) = map(
            json.loads, pybuild("builds", "ls", "--format", "json").stdout.splitlines()
        )
        assert shown["Status"] == "failed"
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
        return error.removeprefix("error: ")

    return call


def forms() -> list[bytes]:
    """Return a value as it is, and its base64 by itself."""
    value = SECRET.encode()
    return [
        value,
        base64.b64encode(value)[:-4],
        base64.urlsafe_b64encode(value)[:-4],
        base64.b64encode(b"x" + value)[4:-4],
    ]


def places_of(root: Path) -> list[str]:
    """Return all in a folder that holds the secret: files, names, targets, attributes."""
    found = []
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            data = [os.fsencode(name)]
            data += [
                os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            ]
            if os.path.islink(path):
                data.append(os.fsencode(os.readlink(path)))
            elif os.path.isfile(path):
                data.append(Path(path).read_bytes())
            if any(form in each for form in forms() for each in data):
                found.append(path)
    return found


def test_the_search_of_these_tests_finds(build, secret, store_root) -> None:
    """Were it blind, all of them would pass: with the gate open the store has the value."""
    text = f"FROM {{base}}\n{MOUNT}echo $TOKEN > /a; echo $TOKEN | base64 > /b; ln -s $TOKEN /l\n"
    build(text, "--secret", secret, "--allow-secret-leak")
    names = {os.path.basename(path) for path in places_of(store_root)}
    assert names >= {"a", "b", "l"}


def error_of(root: Path, secret: str, context: Path, text: str, **options: object) -> str:
    """Build in this process what the gate has to stop; return the error, which tells no value."""
    path = Path(secret.partition("src=")[2])
    with pytest.raises(api.BuildError) as raised:
        api.build(
            context,
            root=root,
            text=text.replace("{base}", BASE),
            secrets={"token": path},
            tags="x",
            **options,  # type: ignore[arg-type]
        )
    cause = raised.value.__cause__
    assert isinstance(cause, BuildError)
    for shown in (str(cause), cause.details or "", cause.hint or ""):
        assert SECRET not in shown
    # Parsed Dockerfiles are remembered, whatever stands in them.
    assert SECRET in text or places_of(root) == []
    with api.Engine(str(root)) as engine:
        names = {str(name) for _, found in engine.images() for name in found}
        assert names == {f"docker.io/library/{BASE}"}
    return str(raised.value)


def test_what_a_run_writes(pybuild, busybox_image, context, secret, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar"
    for command, where in (
        ("mkdir -p /srv/app && echo token=$TOKEN > /srv/app/.env", "/srv/app/.env"),
        ("printf x$TOKEN | base64 > /etc/b", "/etc/b"),
        ("(head -c 1048570 /dev/zero; printf %s $TOKEN) > /large", "/large"),
        ("mkdir -p /a/$TOKEN", "/a/**** (its name)"),
        ('ln -s "$TOKEN" /etc/link', "/etc/link (target of the link)"),
        ("echo $TOKEN > /a; ln /a /b; cp /a /c; cp /a /d; cp /a /e", "/a, /c, /d and 1 more"),
    ):
        text = f"FROM {{base}}\nRUN true\n{MOUNT}{command}\nRUN true\n"
        error = error_of(pybuild.root, secret, context, text, output=f"type=oci,dest={archive}")
        assert error == (
            f'Dockerfile:3: the value of secret "token" is in the step\'s layer: {where}'
        )
        assert not archive.exists()


def test_what_the_context_brings(refused, build, secret, context: Path) -> None:
    (context / "app").mkdir()
    (context / "app/.npmrc").write_text(f"//r/:_authToken={SECRET}\n")
    (context / "app/main").write_text("main\n")
    for flags in ("", "--link "):
        error = refused(f"FROM {{base}}\nCOPY {flags}app /app\n", "--secret", secret)
        assert error.startswith("Dockerfile:2: ")
        assert error.endswith("/app/.npmrc")
    (context / ".dockerignore").write_text("**/.npmrc\n")
    build("FROM {base}\nCOPY app /app\n", "--secret", secret)


def test_what_is_compressed(refused, secret, context: Path) -> None:
    (context / "packed").write_bytes(gzip.compress(f"token={SECRET}".encode()))
    error = refused("FROM {base}\nCOPY packed /etc/\n", "--secret", secret)
    assert error.endswith(" is in the step's layer: /etc/packed (compressed)")
    error = refused(f"FROM {{base}}\n{MOUNT}echo $TOKEN | gzip > /z\n", "--secret", secret)
    assert error.endswith(": /z (compressed)")


def test_a_key_for_an_agent(refused, build, context: Path, tmp_path: Path, tool) -> None:
    key = tmp_path / "key"
    subprocess.run([tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (context / "id").write_bytes(key.read_bytes().replace(b"\n", b"\r\n"))
    text = "FROM {base}\nCOPY id /root/\n"
    named = 'the value of secret "ssh:default" is in the step\'s layer: /root/id'
    assert refused(text, "--ssh", f"default={key}").endswith(named)
    (context / "id").write_bytes(b"".join(key.read_bytes().splitlines()[1:-1]))
    assert refused(text, "--ssh", f"default={key}").endswith(named)
    allowed = build(text, "--ssh", f"default={key}", "--allow-secret-leak=ssh:default")
    assert named in allowed.stderr


def test_what_is_written_down(pybuild, busybox_image, context, secret) -> None:
    for text, options, error in (
        ("ARG A\nRUN true\n", {"build_args": {"A": f"x{SECRET}"}}, "--build-arg A"),
        ("", {"labels": {"a": SECRET}}, "--label a"),
        (f"ENV B=1 A={SECRET}\n", {}, "the history of the image"),
        (f"ENV A={SECRET}\nRUN true\n", {}, "the instruction"),
        (f"LABEL a={SECRET}\n", {}, "the history of the image"),
        (f"RUN echo {SECRET}\n", {}, "the instruction"),
        (f"COPY <<E /a\n{SECRET}\nE\n", {}, "the instruction"),
        (f"ONBUILD RUN echo {SECRET}\n", {}, "the config of the image"),
    ):
        found = error_of(pybuild.root, secret, context, f"FROM {{base}}\n{text}", **options)
        line = 1 if "ONBUILD" in text else 3 if "RUN true" in text else 2
        place = "" if options else f"Dockerfile:{line}: "
        assert found == f'{place}the value of secret "token" is in {error}'


def test_what_the_base_brings(build, pybuild, secret) -> None:
    build(f"FROM {{base}}\nENV TOKEN={SECRET}\n")
    pybuild("tag", "x", "base")
    result = build("FROM base\nRUN true\n", "--secret", secret, check=False)
    assert 'Dockerfile:2: the value of secret "token" is in the instruction' in result.stderr
    result = build("FROM base\n", "--secret", secret, check=False)
    assert 'Dockerfile:1: the value of secret "token" is in variable TOKEN' in result.stderr


def test_an_open_gate_is_open_for_that_build_alone(build, pybuild, secret) -> None:
    text = f"FROM {{base}}\n{MOUNT}echo $TOKEN > /a\nRUN true\n"
    says = 'the value of secret "token" is in the step\'s layer: /a'
    for _ in range(2):
        allowed = build(text, "--secret", secret, "--allow-secret-leak=token")
        assert f"SecretLeak: {says} (line 2)" in allowed.stderr
    pybuild("rmi", "x")
    for _ in range(2):
        result = build(text, "--secret", secret, check=False)
        assert f"error: Dockerfile:2: {says}" in result.stderr
        assert "x:latest" not in pybuild.image_names()


def test_a_cached_layer_is_searched_for_a_value_that_is_new(
    build, secret, context: Path, tmp_path: Path
) -> None:
    (context / "a").write_text(SECRET)
    text = "FROM {base}\nCOPY a /a\n"
    build(text)  # no secrets, nothing is searched
    (tmp_path / "other").write_text(OTHER)
    build(text, "--secret", f"id=token,src={tmp_path}/other")
    result = build(text, "--secret", secret, check=False)
    assert 'Dockerfile:2: the value of secret "token" is in the step\'s layer: /a' in result.stderr
    result = build(text, "--secret", secret.replace("id=token", "id=renamed"), check=False)
    assert 'secret "renamed" is in' in result.stderr


def test_other_secrets_stay_refused(build, secret, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(OTHER)
    given = ["--secret", secret, "--secret", f"id=other,src={tmp_path}/other"]
    text = (
        "FROM {base}\nRUN --mount=type=secret,id=other --mount=type=secret,id=token"
        " cat /run/secrets/* > /a\n"
    )
    result = build(text, *given, "--allow-secret-leak=token", check=False)
    assert 'error: Dockerfile:2: the value of secret "other" is in the step' in result.stderr
    result = build(text, *given, "--allow-secret-leak=tokne", check=False)
    assert '--allow-secret-leak: there is no secret "tokne"' in result.stderr
    assert "secrets: other, token" in result.stderr


def test_short_values_are_not_searched_for_and_that_is_said_once(build, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1234567\n")
    text = "FROM {base}\nRUN echo 1234567 > /a\nRUN echo 1234567 > /b\n"
    result = build(text, "--secret", f"id=pin,src={tmp_path}/pin")
    assert result.stderr.count('secret "pin" is shorter than 8 bytes') == 1


def test_a_value_from_a_pipe_is_known_when_it_was_read(build, secret, tmp_path: Path) -> None:
    """One that no step reads is not waited for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    build("FROM {base}\nRUN true\n", "--secret", f"id=token,src={fifo}")
    result = build(
        f"FROM {{base}}\n{MOUNT}echo $TOKEN > /a\n",
        "--secret",
        "id=token,src=/dev/stdin",
        input=SECRET,
        check=False,
    )
    assert 'secret "token" is in the step\'s layer: /a' in result.stderr
