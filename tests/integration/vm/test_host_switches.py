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

mkdir /disk/context /disk/home
cat > /disk/context/Dockerfile <<END
FROM busybox:test
RUN echo ran in \\$(id -u) > /ran
END
chown {USER} /disk/home
cat > /disk/confined <<END
echo exec without-mounts > /proc/self/attr/exec
exec sh -c 'cd /disk/home
    python3 -m pybuild info | grep ^because: | tr -s " "
    python3 -m pybuild import /payload/rootfs.tar busybox:test > /dev/null
    python3 -m pybuild -o type=tar,dest=x.tar --isolation=chroot -q ../context 2>&1
    tar -x -O -f x.tar ran'
END
/usr/bin/setpriv --reuid={USER} --regid={USER} --clear-groups \\
    env PYBUILD_ROOT=/disk/home/store sh /disk/confined
info() {{
    /usr/bin/setpriv --reuid={USER} --regid={USER} --clear-groups env HOME=/nowhere PYBUILD_ROOT= \\
        python3 -m pybuild info | grep -E '^(mode|because):' | tr -s ' '
}}
sysctl -q -w kernel.unprivileged_userns_clone=0
info
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
    confined, said = said[2], said[2:]
    assert "; the AppArmor profile without-mounts forbids mounts (in docker: --sec" in confined
    assert said[1] == "ran in 0"
    switch = "kernel.unprivileged_userns_clone"
    assert said[2:] == [
        "mode: no root, no mounts, no namespaces",
        f"because: {switch} is 0 (as root: sysctl {switch}=1)",
    ]
