"""C functions and C data: the part of `ctypes` that calling the C library takes, under its names.

`ctypes` itself takes longer to import (2 ms) than all the mounts of a container take to make; its
inner module `_ctypes`, which does the work, a tenth of that. Imports nothing of ours.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        PyDLL,
        Structure,
        addressof,
        byref,
        c_char_p,
        c_int,
        c_int32,
        c_long,
        c_size_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        create_string_buffer,
        get_errno,
        sizeof,
    )
else:
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_PYTHONAPI,
        FUNCFLAG_USE_ERRNO,
        CFuncPtr,
        Structure,
        _SimpleCData,
        addressof,
        byref,
        dlopen,
        get_errno,
        sizeof,
    )

    class c_char(_SimpleCData):
        _type_ = "c"

    class c_char_p(_SimpleCData):  # noqa: D101
        _type_ = "z"

    class c_ushort(_SimpleCData):  # noqa: D101
        _type_ = "H"

    class c_int(_SimpleCData):  # noqa: D101
        _type_ = "i"

    class c_uint(_SimpleCData):  # noqa: D101
        _type_ = "I"

    class c_long(_SimpleCData):  # noqa: D101
        _type_ = "l"

    class c_ulong(_SimpleCData):  # noqa: D101
        _type_ = "L"

    class c_uint64(_SimpleCData):  # noqa: D101
        _type_ = "Q"

    # As on every Linux that Python runs on.
    c_int32, c_uint32, c_size_t = c_int, c_uint, c_ulong

    class _Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class _LockedFunction(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI
        _restype_ = c_int

    class CDLL:
        """The functions of a shared library; None is what the process has loaded."""

        _kind = _Function

        def __init__(self, name: "str | None", use_errno: bool = True) -> None:
            self._handle = dlopen(name, 0)

        def __getattr__(self, name: str) -> CFuncPtr:
            if name.startswith("__"):
                raise AttributeError(name)
            function = self._kind((name, self))
            setattr(self, name, function)
            return function

    class PyDLL(CDLL):
        """The same; the interpreter's lock is kept during a call."""

        _kind = _LockedFunction

    def create_string_buffer(data: bytes, size: int = 0) -> object:
        """Return memory that begins with `data`: `size` bytes, or one more than it for a NUL."""
        buffer = (c_char * (size or len(data) + 1))()
        buffer.raw = data
        return buffer


__all__ = [
    "CDLL",
    "PyDLL",
    "Structure",
    "addressof",
    "byref",
    "c_char_p",
    "c_int",
    "c_int32",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "create_string_buffer",
    "get_errno",
    "sizeof",
]
