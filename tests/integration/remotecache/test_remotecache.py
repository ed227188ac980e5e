"""One machine's results serve another: from a registry, a folder, an image."""

import gzip
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakeregistry import digest_of, reset_after, resets, sends, status

from builder.remotecache.entry import CacheEntry
from builder.remotecache.s3 import BucketCache
from builder.request import CachePlace
from store.digest import DiffID, Digest
from store.root import Store

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM busybox:test AS tools
RUN echo ran >> /counter && date +%s%N > /moment
COPY src /src
FROM busybox:test
WORKDIR /app
COPY --from=tools /src /src
RUN --mount=from=tools,target=/tools cat /tools/moment /proc/uptime > /app/result
CMD ["cat", "/app/result"]
"""


@pytest.fixture
def project(context: Path) -> Path:
    (context / "src").mkdir()
    (context / "src/file").write_text("content\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    return context


@pytest.fixture(params=["registry", "local", "inline", "s3"])
def places(request, registry, tmp_path: Path) -> tuple[list[str], list[str], str]:
    """Return flags that export to one kind of cache, flags that import, and the image's name."""
    if request.param == "registry":
        ref = f"type=registry,ref={registry.host}/app:cache"
        return [f"--cache-to={ref},mode=max"], [f"--cache-from={ref}"], "x:1"
    if request.param == "local":
        folder = tmp_path / "cache"
        return (
            [f"--cache-to=type=local,dest={folder},mode=max"],
            [f"--cache-from=type=local,src={folder}"],
            "x:1",
        )
    if request.param == "s3":
        where = f"type=s3,prefix=some/,name=app,{request.getfixturevalue('bucket')}"
        return [f"--cache-to={where},mode=max"], [f"--cache-from={where}"], "x:1"
    image = f"{registry.host}/app:1"
    return ["--cache-to=type=inline", "--push"], [f"--cache-from={image}"], image


def test_another_machine_takes_everything(machine, project, places, tmp_path) -> None:
    to, from_, name = places
    machine("a")("-t", name, *to, project)
    image_id = machine("a")("inspect", "-f", "{{.Id}}", name).stdout
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(project, elsewhere)
    flags = [flag for flag in to if flag == "--cache-to=type=inline"]
    done = machine("b")("-t", name, *from_, *flags, elsewhere)
    assert done.stderr.count("CACHED") >= 6, done.stderr
    assert done.stderr.count("from ") >= 5
    assert machine("b")("inspect", "-f", "{{.Id}}", name).stdout == image_id
    first = machine("a")("run", "--rm", name).stdout
    assert machine("b")("run", "--rm", name).stdout == first
    again = machine("b")("-t", "x:2", elsewhere)
    assert again.stderr.count("CACHED") >= 3, "what came is a result of this store now"
    assert machine("b")("system", "check", "--deep").returncode == 0


# --- what is fetched


@pytest.fixture
def remote(machine, registry, project: Path) -> str:
    """Build on machine a from a base at the registry, export everything, return the reference."""
    base = f"{registry.host}/base:1"
    machine("a")("tag", "busybox:test", base)
    machine("a")("push", base)
    text = (project / "Dockerfile").read_text().replace("busybox:test", base)
    (project / "Dockerfile").write_text(text)
    reference = f"{registry.host}/app:cache"
    words = ["-t", f"{registry.host}/app:1", "--push", "--metadata-file", project.parent / "a"]
    machine("a")(*words, f"--cache-to=type=registry,ref={reference},mode=max", project)
    registry.seen.clear()
    return reference


def layers_fetched(registry) -> int:
    """Return how many blobs that are no documents were read."""
    found = 0
    for path in registry.asked("GET", "/blobs/"):
        name, _, digest = path.removeprefix("/v2/").partition("/blobs/")
        found += not registry.blobs[name, digest].startswith(b"{")
    return found


def why(pybuild) -> dict[str, list[str]]:
    found = json.loads(pybuild("cache", "why", "--format", "json").stdout)
    return {
        step["name"].partition("] ")[2]: [cause["text"] for cause in step["causes"]]
        for step in found["steps"]
    }


