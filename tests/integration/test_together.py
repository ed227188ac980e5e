"""Several targets in one run of the graph, without a command line."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import imagetree

from builder.build import build
from builder.errors import BuildError, StepsFailed, TargetFailed
from builder.events import Event, StepStarted
from builder.request import BuildRequest, Output, SecretSource
from builder.together import build_targets
from pybuild.engine.entering import state_of
from runtime.cancel import Cancel
from store import journal
from store.importer import import_rootfs
from store.reference import Reference
from store.root import Store

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def store(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all: starting one takes longer than a target."""
    with Store.open(tmp_path_factory.mktemp("together") / "store") as opened:
        with open(busybox_rootfs, "rb") as tar:
            import_rootfs(opened, tar, reference=Reference.parse("busybox:test"))
        yield opened


def request(context: Path, text: str, **more: object) -> BuildRequest:
    return BuildRequest(
        context=str(context),
        dockerfile="-",
        dockerfile_text=text.encode(),
        network="none",
        outputs=more.pop("outputs", (Output("cacheonly"),)),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def steps_of(store: Store, requests: dict[str, BuildRequest]) -> list[str]:
    """Build targets and return the names of their steps."""
    heard: list[Event] = []
    build_targets(store, requests, heard.append, Cancel())
    return [event.name for event in heard if isinstance(event, StepStarted)]


def files_of(archive: Path) -> dict[str, str]:
    return imagetree.lines_of(imagetree.read_oci(archive).files, full=False)


SHARED = """\
FROM busybox:test AS base
COPY a /a
RUN echo ran >> /runs && cat /a > /b
FROM base AS one
RUN echo one > /who
FROM base AS two
RUN echo two > /who
"""


def test_a_shared_step_runs_once(store: Store, context: Path, tmp_path: Path) -> None:
    (context / "a").write_text("1\n")
    outputs = {name: (Output("oci", (("dest", f"{tmp_path}/{name}"),)),) for name in ("one", "two")}
    requests = {n: request(context, SHARED, target=n, outputs=outputs[n]) for n in outputs}
    steps = steps_of(store, requests)
    assert [name for name in steps if "echo ran" in name] == [
        "[one base 3/3] RUN echo ran >> /runs && cat /a > /b"
    ]
    assert sum("echo one" in name or "echo two" in name for name in steps) == 2
    for name in outputs:
        files = files_of(tmp_path / name)
        assert files["/who"].endswith(f" {name}")
        assert files["/b"].endswith(" 1")
    # Each target is a build of its own in the journal; for the second the step was there.
    rows = store.journal.builds(2)
    assert [row.details["bake"] for row in rows] == ["two", "one"]
    ran = [[r.status for r in store.journal.steps(row.build_id)] for row in rows]
    assert ran == [["cached", "cached", "done"], ["done", "done", "done"]]


def test_equal_steps_on_other_files_are_others(store: Store, context: Path) -> None:
    text = "FROM busybox:test\nCOPY . /files\nRUN --mount=target=/ctx ls /ctx > /list\n"
    for name in ("left", "right"):
        (context / name).mkdir()
        (context / name / name).write_text(name)
    steps = steps_of(store, {n: request(context / n, text) for n in ("left", "right")})
    assert sum("COPY . /files" in name for name in steps) == 2
    assert sum("ls /ctx" in name for name in steps) == 2
    again = {n: request(context / "left", text, no_cache=True) for n in ("left", "same")}
    assert sum("COPY . /files" in name for name in steps_of(store, again)) == 1


def test_equal_steps_with_other_secrets_are_others(store: Store, context: Path) -> None:
    text = (
        "FROM busybox:test\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /size\n"
        "RUN echo no secret\n"
    )
    requests = {}
    for name in ("one", "other"):
        (context / name).write_text(name * 5)
        secrets = (SecretSource("s", str(context / name)),)
        requests[name] = request(context, text, secrets=secrets, no_cache=True)
    assert sum("wc -c" in name for name in steps_of(store, requests)) == 2
    requests["other"] = request(context, text, secrets=requests["one"].secrets, no_cache=True)
    assert sum("wc -c" in name for name in steps_of(store, requests)) == 1


def test_a_target_on_another(store: Store, context: Path, tmp_path: Path) -> None:
    base = "FROM busybox:test\nENV WHO=base\nRUN echo made > /made\n"
    text = "FROM below\nRUN echo $WHO > /who\nCOPY --from=below /made /copy\n"
    out = Output("oci", (("dest", str(tmp_path / "app")),))
    app = request(context, text, contexts=(("below", "target:base"),), outputs=(out,))
    steps = steps_of(store, {"app": app, "base": request(context, base)})
    assert sum("echo made" in name for name in steps) == 1
    files = files_of(tmp_path / "app")
    assert files["/who"].endswith(" base")
    assert files["/copy"].endswith(" made")
    # It is the image that one Dockerfile gives.
    both = base.replace("test\n", "test AS below\n") + text
    build(store, request(context, both, outputs=(Output("image"),)), lambda _: None, Cancel())
    single = store.journal.builds(1)[0].image_id
    image = request(context, text, contexts=(("below", "target:base"),), outputs=(Output("image"),))
    done = build_targets(
        store, {"app": image, "base": request(context, base)}, lambda _: None, Cancel()
    )
    assert done["app"].image_id == single
    assert list(done) == ["app", "base"]


def test_all_failures_are_told(store: Store, context: Path) -> None:
    text = "FROM busybox:test AS {0}\nRUN until [ -e /c/a ] && [ -e /c/b ]; do :; done; exit {1}\n"
    mount = "RUN --mount=type=cache,id={2},target=/c touch /c/{0}; "
    text = text.replace("RUN ", mount)
    requests = {
        name: request(context, text.format(name, code, os.path.basename(context.parent)))
        for name, code in (("a", 3), ("b", 4))
    }
    requests["good"] = request(context, "FROM busybox:test\nRUN sleep 600\n")
    with pytest.raises(StepsFailed) as caught:
        build_targets(store, requests, lambda _: None, Cancel())
    errors = caught.value.errors
    assert {error.targets for error in errors if isinstance(error, TargetFailed)} <= {
        ("a",),
        ("b",),
    }
    rows = {row.details["bake"]: row for row in store.journal.builds(3)}
    assert rows["good"].status == "cancelled"
    failed = {error.targets[0] for error in errors if isinstance(error, TargetFailed)}
    assert {name for name, row in rows.items() if row.status == "failed"} == failed


def test_failures_before_the_first_step(store: Store, context: Path) -> None:
    requests = {
        "lines": request(context, "FROM busybox:test\nRUM a\nCOPI b\n"),
        "above": request(context, "FROM x\n", contexts=(("x", "target:lines"),)),
        "stage": request(context, "FROM busybox:test\n", target="none"),
        "good": request(context, "FROM busybox:test\n"),
    }
    with pytest.raises(StepsFailed) as caught:
        build_targets(store, requests, lambda _: None, Cancel())
    found = [(error.targets[0], str(error)) for error in caught.value.errors]  # type: ignore[attr-defined]
    assert [name for name, _ in found] == ["lines", "lines", "stage"]
    assert found[2][1] == 'target stage: target stage "none" could not be found'
    assert store.journal.builds(1)[0].status == "cancelled"


def test_targets_in_a_circle(store: Store, context: Path) -> None:
    requests = {
        name: request(context, "FROM x\n", contexts=(("x", f"target:{other}"),))
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    }
    with pytest.raises(BuildError, match="targets stand on each other: a → b → c → a"):
        build_targets(store, requests, lambda _: None, Cancel())


def test_a_shared_step_that_failed_is_entered_by_each(store: Store, tmp_path: Path) -> None:
    base = "FROM busybox:test AS base\nRUN echo left > /left; false\n"
    text = f"{base}FROM base AS one\nFROM base AS two\n"
    requests = {name: request(tmp_path, text, target=name) for name in ("one", "two")}
    with pytest.raises(StepsFailed) as caught:
        build_targets(store, requests, lambda _event: None, Cancel())
    builds = [row.build_id for row in store.journal.builds(2)]
    (kept,) = {state_of(store, build).failed for build in builds}
    assert kept in store.snapshots.kept()
    assert {error.entry.partition(":")[0] for error in caught.value.errors} <= {
        build[:8] for build in builds
    }
    journal.remove(store, builds)
    assert kept not in store.snapshots.kept()
