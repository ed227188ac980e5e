"""The build cache as its users see it: what counts, what is shared, what goes and what stays."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_build import image_id, output, ran, write

pytestmark = pytest.mark.kernel

UUID = "cat /proc/sys/kernel/random/uuid"


def entries(pybuild, *args: str) -> list[dict[str, str]]:
    lines = pybuild("cache", "ls", "--format", "json", *args).stdout.splitlines()
    return [json.loads(line) for line in lines]


def entry_of(pybuild, step: str) -> dict[str, str]:
    found = [e for e in entries(pybuild, "-a") if step in e["Description"]]
    assert len(found) == 1, (step, found)
    return found[0]


def shown(pybuild, step: str) -> dict:
    return json.loads(
        pybuild("cache", "show", "--format", "json", entry_of(pybuild, step)["ID"]).stdout
    )


# -- what counts


def test_a_file_swapped_for_one_of_the_same_name_size_and_time_is_noticed(
    pybuild, busybox_image, context
) -> None:
    write(context, {"Dockerfile": f"FROM {busybox_image}\nCOPY f /f\nRUN cat /f > /g\n"})
    path, other = context / "f", context / "other"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    pybuild("-t", "x", context)
    assert ran(pybuild("-t", "x", context)) == []
    # Another file in its place, by rename; then the same file written over.
    for text, swap in (("two", other), ("six", path)):
        swap.write_text(text)
        os.utime(swap, ns=(10**18, 10**18))
        if swap is other:
            other.rename(path)
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (3, 10**18)
        assert len(ran(pybuild("-t", "x", context))) == 2
        assert output(pybuild, "x", "cat", "/g") == text


@pytest.mark.parametrize(
    "feed",
    [
        "RUN --mount=target=/in,source=in grep -v ^# /in > /out",
        "RUN --mount=from=source,target=/in,source=/in grep -v ^# /in > /out",
        "COPY --from=gen /out /out",
    ],
    ids=["bind", "bind from a stage", "copy"],
)
def test_a_changed_comment_runs_nothing_after_the_generator(
    pybuild, busybox_image, context, feed: str
) -> None:
    write(
        context,
        {
            "in": "# one\ndata\n",
            "Dockerfile": f"""\
