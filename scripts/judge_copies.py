#!/usr/bin/env python3
"""Build the cases of testdata/copies with docker's BuildKit and say which differ.

usage: judge_copies.py ROOTFS.tar [WORD…]     docker as found on PATH, DOCKER_HOST as set

ROOTFS.tar is the busybox root file system of the tests (tests/integration/conftest.py). With
words, only cases that hold one of them. Cases with a `source` are tried too: they are not known to
be the same, and the exit code is not theirs.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).parents[1]
BASE_NAME = "judge-copies-base"


def load(path: Path) -> ModuleType:
    """Return a module of the tests."""
    sys.path.insert(0, str(PROJECT))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def docker(*args: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run docker with BuildKit."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    return subprocess.run(
        ["docker", *args], input=input, capture_output=True, env=environment, check=False
    )


def tree_of(
    image: str, apply_layer: Callable[[tarfile.TarFile, dict[str, str]], None]
) -> dict[str, str]:
    """Return what an image holds, as the tests describe it."""
    saved = docker("save", image).stdout
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(saved)) as outer:

        def read(name: str) -> io.BytesIO:
            stream = outer.extractfile(name)
            assert stream is not None
            return io.BytesIO(stream.read())

        for layer in json.load(read("manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=read(layer)) as tar:
                apply_layer(tar, found)
    return found


def judged(
    case: dict[str, Any], made: subprocess.CompletedProcess[bytes], conftest: ModuleType
) -> str:
    """Return `same`, or in what the image differs from what the case says."""
    if made.returncode != 0:
        return f"cannot: {made.stderr.decode().strip().splitlines()[-1]}"
    found = tree_of(made.stdout.decode().strip(), conftest.apply_layer)
    expected = case.get("files", {})
    seen = {path: found.get(path, "").split("\0")[0] for path in expected}
    surplus = [path for path in case.get("absent", ()) if path in found]
    return "same" if seen == expected and not surplus else f"DIFFERENT: {seen} {surplus}"


def main() -> int:
    """Judge the cases; the exit code is 1 when one differs."""
    rootfs, *words = sys.argv[1:]
    conftest = load(PROJECT / "tests/integration/conftest.py")
    cases = load(PROJECT / "tests/integration/test_copy.py")
    docker("import", rootfs, BASE_NAME)
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        cases.make_source(Path(folder))
        for case in cases.CASES:
            if words and not any(word in case["dockerfile"] for word in words):
                continue
            text = cases.BASE.format(base=BASE_NAME) + case["dockerfile"] + "\n"
            made = docker("build", "-q", "--network=host", "-f-", folder, input=text.encode())
            verdict = judged(case, made, conftest)
            sys.stdout.write(f"{verdict}  {case['dockerfile']!r}\n")
            differing += verdict != "same" and "source" not in case
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
