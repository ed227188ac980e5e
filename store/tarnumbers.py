"""Numbers as tar headers write them. Every function raises ValueError for what is none."""

_NANO = 1_000_000_000


def integer(field: bytes) -> int:
    """Return a header field's number: octal text, or GNU's base-256 in two's complement."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    if not text.isdigit():
        raise ValueError(f"not octal: {field!r}")
    return int(text, 8)


def unsigned(field: bytes) -> int:
    """Return a header field's number, which may not be negative."""
    value = integer(field)
    if value < 0:
        raise ValueError(f"negative: {value}")
    return value


def decimal(text: bytes) -> int:
    """Return the number of a PAX record: decimal digits only."""
    if not text.isdigit() or len(text) > 20:
        raise ValueError(f"not decimal: {text[:40]!r}")
    return int(text)


def pax_nanoseconds(text: bytes) -> int:
    """Return a PAX time, seconds with a sign and a fraction, in nanoseconds (rounded down)."""
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    seconds = decimal(whole[1:] if negative else whole)
    nano = int(fraction[:9].ljust(9, b"0")) if decimal(fraction[:9] or b"0") >= 0 else 0
    return -(seconds * _NANO + nano) if negative else seconds * _NANO + nano
