"""An ordinary user on kernel 6.1 with a cgroup of his own: his containers have limits."""

import pytest

pytestmark = [pytest.mark.kernel]

USER = 4321
DELEGATE = f"""\
#!/bin/sh -e
modprobe overlay
tree=/sys/fs/cgroup
mkdir -p $tree/handed/session /disk/home /disk/open
echo "+memory +pids" > $tree/cgroup.subtree_control
for name in "" /cgroup.procs /cgroup.subtree_control; do chown {USER} $tree/handed$name; done
chown -R {USER} $tree/handed/session /disk/home
cp rootfs.tar /disk/home
cat > /disk/script <<END
export HOME=/disk/home PYTHONPATH=/payload/project PYBUILD_ROOT=/disk/home/store
cd /disk/home
python3 -m pybuild import rootfs.tar busybox:test
python3 -m pybuild run --rm --pids-limit 7 --memory 64m busybox:test sh -c \\
    'cd /sys/fs/cgroup; cat pids.max memory.max; id -u'
END
echo $$ > $tree/handed/session/cgroup.procs
exec python3 -c "
import os
os.setgroups([]); os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})
os.execv('/bin/sh', ['sh', '-e', '/disk/script'])
"
"""


@pytest.mark.inside(script=DELEGATE)
def test_limits_in_a_cgroup_that_was_handed_to_the_user(inside) -> None:
    assert inside[1:] == ("7", "67108864", "0")
