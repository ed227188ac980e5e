"""The Python API in an ordinary user's program."""

import pytest

pytestmark = pytest.mark.kernel

PROGRAM = """\
import pybuild

try:
    pybuild.build(text="FROM scratch\\nCOPY rootfs.tar /\\n")
except pybuild.NotPrivileged as error:
    print(error.hint.split()[3])
pybuild.enter_user_namespace()
with pybuild.Engine() as engine, open("rootfs.tar", "rb") as file:
    engine.import_rootfs(file, reference="busybox")
built = pybuild.build(text="FROM busybox\\nRUN echo made > /made\\n")
with built.steps[0].open() as tree:
    print(tree.read_text("made"), end="")
loop = "trap 'exit 3' TERM; touch /begun; echo go; while :; do sleep 0.1; done"
with built.container("sh", "-c", loop) as container:
    container.wait_for_log("go")
    print(container.exec("sh", "-c", "id -u; ls /begun; hostname").check().text.split()[:2])
    print(container.files().read_text("/made"), end="")
    print(container.stop(), container.exec("ls", "/begun").text, end="")
"""


@pytest.mark.parametrize("subids", [True, False])
def test_builds_containers_and_files(make_user, subids: bool) -> None:
    user = make_user(subids=subids)
    user.write("program.py", PROGRAM)
    done = user.run(user.house / "python" / user.interpreter, "program.py")
    assert done.stdout.splitlines() == [
        "pybuild.enter_user_namespace()",
        "made",
        "['0', '/begun']",
        "made",
        "3 /begun",
    ]
