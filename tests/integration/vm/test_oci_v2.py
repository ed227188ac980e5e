"""The OCI command line where there is cgroup v2 alone, on kernel 6.1."""

import pytest

pytestmark = [pytest.mark.kernel]

# What depends on the kernel or on cgroups; emulated, the whole table would take minutes.
FIELDS = (
    *("mounts", "mount-idmap", "user-namespace", "time-offsets", "namespaces-joined", "seccomp"),
    *("device-rules", "cgroups-path", "memory", "cpu", "pids", "block-io", "unified"),
)
SCOPES = ("the_limits_are_properties_of_a_scope", "a_life_in_a_scope")
SCOPES += ("what_a_container_sees_without_a_cgroup_namespace", "a_users_own_systemd")
VERBS = ("test_exec_takes_a_process", "test_pause_and_resume", "test_update_and_events")
VERBS += ("test_a_user_of_its_own_governs_its_cgroups[rw]",)


NAMES = (
    *(f"tests/conformance/test_oci.py::test_case[{name}]" for name in FIELDS),
    *(f"tests/integration/oci/test_lifecycle.py::{verb}" for verb in VERBS),
    "tests/integration/oci/test_attacks.py::test_the_magic_key",
    *(f"tests/integration/oci/test_systemd.py::test_{name}" for name in SCOPES),
)


@pytest.mark.inside(*NAMES)
def test_fields_and_verbs(inside) -> None:
    assert inside == set(NAMES)
