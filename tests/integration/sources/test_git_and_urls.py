"""ADD of git repositories and URLs, from servers on this machine."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import gitref
from builder.gitcheckout import Git, GitFailure
from runtime.cancel import Cancel

pytestmark = pytest.mark.kernel

Files = Callable[..., dict[str, str]]


@pytest.fixture(params=["dumb", "backend"])
def address(request, repository, serve) -> str:
    """Return the address of the repository, at either sort of server."""
    server = serve(repository.bare.parent, backend=request.param == "backend")
    return f"{server.address}/repo.git"


def added(context: Path, files_of: Files, *lines: str) -> dict[str, str]:
    (context / "Dockerfile").write_text("FROM scratch\n" + "\n".join(lines) + "\n")
    return files_of(context)


WHOLE = {
    "/r": "dir 755 0:0",
    "/r/.gitmodules": 'file 644 0:0 [submodule "lib"]\n\tpath = lib\n\turl = ../lib.git',
    "/r/f": "file 644 0:0 two",
    "/r/lib": "dir 755 0:0",
    "/r/lib/lib.c": "file 644 0:0 lib",
    "/r/link": "link f 0:0",
    "/r/out": "link /etc 0:0",
    "/r/run.sh": "file 755 0:0 #!/bin/sh",
    "/r/sub": "dir 755 0:0",
    "/r/sub/dir": "dir 755 0:0",
    "/r/sub/dir/g": "file 644 0:0 g",
}


def test_a_repository(address, context, files_of) -> None:
    old = os.umask(0o077)
    try:
        assert added(context, files_of, f"ADD {address} /r") == WHOLE
    finally:
        os.umask(old)


REFS = {
    "#main": "two",
    "#other": "other",
    "#light": "one",
    "#heavy": "two",
    "#refs/heads/other": "other",
    "#heads/other": "other",
    "#tags/light": "one",
    "#both": "other",
    "?tag=both": "one",
    "?branch=both": "other",
    "#{first}": "one",
    "?commit={first}": "one",
    "?ref=main&checksum={second}": "two",
    "?ref=heavy&checksum={short}": "two",
}


def test_refs(repository, serve, context, files_of) -> None:
    server = serve(repository.bare.parent, backend=True)
    names = {"first": repository.first, "second": repository.second}
    lines = [
        f"ADD --exclude=lib {server.address}/repo.git"
        f"{rest.format(**names, short=repository.second[:7])} /r{number}"
        for number, rest in enumerate(REFS)
    ]
    found = added(context, files_of, *lines)
    seen = {rest: found[f"/r{number}/f"] for number, rest in enumerate(REFS)}
    assert seen == {rest: f"file 644 0:0 {text}" for rest, text in REFS.items()}


def test_a_commit_by_name_from_a_server_that_knows_only_files(
    repository, serve, context, files_of
) -> None:
    server = serve(repository.bare.parent)
    source = f"{server.address}/repo.git#{repository.first}"
    assert added(context, files_of, f"ADD {source} /r")["/r/f"] == "file 644 0:0 one"


def test_a_directory_of_a_repository(address, context, files_of) -> None:
    found = added(
        context, files_of, f"ADD {address}#main:sub /r", f"ADD {address}?subdir=/sub/dir /s"
    )
    assert found["/r/dir/g"] == "file 644 0:0 g"
    assert found["/s/g"] == "file 644 0:0 g"
    assert "/r/f" not in found


def test_submodules_can_be_left_out(address, context, files_of) -> None:
    found = added(context, files_of, f"ADD {address}?submodules=false /r")
    assert found["/r/lib"] == "dir 755 0:0"
    assert "/r/lib/lib.c" not in found


def test_the_git_directory_is_kept_on_request(
    address, repository, git, context, pybuild, tmp_path
) -> None:
    lines = [f"ADD --keep-git-dir {address}#heavy /r", f"ADD {address}?keep-git-dir=1#:sub /s"]
    (context / "Dockerfile").write_text("FROM scratch\n" + "\n".join(lines) + "\n")
    pybuild("-o", f"type=oci,dest={tmp_path}/x.tar", "-t", "x", context)
    (kept,) = [
        path
        for path in pybuild.root.glob("layers/sha256/*/fs/r/.git")
        if (path / "config").exists()
    ]
    assert git(kept.parent, "rev-parse", "heavy^{commit}") == repository.second
    assert git(kept.parent, "status", "--porcelain") == ""
    assert git(kept.parent, "remote", "get-url", "origin") == address.partition("?")[0]
    assert git(kept.parent, "describe", "--tags") == "heavy"
    assert not (kept / "FETCH_HEAD").exists()
    assert not (kept / "hooks").exists()
    assert not list(pybuild.root.glob("layers/sha256/*/fs/s/.git"))


def test_files_may_have_the_commits_time(address, busybox_image, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox_image}\nADD {address}?mtime=commit /r\n")
    pybuild("-t", "x", context)
    times = pybuild("run", "--rm", "x", "stat", "-c", "%Y", "/r/f", "/r/sub", "/r/lib/lib.c").stdout
    assert times.split() == ["1600000000"] * 3


def test_a_branch_is_asked_for_each_time_and_fetched_once(
    repository, git, commit, serve, context, pybuild
) -> None:
    server = serve(repository.bare.parent, backend=True)
    text = f"FROM scratch\nADD --exclude=lib {server.address}/repo.git#main /r\n"
    (context / "Dockerfile").write_text(text)
    pybuild(context)
    server.requests.clear()
    again = pybuild(context)
    assert again.stderr.count("CACHED") == 2
    assert [path.partition("?")[0] for path in server.requests] == [
        "/repo.git/info/refs",
        "/repo.git/git-upload-pack",
    ]
    server.requests.clear()
    (context / "Dockerfile").write_text(text.replace("#main", f"#{repository.second}"))
    assert pybuild(context).stderr.count("CACHED") == 2
    assert server.requests == []
    commit(repository.work, {"f": "three"})
    git(repository.work, "push", "-q", str(repository.bare), "main")
    (context / "Dockerfile").write_text(text)
    assert pybuild(context).stderr.count("CACHED") == 0


def test_what_is_said_when_git_cannot(repository, serve, context, pybuild, tmp_path) -> None:
    server = serve(repository.bare.parent, backend=True)
    url = f"{server.address}/repo.git"
    cases = {
        f"{url}#nosuchref /r": "repository does not contain ref nosuchref",
        f"{server.address}/none.git /r": "not found",
        f"{url}#main:none /r": "subdir none: no such directory",
        f"--checksum={'0' * 40} {url}#main /r": "expected checksum to match",
        f"--checksum=xyz {url} /r": "invalid checksum",
        f"{url}#{'0' * 40} /r": "git fetch",
        f"--keep-git-dir=false {url}?keep-git-dir=1 /r": "inconsistent keep-git-dir",
        "http://u:secretword@127.0.0.1:1/x.git /r": "git ls-remote http://u:xxxxx@127.0.0.1:1/x.git",
    }
    for words, part in cases.items():
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {words}\n")
        result = pybuild("build", context, check=False)
        assert result.returncode == 1
        assert part in result.stderr
        assert "Dockerfile:2" in result.stderr
        assert "Traceback" not in result.stderr
        if "secretword" in words:
            assert "secretword" not in result.stderr.partition("-----")[0]
    empty = tmp_path / "bin"
    empty.mkdir()
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {url} /r\n")
    result = pybuild("build", context, check=False, env={"PATH": str(empty)})
    assert "git is not installed" in result.stderr
    assert "hint: install the package git" in result.stderr


SSH = """\
#!/bin/sh
echo "$* $(ssh-add -l | cut -d' ' -f3)" >> $LOG
for last; do :; done
exec sh -c "$last"
"""


def test_ssh_with_a_key(repository, context, pybuild, tool, tmp_path) -> None:
    """What talks to the server has the agent that --ssh gives; addresses are those of git."""
    tool("ssh-add")
    key = tmp_path / "key"
    make = [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "deploy", "-f", str(key)]
    subprocess.run(make, check=True)
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    log = tmp_path / "log"
    environment = {"GIT_SSH_COMMAND": str(tmp_path / "ssh"), "LOG": str(log), "SSH_AUTH_SOCK": None}
    path = repository.bare
    scp = f"git@host.invalid:{path}?submodules=false"
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {scp}#main /r\n")
    out = ["-o", tmp_path / "out"]
    pybuild("--ssh", f"default={key}", *out, context, env=environment)
    assert (tmp_path / "out/r/f").read_text() == "two"
    commit_to = f"ssh://git@host.invalid:2222{path}?submodules=false#other"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY f /main\n")
    words = ["--ssh", f"default={key}", "-f", tmp_path / "Dockerfile", commit_to]
    pybuild(*out, *words, env=environment)
    assert (tmp_path / "out/main").read_text() == "other"
    pybuild("lock", *words, env=environment)
    lines = log.read_text().splitlines()
    assert lines
    for line in lines:
        assert line.endswith(" deploy"), line
    assert "git@host.invalid git-upload-pack" in lines[0]
    assert "-p 2222 git@host.invalid git-upload-pack" in lines[-1]


def test_a_token_goes_to_its_server_as_a_header(repository, serve, context, pybuild) -> None:
    server = serve(repository.bare.parent, backend=True)
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.address}/repo.git /r\n")
    host = "127.0.0.1"
    secrets = [
        "--secret",
        "id=GIT_AUTH_TOKEN,env=A",
        "--secret",
        f"id=GIT_AUTH_HEADER.{host},env=B",
    ]
    pybuild("build", *secrets[:2], context, env={"A": "tok", "B": "Bearer x"})
    assert server.sent("/repo.git") == {"basic eC1hY2Nlc3MtdG9rZW46dG9r"}
    assert server.sent("/lib.git") == {None}
    server.authorization.clear()
    pybuild("build", "--no-cache", *secrets, context, env={"A": "tok", "B": "Bearer x"})
    assert server.sent("/repo.git") == {"Bearer x"}


def test_hostile_repositories_stay_inside(tmp_path, git, commit, serve, context, pybuild) -> None:
    """A subdirectory that is a link out, a link for .gitmodules' path: nothing outside is read."""
    work = tmp_path / "hostile"
    work.mkdir()
    git(work, "init", "-q")
    os.symlink("/etc", work / "sub")
    (work / ".gitattributes").write_text("f filter=evil\n")
    commit(work, {"f": "f"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "-q", "--bare", "hostile", "served/repo.git")
    server = serve(tmp_path / "served", backend=True)
    (context / "Dockerfile").write_text(
        f"FROM scratch\nADD {server.address}/repo.git#main:sub /r\n"
    )
    result = pybuild("build", context, check=False)
    assert "subdir sub: no such directory" in result.stderr
    mark = tmp_path / "mark"
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "filter.evil.smudge",
        "GIT_CONFIG_VALUE_0": f"touch {mark}; cat",
    }
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.address}/repo.git /r\n")
    pybuild("build", context, env=settings)
    assert not mark.exists()