FROM {busybox_image} AS source
COPY in /in
FROM source AS gen
RUN grep -v ^# /in > /out
FROM {busybox_image}
{feed}
RUN {UUID} > /uuid
RUN {UUID} > /another
""",
        },
    )
    pybuild("-t", "x", context)
    before = image_id(pybuild, "x")
    write(context, {"in": "# two\ndata\n"})
    again = ran(pybuild("-t", "x", context))
    assert not [step for step in again if "uuid" in step]
    assert image_id(pybuild, "x") == before
    write(context, {"in": "# two\nother\n"})
    assert len([step for step in ran(pybuild("-t", "x", context)) if "uuid" in step]) == 2


# -- what is asked to run again


TWO_STAGES = """\
FROM {base} AS Deps
RUN --mount=type=cache,target=/c {uuid} > /dep; cat /c/* > /seen 2>&1; echo deps >> /c/log
FROM {base}
RUN --mount=type=cache,target=/c {uuid} > /own; echo own >> /c/log
COPY --from=deps /dep /seen /
"""


@pytest.mark.parametrize("words", [["deps"], ["DEPS"], ["other,deps"], ["other", "--", "deps"]])
def test_steps_of_one_stage_alone_run_again(pybuild, busybox_image, context, words) -> None:
    write(context, {"Dockerfile": TWO_STAGES.format(base=busybox_image, uuid=UUID)})
    args = [f"--no-cache-filter={word}" for word in words if word != "--"]
    pybuild("-t", "x", context)
    dep, own = (output(pybuild, "x", "cat", name) for name in ("/dep", "/own"))
    again = ran(pybuild("-t", "x", *args, context))
    assert [step.split()[0] for step in again] == ["RUN", "COPY"]
    assert output(pybuild, "x", "cat", "/dep") != dep
    assert output(pybuild, "x", "cat", "/own") == own
    # Its cache mount began anew, and what was made is recorded.
    assert "No such file" in output(pybuild, "x", "cat", "/seen")
    assert ran(pybuild("-t", "x", context)) == []
    assert ran(pybuild("-t", "x", "--no-cache-filter", "nothing", context)) == []


def test_equal_steps_are_one_only_if_both_have_to_run(pybuild, busybox_image, context) -> None:
    step = f"RUN {UUID} > /u"
    text = f"FROM {busybox_image} AS a\n{step}\nFROM {busybox_image} AS b\n{step}\n"
    text += "FROM scratch\nCOPY --from=a /u /a\nCOPY --from=b /u /b\n"
    write(context, {"Dockerfile": text})
    assert len([s for s in ran(pybuild("-t", "x", context)) if s.startswith("RUN")]) == 1
    for one in ("a", "b"):
        again = ran(pybuild("-t", "x", f"--no-cache-filter={one}", context))
        assert len([s for s in again if s.startswith("RUN")]) == 1
    both = ran(pybuild("-t", "x", "--no-cache", context))
    assert len([s for s in both if s.startswith("RUN")]) == 1


def started(process: subprocess.Popen[bytes], mark: bytes) -> bytes:
    """Read a build's progress until a step prints `mark`, which its text may hold too."""
    assert process.stderr is not None
    printed = re.compile(rb"^#\d+ \d+\.\d+ " + re.escape(mark), re.MULTILINE)
    seen = b""
    while not printed.search(seen):
        data = os.read(process.stderr.fileno(), 65536)
        assert data, seen
        seen += data
    return seen


def test_no_cache_takes_no_run_that_began_before(pybuild, busybox_image, context) -> None:
    """A run that another build is at: who has a cache waits for it, who has none runs its own."""
    text = f"FROM {busybox_image}\nRUN {UUID} > /u; echo begun; sleep 2\n"
    write(context, {"Dockerfile": text})
    first = pybuild.start("-t", "first", context)
    started(first, b"begun")
    second = pybuild.start("-t", "second", "--no-cache", context)
    third = pybuild.start("-t", "third", context)
    ends = [process.communicate(timeout=60)[1] for process in (first, second, third)]
    assert [p.returncode for p in (first, second, third)] == [0, 0, 0], ends
    first_u, second_u, third_u = (
        output(pybuild, name, "cat", "/u") for name in ("first", "second", "third")
    )
    assert second_u != first_u
    assert third_u in (first_u, second_u)


# -- exactly once


def test_who_waits_outlives_the_failure_of_the_other(
    pybuild, busybox_image, context, tmp_path
) -> None:
    """Two builds need the same step; the one that runs it fails, then the other runs it itself."""
    text = f"FROM {busybox_image}\n"
    text += "RUN --mount=type=secret,id=s echo begun; sleep 1; grep good /run/secrets/s\n"
    write(context, {"Dockerfile": text})
    for name in ("good", "bad"):
        (tmp_path / name).write_text(f"{name} value")
    first = pybuild.start("--secret", f"id=s,src={tmp_path}/bad", context)
    started(first, b"begun")
    second = pybuild.start("-t", "x", "--secret", f"id=s,src={tmp_path}/good", context)
    ends = [process.communicate(timeout=60)[1].decode() for process in (first, second)]
    assert (first.returncode, second.returncode) == (1, 0), ends
    assert "did not complete successfully" in ends[0] or "exit code" in ends[0]


# -- what is kept


def ingredients_project(base: str) -> str:
    return f"""\
FROM {base} AS build
ARG MODE=fast
ENV NAME=value
WORKDIR /src
COPY a sub /src/
RUN --mount=target=/ctx,source=sub cat a /ctx/b > out && echo $MODE
FROM {base}
COPY --from=build /src/out /out
"""


def test_links_and_owners_of_files_that_a_step_read(pybuild, busybox_image, context) -> None:
    write(context, {"Dockerfile": f"FROM {busybox_image}\nCOPY . /\n", "a": "1\n", "odd": "2\n"})
    (context / "link").symlink_to("nowhere")
    (context / "odd").chmod(0o2751)
    os.chown(context / "a", 12, 34)
    pybuild("-t", "x", context)
    files = {file.pop("Path"): file for file in shown(pybuild, "COPY . /")["Files"]}
    assert files["link"] == {"Target": "nowhere"}
    assert files["odd"]["Mode"] == "2751"
    assert set(files["a"]) == {"Digest", "Mode"}, "COPY gives everything to root"
    text = pybuild("cache", "show", shown(pybuild, "COPY . /")["Key"]).stdout
    assert "  -> nowhere  link\n" in text


def test_every_ingredient_is_stored_and_outlives_the_layers(
    pybuild, busybox_image, context
) -> None:
    write(context, {"Dockerfile": ingredients_project(busybox_image), "a": "1\n", "sub/b": "2\n"})
    pybuild("-t", "x", context)
    digests = {
        name: "sha256:" + subprocess.check_output(["sha256sum", context / name]).decode()[:64]
        for name in ("a", "sub/b")
    }
    copy, run = shown(pybuild, "COPY a sub"), shown(pybuild, "RUN --mount")
    files = [{"Path": p, "Digest": d, "Mode": "0644"} for p, d in digests.items()]
    assert copy["Files"] == files
    assert copy["Ingredients"]["destination"] == "/src/"
    assert run["Files"] == files[1:]
    known = run["Ingredients"]
    assert known["args"] == ["/bin/sh", "-c", "cat a /ctx/b > out && echo $MODE"]
    assert {"MODE=fast", "NAME=value"} <= set(known["env"])
    assert (known["cwd"], known["platform"], known["network"]) == ("/src", "linux/amd64", "host")
    assert run["Parent"][-1] == copy["Results"][0]["Layers"][0]["DiffID"]
    assert run["Parents"] == [copy["ID"]]

    pybuild("rmi", "x")
    pybuild("cache", "prune", "--force", "--all")
    assert entries(pybuild) == []
    for before, step in ((copy, "COPY a sub"), (run, "RUN --mount")):
        after = shown(pybuild, step)
        (layer,) = after["Results"][0]["Layers"]
        assert not layer["Present"]
        assert not after["Results"][0]["Held"]
        for name in ("Ingredients", "Files", "Parent", "Key", "Step"):
            assert after[name] == before[name]
    text = pybuild("cache", "show", run["Key"]).stdout
    assert f"{digests['sub/b']}  sub/b" in text
    assert "  gone, let go of" in text
    assert len(ran(pybuild("-t", "x", context))) == 4
    assert pybuild("cache", "verify").returncode == 0


SECRET = "s3cr3t-Zm9v/bar+of:the build"


def hidden_forms(secret: str) -> dict[str, bytes]:
    """Return what a secret may be written as: plain, reversed, in hex, and base64 at any offset."""
    data = secret.encode()
    forms = {"plain": data, "reversed": data[::-1], "hex": data.hex().encode()}
    for offset in range(3):
        # The characters that neighbours take part in are cut off.
        text = base64.b64encode(b"\0" * offset + data)
        forms[f"base64 at {offset}"] = text[4 if offset else 0 : -4]
    return forms


def test_a_secret_is_nowhere_in_the_store(pybuild, busybox_image, context, monkeypatch) -> None:
    """Not in a layer, a log, a record or the history; not when its step fails either."""
    text = f"""\
FROM {busybox_image}
RUN --mount=type=secret,id=tok,env=TOK --mount=type=secret,id=tok \\
  echo "$TOK"; cat /run/secrets/tok; set -x; test -n "$TOK"; echo fine > /fine
"""
    write(context, {"Dockerfile": text})
    monkeypatch.setenv("SECRET_VARIABLE", SECRET)
    option = ("--secret", "id=tok,env=SECRET_VARIABLE")
    results = [pybuild("-t", "x", *option, context)]
    write(
        context,
        {"Dockerfile": text + "RUN --mount=type=secret,id=tok cat /run/secrets/tok; false\n"},
    )
    results.append(pybuild(*option, context, check=False))
    assert [result.returncode for result in results] == [0, 1]
    pybuild("cache", "ls", "-a", "--format", "json")
    forms = hidden_forms(SECRET)
    said = "".join(r.stdout + r.stderr for r in results)
    said += pybuild("history", "--no-trunc", "x").stdout + pybuild("inspect", "x").stdout
    said += json.dumps([shown(pybuild, "RUN --mount=type=secret,id=tok,env=TOK")])
    found = [f"output: {name}" for name, form in forms.items() if form.decode() in said]
    read = 0
    for folder, _, names in os.walk(pybuild.root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                read += name.startswith("records.db") or name.endswith(".log")
                found += [f"{path}: {kind}" for kind, form in forms.items() if form in data]
    assert found == []
    assert read >= 2, "the records and a log were looked at"
    # The search finds what is there: else it proves nothing.
    assert any(b"fine" in p.read_bytes() for p in pybuild.root.rglob("fine"))


# -- what goes


PROJECT = """\
FROM {base} AS build
RUN --mount=type=cache,target=/c,id=deps head -c 300000 /dev/zero > /c/f && \\
  head -c 200000 /dev/zero > /big
FROM {base}
COPY --from=build /big /copied
RUN echo last > /last
"""


@pytest.fixture
def project(pybuild, busybox_image, context) -> Callable[[], list[str]]:
    """Build the project as x; the function builds it again and returns what ran."""
    write(context, {"Dockerfile": PROJECT.format(base=busybox_image)})
    pybuild("-t", "x", context)
    return lambda: ran(pybuild("-t", "x", context))


def test_a_dry_run_says_exactly_what_goes(pybuild, project) -> None:
    for args in (
        [],
        ["--all"],
        ["--filter", "type=exec.cachemount"],
        ["--all", "--filter=until=0s"],
    ):
        plan = pybuild("cache", "prune", "--dry-run", *args).stdout.splitlines()
        assert pybuild("cache", "prune", "--dry-run", *args).stdout.splitlines()[-1] == plan[-1]
        before = {e["ID"] for e in entries(pybuild)}
        done = pybuild("builder", "prune", "--force", *args).stdout.splitlines()
        ids = [line.split()[0] for line in done[1:-1]]
        assert ids == [line.split()[0] for line in plan[1:-1]]
        assert done[-1].split()[-1] == plan[-1].split()[-1]
        gone = before - {e["ID"] for e in entries(pybuild)}
        assert {id_[:25] for id_ in gone} == {id_.rstrip("*") for id_ in ids}
        assert gone
        project()


def test_what_an_image_needs_stays_and_the_rest_is_freed(pybuild, project) -> None:
    out = pybuild("cache", "prune", "-f").stdout
    assert out.splitlines()[-1].split() == ["Total:", "500kB"]
    kept = [e["Description"] for e in entries(pybuild)]
    assert sorted(kept) == [
        "[stage-1 2] COPY --from=build /big /copied",
        "[stage-1 3] RUN echo last > /last",
    ]
    assert {e["Shared"] for e in entries(pybuild)} == {"true"}
    assert not list(pybuild.root.glob("cachemounts/*"))
    assert output(pybuild, "x", "cat", "/last") == "last\n"
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    assert len(project()) == 1
    pybuild("cache", "prune", "-f", "-a")
    assert entries(pybuild) == []
    assert output(pybuild, "x", "cat", "/last") == "last\n"
    assert len(project()) == 3, "what was let go of is not found again"


def test_what_a_killed_pruning_left_goes_with_the_next(pybuild, project) -> None:
    """Killed between letting go of a layer and removing it: the store is clean, no byte is lost."""
    import sqlite3

    with sqlite3.connect(pybuild.root / "records.db") as db:
        db.execute("UPDATE records SET held = 0 WHERE stage = 'build'")
    db.close()
    assert pybuild("system", "check", "--deep").stdout == "clean\n"
    assert list(pybuild.root.glob("layers/sha256/*/fs/big"))
    pybuild("cache", "prune", "-f", "--filter", "type=source.local")
    assert not list(pybuild.root.glob("layers/sha256/*/fs/big"))
    assert len(project()) == 1


