"""Addresses of git repositories, as ADD, contexts and named contexts are given them.

Pure. Owns what counts as one, and what its fragment and query mean; never calls git.
Source: Dockerfile reference, "Adding files from a Git repository"; build context, "URL fragments"
and "URL queries".
"""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from values.classes import dataclass, replace

_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCHEMES = ("http", "https", "ssh", "git")
_SCP = re.compile(r"([\w-]+@[A-Za-z0-9.][A-Za-z0-9.-]*:[^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class InvalidGitAddress(Exception):
    """An address is one of a git repository, and what it says does not fit together."""


@dataclass(frozen=True, slots=True)
class GitRef:
    """A state of a repository, or of a directory in it.

    remote: the address that git is given. ref: a branch, a tag, a whole ref or a commit; "" is the
    default branch. checksum: what the commit's name has to begin with. keep_git_dir, submodules:
    None where the address says nothing. commit_time: files get the commit's time, not today's.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    commit_time: bool = False


def is_commit(text: str) -> bool:
    """Tell whether `text` is the whole name of a commit."""
    return _COMMIT.fullmatch(text) is not None


def parse(address: str) -> GitRef | None:
    """Return what an address means, None where it is not one of a git repository.

    An http address is one only if its path ends in `.git`. Raises InvalidGitAddress.
    """
    if address.startswith(("./", "../")):
        return None
    scheme = _SCHEME.match(address)
    if scheme is None:
        found = _SCP.fullmatch(address)
        return None if found is None else _with_rest(found[1], found[2] or "", found[3] or "")
    if scheme[1].lower() not in _SCHEMES:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme in ("http", "https") and not unquote(parts.path).endswith(".git"):
        return None
    remote = parts._replace(query="", fragment="").geturl()
    return _with_rest(remote, parts.query, unquote(parts.fragment))


def parse_context(address: str) -> GitRef | None:
    """Return what the address of a build context means; `github.com/…` counts there, too."""
    if address.startswith("github.com/"):
        parts = urlsplit(f"https://{address}")
        remote = parts._replace(query="", fragment="").geturl()
        return _with_rest(remote, parts.query, unquote(parts.fragment))
    return parse(address)


def without_password(remote: str) -> str:
    """Return an address that can be shown."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:xxxxx@", remote)


def without_credentials(remote: str) -> str:
    """Return an address without the user of an URL: what may be written down."""
    return re.sub(r"(://)[^/@]*@", r"\1", remote)


def _with_rest(remote: str, query: str, fragment: str) -> GitRef:
    ref, _, subdir = fragment.partition(":")
    found = _with_query(GitRef(remote, ref, subdir), query)
    if found.checksum and not found.ref:
        found = replace(found, ref=found.checksum)
    for what, text in (("ref", found.ref), ("checksum", found.checksum)):
        # git would take it for an option.
        if text.startswith("-"):
            raise InvalidGitAddress(f"{what} {text!r} begins with a dash")
    return found


def _with_query(found: GitRef, query: str) -> GitRef:
    seen: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in seen:
            raise InvalidGitAddress(f'query "{key}" has several values')
        seen[key] = value
        if not value and key not in ("submodules", "keep-git-dir", "fetch-by-commit"):
            raise InvalidGitAddress(f'query "{key}" has no value')
    if "tag" in seen and "branch" in seen:
        raise InvalidGitAddress("branch conflicts with tag")
    if "checksum" in seen and "commit" in seen and seen["checksum"] != seen["commit"]:
        raise InvalidGitAddress("checksum conflicts with commit")
    for key, value in seen.items():
        found = _with_key(found, key, value)
    return found


def _with_key(found: GitRef, key: str, value: str) -> GitRef:
    match key:
        case "ref":
            return replace(found, ref=_only("ref", found.ref, value))
        case "tag" | "branch":
            prefix = "refs/tags/" if key == "tag" else "refs/heads/"
            ref = prefix + value.removeprefix(prefix)
            return replace(found, ref=_only("ref", found.ref, ref))
        case "subdir":
            return replace(found, subdir=_only("subdir", found.subdir, value))
        case "checksum" | "commit":
            return replace(found, checksum=value)
        case "keep-git-dir":
            return replace(found, keep_git_dir=_boolean(key, value))
        case "submodules":
            return replace(found, submodules=_boolean(key, value))
        case "mtime" if value in ("checkout", "commit"):
            return replace(found, commit_time=value == "commit")
        case "mtime":
            raise InvalidGitAddress(f'invalid mtime value "{value}": checkout or commit')
        case "fetch-by-commit":
            _boolean(key, value)  # a commit is always fetched by its name first
            return found
    raise InvalidGitAddress(f'unexpected query "{key}"')


def _only(what: str, known: str, value: str) -> str:
    if known and known != value:
        raise InvalidGitAddress(f'{what} conflicts: "{known}" vs "{value}"')
    return value


def _boolean(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidGitAddress(f'invalid {key} value: "{value}"')
