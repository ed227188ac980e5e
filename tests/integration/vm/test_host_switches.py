"""What a host may have switched on or off: AppArmor, and who makes user namespaces."""

import pytest

pytestmark = [pytest.mark.kernel]

USER = 4321
SWITCHES = f"""\
#!/bin/sh -e
mount -t securityfs securityfs /sys/kernel/security
modprobe overlay
cat apparmor.bin > /sys/kernel/security/apparmor/.load
export PYTHONPATH=/payload/project PYBUILD_ROOT=/disk/store
python3 -m pybuild import rootfs.tar busybox:test
run() {{ python3 -m pybuild run --rm --security-opt apparmor=$1 busybox:test sh -c "$2" 2>&1; }}
run pybuild-test 'cat /proc/self/attr/current; cp /etc/passwd /denied || echo $?'
run docker-default true || echo $?

mkdir -p /disk/bundle/rootfs
tar -x -f rootfs.tar -C /disk/bundle/rootfs
python3 - <<END
import json
spec = json.load(open("/payload/project/testdata/oci/base.json"))
spec["process"]["args"] = ["sleep", "1000"]
spec["process"]["apparmorProfile"] = "pybuild-test"
json.dump(spec, open("/disk/bundle/config.json", "w"))
END
oci() {{ python3 -c "from runtime.command.main import process; process()" "$@" 2>&1; }}
oci run --detach --bundle /disk/bundle a > /disk/said
oci exec a cat /proc/1/attr/current /proc/self/attr/current

info() {{
    /usr/bin/setpriv --reuid={USER} --regid={USER} --clear-groups env HOME=/nowhere PYBUILD_ROOT= \\
        python3 -m pybuild info | grep -E '^(mode|because):' | tr -s ' '
}}
for switch in kernel.unprivileged_userns_clone user.max_user_namespaces; do
    before=$(sysctl -n $switch)
    sysctl -q -w $switch=0
    info
    sysctl -q -w $switch=$before
done
"""


def test_apparmor_and_who_makes_user_namespaces(
    machine, apparmor_policy, busybox_rootfs, tmp_path
) -> None:
    files = {"rootfs.tar": busybox_rootfs, "apparmor.bin": apparmor_policy}
    disk = machine.make_disk(tmp_path / "disk.img", 256)
    said = machine.start(SWITCHES, files=files, disk=disk).finish()[1:]
    confined, denied, code, missing, hint, missing_code, *said = said
    assert confined == "pybuild-test (enforce)"
    assert (denied, code) == ("cp: can't create '/denied': Permission denied", "1")
    text = "process.apparmorProfile: no profile docker-default is loaded on this host"
    assert (missing, missing_code) == (f"error: {text}", "125")
    assert hint == "hint: apparmor_parser loads profiles; aa-status lists them"
    assert said[:2] == ["pybuild-test (enforce)"] * 2  # the first process, and one that entered
    switch = "kernel.unprivileged_userns_clone"
    limit = "user.max_user_namespaces"
    without = "mode: no root, no mounts, no namespaces"
    assert said[2:] == [
        *(without, f"because: {switch} is 0 (as root: sysctl {switch}=1)"),
        *(without, f"because: {limit} is 0 (as root: sysctl {limit}=15000)"),
    ]
