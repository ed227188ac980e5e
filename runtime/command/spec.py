"""spec: write a config.json to begin with."""

import os

from runtime import defaults
from runtime.command.context import Context
from runtime.command.options import Options, Parsed, UsageError
from runtime.container import OCI_VERSION
from runtime.errors import RuntimeFailure
from runtime.spec import Spec, to_json

USAGE = "[--bundle DIR]"
OPTIONS: Options = {"bundle": ("b", "text"), "rootless": ("", "flag")}
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def run(parsed: Parsed, context: Context) -> int:
    """Write config.json into the bundle's folder; one that is there stays."""
    del context
    if parsed.words:
        raise UsageError(f"spec: no arguments are expected, not {parsed.words[0]!r}")
    path = os.path.join(parsed.text("bundle") or ".", "config.json")
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise RuntimeFailure(f"file {path} exists. Remove it first") from None
    with os.fdopen(fd, "wb") as file:
        file.write(to_json(example()) + b"\n")
    return 0


def example() -> Spec:
    """Return the container that runc's `spec` describes: a shell on a read-only root."""
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={defaults.PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": _CAPABILITIES,
                "effective": _CAPABILITIES,
                "permitted": _CAPABILITIES,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pybuild",
        "mounts": defaults.mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": list(defaults.MASKED_PATHS),
            "readonlyPaths": list(defaults.READ_ONLY_PATHS),
        },
    }
