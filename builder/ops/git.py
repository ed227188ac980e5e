"""A git repository as a step: the commit is asked for in every build, its files come once."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from builder.errors import InstructionError
from builder.gitcheckout import Commit, Git, GitFailure
from builder.gitref import GitRef, without_credentials
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.site import Result, Site, Step
from builder.vertex import GitOp, Vertex


@describe.register
def describe_git(op: GitOp, vertex: Vertex, _inputs: Sequence[Result], site: Site) -> Ingredients:
    """A repository: the commit, and which of its files are wanted; not where it comes from."""
    commit = commit_of(op.ref, vertex, site)
    ref = op.ref
    keeps = bool(ref.keep_git_dir)
    keyed = {
        "commit": commit.name if keeps else commit.commit,
        "subdir": ref.subdir,
        "keep_git_dir": [without_credentials(ref.remote), commit.ref] if keeps else None,
        "submodules": ref.submodules is not False,
        "commit_time": ref.commit_time,
    }
    return Ingredients(keyed, {"remote": without_credentials(ref.remote), "ref": commit.ref})


@perform.register
def perform_git(
    op: GitOp, vertex: Vertex, _inputs: Sequence[Result], site: Site, step: Step
) -> Made:
    """Check the commit out; its files are a layer."""
    commit = commit_of(op.ref, vertex, site)
    step.message(f"{commit.name} {commit.ref}".rstrip())
    scratch = site.store.folder.scratch_directory()
    try:
        with site.store.snapshots.prepare(()) as active:
            with told(vertex):
                git_of(site, step).check_out(op.ref, commit, scratch.path, active.upper)
            info = active.commit(watcher=site.watch(vertex))
    finally:
        site.store.remove_tree(scratch.path)
        os.close(scratch.fd)
    return Made(info.diff_id, info.size_bytes)


def git_of(site: Site, step: Step | None = None) -> Git:
    """Return what calls git for a build."""
    secret = site.supplies.secrets.value
    if step is None:
        return Git(site.cancel, secret)
    return Git(site.cancel, secret, lambda data: step.output(2, data))


def commit_of(ref: GitRef, vertex: Vertex, site: Site) -> Commit:
    """Return the commit that a ref is, the same one in all of a build. Raises InstructionError."""
    known = site.commits.get(ref)
    if known is None:
        with told(vertex):
            known = site.commits.setdefault(ref, git_of(site).find(ref))
    return known


@contextmanager
def told(vertex: Vertex) -> Iterator[None]:
    """Say of git's failures which instruction they are of."""
    try:
        yield
    except GitFailure as error:
        raise InstructionError(vertex.place, str(error), hint=error.hint) from error