def test_a_machine_that_never_built_knows_why(machine, project, places) -> None:
    to, from_, name = places
    (project / ".dockerignore").write_text("src/left-out\n")
    (project / "src/left-out").write_text("1\n")
    machine("a")("-t", name, *to, project)
    (project / "src/file").write_text("other\n")
    planned = machine("b")("plan", *from_, project).stdout
    machine("b")("-q", *from_, project)
    found = why(machine("b"))
    if "--cache-to=type=inline" in to:  # it has no room for this
        assert found["COPY src /src"] == ["first build of this step"]
        return
    assert found["COPY src /src"] == ["src/file changed"]
    assert "src/file changed" in planned
    (project / "src/file").write_text("content\n")
    (project / ".dockerignore").write_text("")
    machine("c")("-q", *from_, project)
    found = why(machine("c"))
    assert found["COPY src /src"] == [
        ".dockerignore no longer excludes src/left-out (src/left-out)"
    ]
    assert found["COPY --from=tools /src /src"] == ["follows [tools 3/3] COPY src /src"]


def test_what_stages_outside_of_the_image_were_given_stays_here(
    machine, registry, project, tmp_path
) -> None:
    dockerfile = (project / "Dockerfile").read_text()
    dockerfile = dockerfile.replace("RUN echo ran", "ARG TOKEN\nRUN echo ran")
    (project / "Dockerfile").write_text(dockerfile)
    for mode, is_there in (("min", False), ("max", True)):
        folder = tmp_path / mode
        to = f"--cache-to=type=local,dest={folder},mode={mode}"
        machine("a")("--build-arg=TOKEN=only-for-the-tools", to, project)
        held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert (b"only-for-the-tools" in held) == is_there


@pytest.mark.parametrize("output", ["type=cacheonly", "type=registry,name={}/other/app:2"])
def test_a_build_that_is_all_cached_reads_no_layer(
    machine, registry, project, remote, output, tmp_path
) -> None:
    b = machine("b", has_base=False)
    metadata = tmp_path / "b"
    words = ["-o", output.format(registry.host), "--metadata-file", metadata]
    done = b(*words, f"--cache-from=type=registry,ref={remote}", project)
    assert done.stderr.count("CACHED") >= 6
    # The records are of this store now; the layers still are elsewhere, and not missed.
    again = b("-o", "type=cacheonly", f"--cache-from=type=registry,ref={remote}", project)
    assert again.stderr.count("CACHED") == done.stderr.count("CACHED")
    assert layers_fetched(registry) == 0, registry.asked("GET", "/blobs/")
    if "registry" in output:
        assert not registry.asked("PATCH"), "what the registry has it was asked to take from there"
        ids = [
            json.loads(path.read_text())["containerimage.config.digest"]
            for path in (project.parent / "a", metadata)
        ]
        assert ids[0] == ids[1]
        b("pull", f"{registry.host}/other/app:2")
        assert b("run", "--rm", f"{registry.host}/other/app:2").returncode == 0