@pytest.fixture
def check_out(tmp_path: Path, serve) -> Callable[..., Path]:
    """Return a function that checks out `served/repo.git` with a Git of such guards."""

    def made(**guards: object) -> Path:
        server = serve(tmp_path / "served", backend=True)
        ref = gitref.parse(f"{server.address}/repo.git#main")
        assert ref is not None
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for name in ("scratch", "tree"):
            (folder / name).mkdir()
        git = Git(Cancel(), lambda name: None, **guards)
        git.check_out(ref, git.find(ref), str(folder / "scratch"), str(folder / "tree"))
        return folder / "tree"

    return made


def test_a_submodule_is_no_folder_of_this_machine(tmp_path, git, commit, check_out) -> None:
    secret = tmp_path / "secret"
    work = tmp_path / "work"
    for folder in (secret, work):
        folder.mkdir()
        git(folder, "init", "-q")
    commit(secret, {"key": "secretword"})
    git(work, "submodule", "add", str(secret), "sub")
    commit(work, {"f": "f"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "-q", "--bare", "work", "served/repo.git")
    with pytest.raises(GitFailure, match="transport 'file' not allowed"):
        check_out()
    assert (check_out(settings=(), protocols="http:file") / "sub/key").read_text() == "secretword"


def test_no_filter_and_no_hook_runs(tmp_path, git, commit, check_out, monkeypatch) -> None:
    """A repository may name a filter that the machine has; hooks are the machine's own."""
    mark = tmp_path / "mark"
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    commit(work, {".gitattributes": "f filter=known\n", "f": "f"})
    (tmp_path / "served").mkdir()
    git(tmp_path, "clone", "-q", "--bare", "work", "served/repo.git")
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/post-checkout").write_text(f"#!/bin/sh\necho hook >> {mark}\n")
    (tmp_path / "hooks/post-checkout").chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "filter.known.smudge")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"echo filter >> {mark}; cat")
    monkeypatch.setenv("GIT_CONFIG_KEY_1", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_1", str(tmp_path / "hooks"))
    check_out()
    assert not mark.exists()
    check_out(settings=(), isolated=False)
    assert mark.read_text() == "filter\nhook\n"


# -- URLs


def test_urls(site, context, files_of) -> None:
    url = site.address
    digest = hashlib.sha256(b"text\n").hexdigest()
    found = added(
        context,
        files_of,
        f"ADD {url}/f.txt /",
        f"ADD {url}/f.txt /name",
        f"ADD {url}/a%20b /d/",
        f"ADD {url}/dir/ /d/",
        f"ADD {url} /d/",
        f"ADD --chmod=640 --chown=3:4 {url}/f.txt /e/",
        f"ADD --checksum=sha256:{digest} {url}/f.txt?x=1 /g/",
        f"ADD {url}/a.gz /h/",
        f"ADD {url}/f.txt {url}/plain /i/",
    )
    assert found["/f.txt"] == "file 600 0:0 text"
    assert found["/name"] == "file 600 0:0 text"
    assert found["/d/a b"] == "file 600 0:0 blank"
    assert found["/d/dir"] == "file 600 0:0 index"
    assert found["/d/__unnamed__"].startswith("file 600 0:0 <!DOCTYPE")
    assert found["/e/f.txt"] == "file 640 3:4 text"
    assert found["/g/f.txt"] == "file 600 0:0 text"
    assert found["/h/a.gz"].startswith("file 600 0:0 ")
    assert found["/i/plain"].startswith("file 600 0:0 in/tar")


def test_archives_at_an_address_are_unpacked_on_request(site, context, files_of) -> None:
    lines = [f"ADD --unpack {site.address}/a.{mode} /{mode}" for mode in ("gz", "bz2", "xz")]
    found = added(
        context,
        files_of,
        *lines,
        f"ADD --unpack {site.address}/plain /plain",
        f"ADD --unpack --chown=1:2 {site.address}/plain /owned/",
        f"ADD --unpack {site.address}/f.txt /text",
        f"ADD --unpack=false {site.address}/plain /packed",
    )
    for name in ("gz", "bz2", "xz", "plain"):
        assert found[f"/{name}/in/tar"] == "file 640 5:6 t"
    assert found["/owned/in/tar"] == "file 640 1:2 t"
    assert found["/text"] == "file 600 0:0 text"
    assert found["/packed"].startswith("file 600 0:0 in/tar")


def test_a_wrong_checksum(site, context, pybuild) -> None:
    text = f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {site.address}/f.txt /\n"
    (context / "Dockerfile").write_text(text)
    result = pybuild("build", context, check=False)
    assert result.returncode == 1
    assert f"expected sha256:{'0' * 64}" in result.stderr
    assert "Dockerfile:2" in result.stderr


def test_a_changed_file_is_noticed_by_the_server_being_asked(site, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {site.address}/f.txt /\n")
    pybuild(context)
    assert pybuild(context).stderr.count("CACHED") == 2
    (site.folder / "f.txt").write_text("changed\n")
    assert pybuild(context).stderr.count("CACHED") == 0


def test_a_token_for_a_download(site, context, pybuild) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {site.address}/f.txt /\n")
    secret = ["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=A"]
    pybuild("build", *secret, context, env={"A": "tok"})
    assert site.sent("/f.txt") == {"Bearer tok"}
    site.authorization.clear()
    secret = ["--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,env=A"]
    pybuild("build", "--no-cache", *secret, context, env={"A": "Basic abc"})
    assert site.sent("/f.txt") == {"Basic abc"}
