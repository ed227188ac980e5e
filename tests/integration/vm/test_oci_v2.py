"""The OCI command line where there is cgroup v2 alone, on kernel 6.1."""

import pytest

pytestmark = [pytest.mark.kernel]

FIELDS = (
    "args or user or capabilities or names or mounts or mount-below or mount-idmap or copy-up"
    " or namespaces or user-namespace or time-offsets or devices or device-rules or cgroups-path"
    " or memory or cpu or pids or block-io or unified or masked or seccomp or root-propagation"
)
VERBS = "a_life or exec or pause or update or hooks or seccomp or descriptors"


def test_fields(machine) -> None:
    passed = machine.pytest("tests/conformance/test_oci.py", "-k", FIELDS)
    assert len(passed) > 40


def test_verbs(machine) -> None:
    passed = machine.pytest("tests/integration/oci/test_lifecycle.py", "-k", VERBS)
    assert len(passed) > 7
