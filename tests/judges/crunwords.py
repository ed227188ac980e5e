"""crun's command line for a runtime that has runc's."""

import os
import shutil
import sys

RUNTIME = "@RUNTIME@"

said = []
words = iter(sys.argv[1:])
for word in words:
    if word == "--cgroup-manager":
        if next(words) == "systemd":
            said.append("--systemd-cgroup")
    elif word == "--config":
        path = next(words)
        if path != "config.json":
            shutil.copy(path, "config.json")
    else:
        said.append(word)
os.execv(RUNTIME, [RUNTIME, *said])
