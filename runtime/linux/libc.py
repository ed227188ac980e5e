"""The C library and `syscall(2)`, with errors as OSError that name the call and its object."""

import os

from store import cdata

libc = cdata.CDLL(None, use_errno=True)
# Keeps the interpreter's lock during the call: a child made inside it owns a usable interpreter.
locked_libc = cdata.PyDLL(None, use_errno=True)
libc.syscall.restype = cdata.c_long
locked_libc.syscall.restype = cdata.c_long


def oserror(call: str, subject: str = "") -> OSError:
    """Return the OSError of the C call that failed last, worded `call: cause`."""
    code = cdata.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", subject)


def syscall(call: str, subject: str, number: int, *args: object) -> int:
    """Make system call `number` and return its result.

    args: int (passed as long), bytes (as a C string), None (NULL) or ctypes pointers.
    Raises OSError naming `call` and `subject`.
    """
    result: int = libc.syscall(
        cdata.c_long(number),
        *[cdata.c_long(a) if isinstance(a, int) else a for a in args],
    )
    if result < 0:
        raise oserror(call, subject)
    return result
