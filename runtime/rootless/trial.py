"""What can only be known by trying it, where nobody else has to live with the outcome."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def works_in_child(attempt: "Callable[[], None]") -> bool:
    """Tell whether `attempt` raises nothing in a child, which ends with it.

    Only for a process of a single thread.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    failed = 1
    try:
        attempt()
        failed = 0
    finally:
        os._exit(failed)
