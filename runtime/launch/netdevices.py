"""Moves network devices of the host into a container's network, with their addresses.

As runc does: a device is switched off, moved and renamed in one step, gets those of its addresses
again that are permanent and of global scope, and is switched on. When the namespace goes, the
kernel gives real devices back to the host.
"""

import os

from runtime.launch.process import Failed
from runtime.linux import constants as c
from runtime.linux.namespaces import setns
from runtime.linux.netlink import Routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.linux.netlink import Address


def move_devices(devices: "list[tuple[str, str]]", namespace: str) -> None:
    """Move `devices`, (name, name inside), to the network namespace at `namespace`.

    Raises Failed, with the field's path.
    """
    target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for name, inside in devices:
            try:
                addresses = _move(name, inside, target)
                _in_child(target, inside, addresses)
            except OSError as error:
                text = f"linux.netDevices[{name!r}]: {str(error.strerror).lower()}"
                raise Failed("network", text, error.errno or 0) from error
    finally:
        os.close(target)


def _move(name: str, inside: str, target: int) -> "list[Address]":
    with Routes() as routes:
        index = routes.index_of(name)
        # First, since what is off loses its addresses of version 6.
        addresses = routes.addresses(index)
        routes.set_up(index, False)
        routes.move(index, target, inside)
    return addresses


def _in_child(target: int, inside: str, addresses: "list[Address]") -> None:
    """Set the device up there, in a process that enters the namespace. Raises OSError."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            setns(target, c.CLONE_NEWNET)
            with Routes() as routes:
                index = routes.index_of(inside)
                for address in addresses:
                    routes.add_address(index, address)
                routes.set_up(index, True)
            code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, f"set it up in the container: {os.strerror(code)}")