def test_limits_end_the_pruning(pybuild, project) -> None:
    total = pybuild("cache", "du").stdout.splitlines()
    assert ["Shared:", "200kB"] in [line.split() for line in total]
    out = pybuild("cache", "prune", "-f", "--max-used-space", "400kB", "--verbose").stdout
    assert out.count("ID:") == 1
    assert pybuild("cache", "prune", "-f", "--max-used-space", "1GB").stdout == "Total:\t0B\n"
    assert pybuild("cache", "prune", "-f", "--min-free-space", "1kB").stdout == "Total:\t0B\n"
    left = pybuild("cache", "prune", "-f", "--max-used-space", "1", "--reserved-space", "1GB")
    assert left.stdout == "Total:\t0B\n"
    bad = pybuild("cache", "prune", "-f", "--max-used-space", "lots", check=False)
    assert (bad.returncode, bad.stderr.splitlines()[0]) == (
        2,
        'error: cache prune: --max-used-space: "lots" is no size, as 512MB, 10GB or 10GiB are',
    )


def test_prune_asks(pybuild, project) -> None:
    before = entries(pybuild)
    asked = pybuild("cache", "prune", input="n\n").stdout
    assert "WARNING! This will remove all dangling build cache." in asked
    assert len(entries(pybuild)) == len(before)
    assert "Total:" in pybuild("cache", "prune", "-a", input="y\n").stdout
    assert entries(pybuild) == []


