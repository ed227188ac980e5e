"""A git repository as a step: the commit is asked for in every build, its files come once."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from builder.errors import InstructionError
from builder.gitcheckout import Commit, Git, GitFailure, TooSlow
from builder.gitref import GitRef, without_credentials
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.ops.tries import tried
from builder.policy import duration_words
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

    def attempt() -> Made:
        scratch = site.store.folder.scratch_directory()
        try:
            with site.store.snapshots.prepare(()) as active:
                with told(vertex):
                    git = git_of(vertex, site, lambda data: step.output(2, data))
                    git.check_out(op.ref, commit, scratch.path, active.upper)
                info = active.commit(watcher=site.watch(vertex))
        finally:
            site.store.remove_tree(scratch.path)
            os.close(scratch.fd)
        return Made(info.diff_id, info.size_bytes)

    return tried(attempt, vertex, site, step)


def git_of(
    vertex: Vertex, site: Site, on_output: Callable[[bytes], None] = lambda _data: None
) -> Git:
    """Return what calls git for one try of a step, which begins now."""
    limit_ms = vertex.policies.timeout_ms
    return Git(
        site.cancel,
        site.supplies.secrets.value,
        on_output,
        site.supplies.secrets.key_agent,
        deadline=time.monotonic() + limit_ms / 1000 if limit_ms else None,
    )


def commit_of(ref: GitRef, vertex: Vertex, site: Site) -> Commit:
    """Return the commit that a ref is, the same one in all of a build. Raises InstructionError."""
    known = site.commits.get(ref)
    if known is None:
        with told(vertex):
            known = site.commits.setdefault(ref, git_of(vertex, site).find(ref))
    return known


@contextmanager
def told(vertex: Vertex) -> Iterator[None]:
    """Say of git's failures which instruction they are of."""
    try:
        yield
    except TooSlow as error:
        text = f"{error}: exceeded its timeout of {duration_words(vertex.policies.timeout_ms)}"
        raise InstructionError(vertex.place, text) from error
    except GitFailure as error:
        raise InstructionError(vertex.place, str(error), hint=error.hint) from error
