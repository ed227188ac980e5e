"""features: print what this runtime can do. Source: runtime-spec features.md."""

import sys

from runtime import rootfs, schema
from runtime.command.context import Context
from runtime.command.options import Options, Parsed
from runtime.container import OCI_VERSION
from runtime.linux.capabilities import NAMES
from runtime.planning import HOOK_MOMENTS
from runtime.process import MEMORY_FLAGS, MEMORY_MODES

USAGE = ""
OPTIONS: Options = {}
_ARCHITECTURES = ("AARCH64", "ARM", "X32", "X86", "X86_64")


def run(parsed: Parsed, context: Context) -> int:
    """Print the features."""
    del parsed, context
    import json

    sys.stdout.write(json.dumps(features(), indent=4) + "\n")
    return 0


def features() -> "dict[str, object]":
    """Return the features as features.md has them."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": list(HOOK_MOMENTS),
        "mountOptions": sorted(rootfs.MOUNT_OPTIONS),
        "linux": {
            "namespaces": list(schema.NAMESPACE_TYPES),
            "capabilities": list(NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": list(schema.SECCOMP_ACTIONS),
                "operators": list(schema.SECCOMP_OPERATORS),
                "archs": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES],
                "knownFlags": list(schema.SECCOMP_FLAGS),
                "supportedFlags": list(schema.SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
            "memoryPolicy": {
                "modes": list(MEMORY_MODES),
                "flags": list(MEMORY_FLAGS),
            },
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [],
    }