def test_only_what_an_image_is_made_of_is_fetched(machine, registry, project, remote) -> None:
    b = machine("b", has_base=False)
    b("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    # The base's layer, WORKDIR's, COPY's and RUN's: nothing of the stage that was copied from.
    assert layers_fetched(registry) == 4
    assert b("run", "--rm", "x:1").returncode == 0
    assert b("system", "check", "--deep").returncode == 0


def test_a_changed_step_fetches_what_it_runs_on(machine, registry, project, remote) -> None:
    (project / "src/file").write_text("changed\n")
    b = machine("b", has_base=False)
    done = b("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    assert "RUN echo ran" in done.stderr
    assert b("run", "--rm", "x:1", "cat", "/src/file").stdout == "changed\n"


def test_look_ups_are_one_request_each(machine, registry, project, remote) -> None:
    b = machine("b", has_base=False)
    b("-o", "type=cacheonly", f"--cache-from=type=registry,ref={remote}", project)
    keys = [path.rpartition("/")[2] for path in registry.asked("GET", "/app/manifests/cache-")]
    assert len(keys) == len(set(keys)) == 7, "five steps and what two of them read of a stage"
    assert not registry.asked("GET", "/tags/list")


def test_sources_are_asked_in_order(machine, registry, project, remote, tmp_path) -> None:
    empty = f"--cache-from=type=registry,ref={registry.host}/nothing:1"
    none = f"--cache-from=type=local,src={tmp_path}/none"
    done = machine("b")("-t", "x:1", none, empty, f"--cache-from={remote}", project)
    assert done.stderr.count("from registry") == 5
    assert "WARNING" not in done.stderr


# --- what goes wrong


def test_a_blob_that_is_gone_is_made_again(machine, registry, project, remote) -> None:
    for name, digest in list(registry.blobs):
        if name == "app" and not registry.blobs[name, digest].startswith(b"{"):
            del registry.blobs[name, digest]
    b = machine("b", has_base=False)
    done = b("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    assert "build what a cache promised" in done.stderr
    assert b("run", "--rm", "x:1", "cat", "/src/file").stdout == "content\n"
    assert b("system", "check", "--deep").returncode == 0


@pytest.mark.parametrize("damage", [b"", b"rubbish", gzip.compress(b"no tar", mtime=0)])
def test_a_damaged_blob_is_made_again(machine, registry, project, remote, damage) -> None:
    for name, digest in list(registry.blobs):
        if name == "app" and not registry.blobs[name, digest].startswith(b"{"):
            registry.blobs[name, digest] = damage
    b = machine("b", has_base=False)
    b("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    assert b("run", "--rm", "x:1", "cat", "/src/file").stdout == "content\n"
    assert b("system", "check", "--deep").returncode == 0


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(sends(b"{}"), id="empty"),
        pytest.param(sends(b"<html>"), id="html"),
        pytest.param(status(403), id="forbidden"),
        pytest.param(status(404), id="absent"),
        pytest.param(reset_after(b"x" * 100, 10), id="reset"),
    ],
)
def test_a_source_that_answers_nonsense(machine, registry, project, remote, answer) -> None:
    for name, tag in list(registry.tags):
        if name == "app" and tag.startswith("cache-"):
            registry.break_(f"/v2/app/manifests/{tag}", *[answer] * 9)
    done = machine("b")("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    assert done.returncode == 0
    assert machine("b")("run", "--rm", "x:1", "cat", "/src/file").stdout == "content\n"


def test_a_record_of_another_key_is_no_result(machine, registry, project, remote) -> None:
    tags = {tag: digest for (name, tag), digest in registry.tags.items() if tag.count("-") == 1}
    one = next(iter(tags.values()))
    for tag in tags:
        if tag.startswith("cache-"):
            registry.tags["app", tag] = one
    b = machine("b", has_base=False)
    b("-t", "x:1", f"--cache-from=type=registry,ref={remote}", project)
    assert b("run", "--rm", "x:1", "cat", "/src/file").stdout == "content\n"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_export_that_fails_fails_nothing_else(machine, registry, project, method) -> None:
    a = machine("a")
    words = [f"--cache-to=type=registry,ref={registry.host}/app:c,mode=max"]
    refuse = [status(403)] * 99
    for number in range(40):
        registry.break_(f"/v2/app/blobs/uploads/{number}", *refuse, method=method)
    registry.break_("/v2/app/blobs/uploads/", *refuse, method=method)
    done = a("-t", "x:1", *words, project)
    assert "RemoteCache: the cache was not exported to registry" in done.stderr
    assert a("run", "--rm", "x:1").returncode == 0
    failed = a("-t", "x:2", f"{words[0]},ignore-error=false", project, check=False)
    assert (failed.returncode, "error: export cache to registry" in failed.stderr) == (1, True)
    assert not [tag for name, tag in registry.tags if name == "app"], "no record without its blobs"


def test_a_registry_that_fails_in_the_middle_of_an_import(
    machine, registry, project, rounds
) -> None:
    place = f"type=registry,ref={registry.host}/app:cache"
    machine("a")("-t", "x:1", f"--cache-to={place},mode=max", project)
    registry.seen.clear()
    machine("b")("-t", "x:1", f"--cache-from={place}", project)
    asked = len(registry.seen)
    assert asked > 10
    count = rounds(asked, 2)
    for number in range(count):
        registry.afterwards = resets if number % 2 == 0 else status(403)
        registry.answers = 1 + (asked - 1) * (2 * number + 1) // (2 * count)
        name = f"c{number}"
        done = machine(name)("-t", "x:1", f"--cache-from={place}", project)
        assert (
            "RemoteCache: the cache at registry" in done.stderr or "a cache promised" in done.stderr
        )
        shown = machine(name)(
            "run", "--rm", "x:1", "sh", "-c", "cat /src/file; wc -l < /app/result"
        )
        assert shown.stdout == "content\n2\n"
        assert machine(name)("system", "check", "--deep").returncode == 0


def test_a_registry_that_fails_in_the_middle_of_an_export(
    machine, registry, project, rounds
) -> None:
    a = machine("a")
    a("-t", "x:1", f"--cache-to=type=registry,ref={registry.host}/whole:c,mode=max", project)
    image_id = a("inspect", "-f", "{{.Id}}", "x:1").stdout
    asked = len(registry.seen)
    assert asked > 30
    count = rounds(asked, 2)
    for number in range(count):
        place = f"type=registry,ref={registry.host}/half{number}:c"
        registry.afterwards = status(403) if number % 2 == 0 else resets
        registry.answers = asked * (2 * number + 1) // (2 * count)
        done = a("-t", "x:2", f"--cache-to={place},mode=max", project)
        assert "RemoteCache: the cache was not exported to registry" in done.stderr
        assert a("inspect", "-f", "{{.Id}}", "x:2").stdout == image_id
        registry.answers = None
        # What came before is whole or not there: another machine makes the same of it, or anew.
        other = machine(f"b{number}")
        other("-t", "x:1", f"--cache-from={place}", project)
        shown = other("run", "--rm", "x:1", "sh", "-c", "cat /src/file; wc -l < /app/result")
        assert shown.stdout == "content\n2\n"
        assert other("system", "check", "--deep").returncode == 0
        # The next export completes it.
        a("-t", "x:2", f"--cache-to={place},mode=max", project)
        whole = machine(f"c{number}")("-t", "x:1", f"--cache-from={place}", project)
        assert whole.stderr.count("CACHED") >= 6


def test_nobody_is_there(machine, project) -> None:
    place = "type=registry,ref=127.0.0.1:1/app:cache"
    done = machine("a")("-t", "x:1", f"--cache-from={place}", f"--cache-to={place}", project)
    assert done.stderr.count("connection refused") >= 2
    assert machine("a")("run", "--rm", "x:1").returncode == 0


# --- modes, contents


def test_mode_min_has_the_bytes_of_images_only(machine, registry, project, tmp_path) -> None:
    folder = tmp_path / "cache"
    machine("a")("-t", "x:1", f"--cache-to=type=local,dest={folder}", project)
    image_id = machine("a")("inspect", "-f", "{{.Id}}", "x:1").stdout
    b = machine("b")
    done = b("-t", "x:1", f"--cache-from=type=local,src={folder}", project)
    assert "echo ran" in done.stderr
    assert done.stderr.count("CACHED") >= 6, done.stderr
    assert b("inspect", "-f", "{{.Id}}", "x:1").stdout == image_id
    # When its files are needed after all it is made again, and what was derived from it too.
    c = machine("c")
    text = (project / "Dockerfile").read_text().replace("COPY --from=tools", "COPY --from=tools ./")
    (project / "Dockerfile").write_text(text.replace("./ /src /src", "/counter /src /all/"))
    done = c("-t", "x:1", f"--cache-from=type=local,src={folder}", project)
    assert c("run", "--rm", "x:1", "cat", "/all/counter").stdout == "ran\n"
    assert c("system", "check", "--deep").returncode == 0


def test_records_are_added(machine, registry, project) -> None:
    reference = f"type=registry,ref={registry.host}/app:cache"
    machine("a")("-t", "x:1", f"--cache-to={reference},mode=max", project)
    before = {tag for name, tag in registry.tags if name == "app"}
    (project / "src/file").write_text("other\n")
    again = machine("b")(
        "-t", "x:1", f"--cache-from={reference}", f"--cache-to={reference}", project
    )
    assert {tag for name, tag in registry.tags if name == "app"} > before
    assert "new records" in again.stderr
    (project / "src/file").write_text("content\n")
    done = machine("c")("-t", "x:1", f"--cache-from={reference}", project)
    assert done.stderr.count("CACHED") >= 6, "the first one's results are all there"
    words = [f"--cache-from={reference}", f"--cache-to={reference},mode=max"]
    nothing = machine("d")("-o", "type=cacheonly", *words, project)
    assert " 0 new records" in nothing.stderr


def test_secrets_leave_nothing_in_a_cache(
    machine, registry, busybox_image, context, tmp_path
) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox:test\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n\n"
    )
    (tmp_path / "token").write_text("very-secret-value")
    folder = tmp_path / "cache"
    words = ["--secret", f"id=token,src={tmp_path}/token", f"--cache-to=type=local,dest={folder}"]
    machine("a")(*words, context)
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"very-secret" not in data
            if data.startswith(b"\x1f\x8b"):
                assert b"very-secret" not in gzip.decompress(data)


def test_a_folder_is_an_oci_layout(machine, project, tmp_path, peers) -> None:
    folder = tmp_path / "cache"
    machine("a")(f"--cache-to=type=local,dest={folder},mode=max,compression=zstd", project)
    index = json.loads((folder / "index.json").read_text())
    name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    manifest = json.loads(peers("skopeo")("inspect", "--raw", f"oci:{folder}:{name}"))
    assert manifest["artifactType"] == "application/vnd.pybuild.cache.record.v1+json"
    blobs = {path.name for path in (folder / "blobs/sha256").iterdir()}
    for path in (folder / "blobs/sha256").iterdir():
        assert f"sha256:{path.name}" == digest_of(path.read_bytes())
    (project / "src/file").write_text("other\n")
    machine("a")(f"--cache-to=type=local,dest={folder},mode=max", project)
    assert blobs < {path.name for path in (folder / "blobs/sha256").iterdir()}
    machine("a")(f"--cache-to=type=local,dest={folder},mode=max,reset=true", project)
    kept = len(json.loads((folder / "index.json").read_text())["manifests"])
    assert kept == len(index["manifests"])
    assert (
        machine("b")("-t", "x", f"--cache-from=type=local,src={folder}", project).stderr.count(
            "CACHED"
        )
        >= 6
    )


# --- buckets


def test_a_bucket_that_is_not_there(machine, project, bucket) -> None:
    place = f"type=s3,{bucket}".replace("bucket=cache", "bucket=none")
    done = machine("a")("-t", "x:1", f"--cache-from={place}", f"--cache-to={place}", project)
    assert done.stderr.count("bucket none: ") >= 2
    assert machine("a")("run", "--rm", "x:1").returncode == 0


# --- at the same time


@pytest.mark.parametrize("kind", ["registry", "local"])
def test_builds_that_export_at_once(machine, registry, project, tmp_path, kind) -> None:
    to, source = f"type=registry,ref={registry.host}/app:cache", f"{registry.host}/app:cache"
    if kind == "local":
        to, source = f"type=local,dest={tmp_path}/cache", f"type=local,src={tmp_path}/cache"
    branches = []
    for name in ("a", "b"):
        branch = tmp_path / f"branch-{name}"
        shutil.copytree(project, branch)
        (branch / "Dockerfile").write_text(f"{DOCKERFILE}RUN echo {name} > /branch\n")
        branches.append(branch)
    machine("a"), machine("b")
    running = [
        machine(branch.name[-1]).start("-t", "x:1", f"--cache-to={to},mode=max", branch)
        for branch in branches
    ]
    assert [process.communicate()[1] and process.wait() for process in running] == [0, 0]
    for branch in branches:
        machine("c")("-t", f"c:{branch.name}", f"--cache-from={source}", branch)
    # Whose result of the first step is taken the third machine cannot know; each step has one.
    assert machine("c")("run", "--rm", "c:branch-a", "cat", "/branch").stdout == "a\n"
    assert machine("c")("run", "--rm", "c:branch-b", "cat", "/branch").stdout == "b\n"


def test_exporters_at_once_in_a_bucket(bucket, tmp_path) -> None:
    """Two at once, ten times: no record is lost."""
    with Store(tmp_path / "store") as store:
        place = CachePlace("s3", tuple(pair.split("=", 1) for pair in bucket.split(",")))
        for number in range(10):
            halves = [
                [record(f"{number}", name), record(f"{number}-{name}", name)] for name in "ab"
            ]
            start = threading.Barrier(len(halves))

            def export(entries, start=start) -> None:
                cache = BucketCache(place, store.content)
                start.wait()
                cache.add(entries)
                cache.close()

            with ThreadPoolExecutor(len(halves)) as pool:
                list(pool.map(export, halves))
            cache = BucketCache(place, store.content)
            for entry in (*halves[0], *halves[1]):
                assert entry in cache.find(entry.key)
            cache.close()


def record(key: str, result: str) -> CacheEntry:
    diff_id = DiffID(digest_of(result.encode()))
    return CacheEntry(Digest(digest_of(key.encode())), "run", (diff_id,), created="2020", title=key)


# --- other people's registries


def test_debians_registry(machine, project, start_registry) -> None:
    reference = f"{start_registry().host}/team/app:cache"
    machine("a")("-t", "x:1", f"--cache-to=type=registry,ref={reference},mode=max", project)
    image_id = machine("a")("inspect", "-f", "{{.Id}}", "x:1").stdout
    done = machine("b")("-t", "x:1", f"--cache-from={reference}", project)
    assert done.stderr.count("CACHED") >= 6
    assert machine("b")("inspect", "-f", "{{.Id}}", "x:1").stdout == image_id
    # A second result of the same keys: the registry lists what there is.
    c = machine("c")
    c("-t", "x:1", f"--cache-to=type=registry,ref={reference},mode=max", project)
    assert c("inspect", "-f", "{{.Id}}", "x:1").stdout != image_id
    done = machine("d")("-t", "x:1", f"--cache-from={reference}", project)
    assert done.stderr.count("CACHED") >= 6
    assert machine("d")("inspect", "-f", "{{.Id}}", "x:1").stdout == image_id, "the first is taken"


def test_an_export_that_is_killed(machine, registry, project, tmp_path) -> None:
    a, place = machine("a"), f"type=registry,ref={registry.host}/app:cache,mode=max"
    a("-t", "x:1", project)
    reached = threading.Event()

    def hold(page) -> None:
        reached.set()
        page.rfile.read(int(page.headers.get("Content-Length") or 0))
        killed.wait(60)
        page.close_connection = True

    killed = threading.Event()
    registry.break_("/v2/app/blobs/uploads/0", hold, method="PUT")
    process = a.start("-t", "x:1", f"--cache-to={place}", project)
    assert reached.wait(60)
    process.kill()
    process.communicate()
    killed.set()
    assert not [tag for name, tag in registry.tags if name == "app"], (
        "records come after their blobs"
    )
    assert a("system", "check", "--deep").returncode == 0
    a("-t", "x:1", f"--cache-to={place}", project)
    done = machine("b")("-t", "x:1", f"--cache-from={registry.host}/app:cache", project)
    assert done.stderr.count("CACHED") >= 6
