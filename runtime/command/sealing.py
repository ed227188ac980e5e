"""Goes on in an interpreter that no container can overwrite through /proc/<pid>/exe.

What a container's process executes as /proc/self/exe, or opens as it, is the file that this
process runs from (CVE-2019-5736's class): so that is a read-only mount of its own.
"""

import os
import sys

from runtime.sealedpython import interpreter, library_environment, sealed_interpreter

_CODE = (
    "import gc,sys;gc.disable();a=sys.argv;sys.path.append(a[1]);"
    "from runtime.command.main import leave,sealed_main;leave(sealed_main(a[2:]))"
)


def become_sealed(argv: "list[str]") -> None:
    """Start over with `argv` in a bare, sealed interpreter. Raises NotPrivileged, OSError."""
    image = sealed_interpreter()
    house = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    words = [interpreter(), "-I", "-S", "-X", "utf8", "-c", _CODE, house, *argv]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(f"/proc/self/fd/{image}", words, {**os.environ, **library_environment()})
