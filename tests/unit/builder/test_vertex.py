"""Which operations are the same vertex."""

import pytest

from builder.runmounts import CacheMount, RunMount, SecretMount, SshMount
from builder.vertex import RunOp, VertexID, vertex_id

CACHE = CacheMount("/c", "one")
SECRET = SecretMount("one", "/run/secrets/one", None, True)
AGENT = SshMount("one", "/run/agent", True)


def vertex_of(*mounts: RunMount) -> VertexID:
    op = RunOp(("true",), (), "/", "", "none", "h", "linux/amd64", mounts=mounts)
    return vertex_id(op, (), "linux/amd64")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CACHE, CacheMount("/c", "two")),
        (CACHE, CacheMount("/c", "one", "locked")),
        (SECRET, SecretMount("two", "/run/secrets/one", None, True)),
        (AGENT, SshMount("two", "/run/agent", True)),
    ],
)
def test_steps_with_other_mounts_are_others(one: RunMount, other: RunMount) -> None:
    """A key leaves out where a cache is kept; which step runs must not."""
    assert vertex_of(one) == vertex_of(one)
    assert vertex_of(one) != vertex_of(other)
    assert vertex_of(one, one) != vertex_of(one)
