"""What is in a cache key: everything that can change what a step makes."""

import dataclasses

import pytest

from builder.cache import make_key
from builder.ops.registry import Ingredients, describe
from builder.ops.run import describe_run  # noqa: F401  importing registers it
from builder.request import Sandbox, Ulimit
from builder.vertex import RunOp
from store.digest import DiffID, Digest

PARENT = DiffID("sha256:" + "0" * 64)
OP = RunOp(("sh", "-c", "x"), (("A", "1"),), "/", "0", "default", "h", "linux/amd64")
CHANGED: dict[str, object] = {
    "args": ("sh", "-c", "y"),
    "env": (("A", "2"),),
    "cwd": "/w",
    "user": "1",
    "network": "none",
    "hostname": "other",
    "security": "insecure",
}
SANDBOXES = {
    "isolation": Sandbox(isolation="chroot"),
    "extra_hosts": Sandbox(extra_hosts=(("a", "1.2.3.4"),)),
    "shm_bytes": Sandbox(shm_bytes=1 << 20),
    "ulimits": Sandbox(ulimits=(Ulimit("nofile", 1, 2),)),
    "env": Sandbox(env=(("TZ", "UTC"),)),
}
# The platform is a part of every key; proxies and mounts have tests of their own.
ELSEWHERE = {"platform", "proxy_env", "mounts", "sandbox"}


def key_of(op: RunOp, platform: str = "linux/amd64") -> Digest:
    ingredients = describe(op, None, (), None)  # type: ignore[arg-type]  no mount asks for them
    return make_key("run", [PARENT], platform, ingredients).digest


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_process_is_given_counts(name: str) -> None:
    assert key_of(dataclasses.replace(OP, **{name: CHANGED[name]})) != key_of(OP)


@pytest.mark.parametrize("name", SANDBOXES)
def test_what_every_container_of_a_build_gets_counts(name: str) -> None:
    assert key_of(dataclasses.replace(OP, sandbox=SANDBOXES[name])) != key_of(OP)


def test_its_cgroup_does_not() -> None:
    elsewhere = dataclasses.replace(OP, sandbox=Sandbox(cgroup_parent="/x"))
    assert key_of(elsewhere) == key_of(OP)
    assert {field.name for field in dataclasses.fields(Sandbox)} == {*SANDBOXES, "cgroup_parent"}


def test_every_field_is_thought_of() -> None:
    assert {field.name for field in dataclasses.fields(OP)} == {*CHANGED, *ELSEWHERE}


def test_proxies_do_not_count() -> None:
    proxied = dataclasses.replace(OP, proxy_env=(("http_proxy", "http://p"),))
    assert key_of(proxied) == key_of(OP)


def test_platform_and_fidelity_count() -> None:
    assert key_of(OP, "linux/arm64") != key_of(OP)
    assert make_key("run", [], "p", Ingredients({})).ingredients["fidelity"] == "full"


def test_the_kind_and_the_parent_count() -> None:
    keys = {
        make_key(kind, parent, "p", Ingredients({})).digest
        for kind in ("run", "copy")
        for parent in ([], [PARENT], [PARENT, PARENT])
    }
    assert len(keys) == 6
