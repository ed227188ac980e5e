"""docker's rules of what overrides what, and the Spec that comes of it."""

import json
import os

import pytest

from runtime.bundle import (
    BindMount,
    RunOptions,
    command_of,
    environment_of,
    make_spec,
    oci_seccomp,
    resolve_user,
)
from runtime.defaults import CAPABILITIES, seccomp_profile
from runtime.errors import InvalidSpec, UserNotFound
from runtime.spec import from_json, to_json
from store.oci import ContainerConfig


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "run_entrypoint", "run_args", "expected"),
    [
        (None, ("c",), None, None, ("c",)),
        (("e",), ("c",), None, None, ("e", "c")),
        (("e",), ("c",), None, ("a", "b"), ("e", "a", "b")),
        (("e",), ("c",), None, (), ("e",)),
        (("e",), ("c",), ("x",), None, ("x",)),
        (("e",), ("c",), ("x",), ("a",), ("x", "a")),
        (("e",), ("c",), (), ("a",), ("a",)),
    ],
)
def test_command(entrypoint, cmd, run_entrypoint, run_args, expected):
    config = ContainerConfig(entrypoint=entrypoint, cmd=cmd)
    assert command_of(config, RunOptions(entrypoint=run_entrypoint, args=run_args)) == expected


@pytest.mark.parametrize("config", [ContainerConfig(), ContainerConfig(cmd=("",))])
def test_no_command(config):
    with pytest.raises(InvalidSpec, match="no command specified"):
        command_of(config, RunOptions())


def test_environment():
    config = ContainerConfig(env=("PATH=/image", "A=1", "B=2"))
    options = RunOptions(env=("B=3", "A", "C="), hostname="box", tty=True)
    assert environment_of(config, options) == (
        *("PATH=/image", "HOSTNAME=box", "TERM=xterm", "B=3", "C="),
    )
    assert environment_of(ContainerConfig(), RunOptions())[0].startswith("PATH=/usr/local/sbin:")


def test_user_without_a_root_is_numbers_only():
    assert resolve_user("12:34", None) == ({"uid": 12, "gid": 34}, "/")
    assert resolve_user("", None) == ({"uid": 0, "gid": 0}, "/")
    with pytest.raises(UserNotFound):
        resolve_user("app", None)


def test_user_from_the_root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("app:x:1000:1001::/home/app:/bin/sh\n")
    (tmp_path / "etc/group").write_text("audio:x:29:app\n")
    root = os.open(tmp_path, os.O_RDONLY)
    user, home = resolve_user("app", root)
    assert user == {"uid": 1000, "gid": 1001, "additionalGids": [29, 1001]}
    assert home == "/home/app"
    with pytest.raises(UserNotFound, match="unable to find user nobody"):
        resolve_user("nobody", root)
    os.close(root)


def test_spec_survives_json():
    options = RunOptions(args=("true",), mounts=(BindMount("/b", "/x/y"), BindMount("/a", "/x")))
    spec = make_spec(ContainerConfig(), options)
    assert from_json(to_json(spec)) == spec
    assert [m["destination"] for m in spec["mounts"]][-2:] == ["/x", "/x/y"]
    assert json.loads(to_json(spec))["process"]["capabilities"].keys() == {
        *("bounding", "effective", "permitted"),
    }


def test_privileged_spec():
    spec = make_spec(ContainerConfig(), RunOptions(args=("true",), privileged=True))
    assert "seccomp" not in spec["linux"]
    assert spec["linux"]["maskedPaths"] == []
    assert len(spec["process"]["capabilities"]["bounding"]) == 41


def test_seccomp_means_the_same_in_both_forms():
    """The program compiled from docker's form and from our OCI form of it must be equal."""
    from runtime.linux.seccomp import filter_for

    for capabilities in (CAPABILITIES, (*CAPABILITIES, "CAP_SYS_ADMIN")):
        profile = seccomp_profile()
        direct = filter_for(profile, capabilities)
        again = oci_seccomp(profile, capabilities)
        assert again["architectures"][0].startswith("SCMP_ARCH_")
        assert len(filter_for(again, capabilities)) == pytest.approx(len(direct), rel=0.05)