def test_nothing_goes_while_a_build_runs(pybuild, busybox_image, context, project) -> None:
    write(context, {"Slow": f"FROM {busybox_image}\nRUN echo begun; sleep 30\n"})
    build = pybuild.start("-f", context / "Slow", context)
    started(build, b"begun")
    try:
        refused = pybuild("cache", "prune", "-f", check=False)
        assert refused.returncode == 1
        assert "another build or command uses the store" in refused.stderr
        assert "exec.cachemount" in pybuild("cache", "prune", "--dry-run", "--verbose").stdout
    finally:
        build.terminate()
        build.communicate(timeout=30)
    assert project() == []


def test_a_cache_mount_in_use_is_not_reclaimable(pybuild, busybox_image, context) -> None:
    step = "RUN --mount=type=cache,target=/c echo begun > /c/f; cat /c/f; sleep 30"
    text = f"FROM {busybox_image}\n{step}\n"
    write(context, {"Dockerfile": text})
    build = pybuild.start(context)
    started(build, b"begun")
    try:
        (mount,) = entries(pybuild, "--filter", "type=exec.cachemount")
        assert (mount["Reclaimable"], mount["Description"]) == ("false", "cache mount /c")
        assert len(entries(pybuild, "--filter", "inuse")) == 1
    finally:
        build.terminate()
        build.communicate(timeout=30)
    assert [
        e["Reclaimable"]
        for e in entries(pybuild, "--filter=mutable", "--filter=type=exec.cachemount")
    ] == ["true"]


def test_system_prune_and_df_know_cache_mounts(pybuild, project) -> None:
    rows = dict(
        line.split("|")
        for line in pybuild("system", "df", "--format", "{{.Type}}|{{.Size}}").stdout.splitlines()
    )
    assert rows["Build Cache"] == "500kB"
    assert rows["Containers"] == "0B"
    pybuild("system", "prune")
    assert pybuild("cache", "mounts", "ls", "-q").stdout == "deps\n"
    assert "500kB" in pybuild("system", "prune", "--all").stdout
    assert pybuild("cache", "mounts", "ls", "-q").stdout == ""
    assert entries(pybuild, "-a") == []
    assert output(pybuild, "x", "cat", "/last") == "last\n"


# -- what goes by itself


def make_due(pybuild) -> None:
    os.utime(pybuild.root / "locks" / "gc", (1, 1))


TIGHT = {"PYBUILD_GC_MAX_USED_SPACE": "250kB", "PYBUILD_GC_RESERVED_SPACE": "0"}


def test_a_build_collects_when_it_is_time_and_says_what_it_freed(
    pybuild, busybox_image, context, project
) -> None:
    again = pybuild("-t", "x", context, env=TIGHT)
    assert "collect garbage" not in again.stderr, "it was looked a moment ago"
    make_due(pybuild)
    done = pybuild("-t", "x", context, env=TIGHT)
    assert "[internal] collect garbage of the build cache" in done.stderr
    assert "1 entry, freed 300kB" in done.stderr
    assert [e for e in entries(pybuild) if e["Type"] == "exec.cachemount"] == []
    assert project() == []
    make_due(pybuild)
    assert "collect garbage" not in pybuild("-t", "x", context).stderr, "there is room enough"
    make_due(pybuild)
    wrong = pybuild("-t", "x", context, env={"PYBUILD_GC_RESERVED_SPACE": "much"})
    assert 'not done: PYBUILD_GC_RESERVED_SPACE: "much" is no size' in wrong.stderr


def test_collections_and_builds_at_once(pybuild, busybox_image, context) -> None:
    """Every build wants to collect all that it can; none loses what it needs."""
    text = f"FROM {busybox_image}\nARG N\nRUN echo $N > /n\nRUN {UUID} > /u\n"
    write(context, {"Dockerfile": text})
    pybuild("-t", "x", context)
    env = {**TIGHT, "PYBUILD_GC_MAX_USED_SPACE": "1", "PYBUILD_GC_INTERVAL": "0"}
    builds = []
    for n in range(12):
        make_due(pybuild)
        args = ("-t", f"x:{n}", "--build-arg", f"N={n % 3}", context)
        builds.append(pybuild.start(*args, env=env))
    ends = [build.communicate(timeout=120)[1] for build in builds]
    assert [build.returncode for build in builds] == [0] * 12, ends
    for n in range(12):
        assert output(pybuild, f"x:{n}", "cat", "/n") == f"{n % 3}\n"
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


# -- what is damaged


def test_verify_drops_what_is_damaged_and_the_next_build_makes_it_anew(
    pybuild, busybox_image, context, project
) -> None:
    before = image_id(pybuild, "x")
    (layer,) = pybuild.root.glob("layers/sha256/*/fs/last")
    layer.write_text("LAST\n")
    config = pybuild.root / "blobs/sha256" / before.partition(":")[2]
    config.write_bytes(config.read_bytes().replace(b"amd64", b"arm64"))
    import sqlite3

    with sqlite3.connect(pybuild.root / "records.db") as db:
        db.execute("UPDATE records SET ingredients = replace(ingredients, 'head', 'tail')")
        db.execute("UPDATE records SET ingredients = '{' WHERE title LIKE 'COPY%'")
    db.close()
    found = pybuild("cache", "verify", check=False)
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert sum(line.endswith(": dropped") for line in lines) == 4, lines
    assert f"image {before}: " in found.stdout
    assert "dropped, with its names x:latest" in found.stdout
    assert "error: 5 problems found" in found.stderr
    assert pybuild("cache", "verify").stdout == "all is well\n"
    assert len(project()) == 3
    assert output(pybuild, "x", "cat", "/last") == "last\n"
    assert pybuild("system", "check", "--deep").stdout == "clean\n"


def test_system_check_and_verify_know_cache_mounts(pybuild, project) -> None:
    (record,) = pybuild.root.glob("cachemounts/*/record.json")
    record.write_text("broken")
    name = record.parent.name
    check = pybuild("system", "check", check=False)
    assert check.returncode == 1
    assert check.stdout.startswith(f"cache mount {name}: its record is damaged")
    found = pybuild("cache", "verify", check=False)
    assert found.stdout == f"cache mount {name}: its record is damaged: dropped\n"
    assert pybuild("system", "check").stdout == "clean\n"
