"""Functions on numbers, booleans, times and addresses. Source: go-cty function/stdlib."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from pybuild.bake.values import WrongValue, equal, integer, number, text, truth, whole

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
# What formatdate's letters mean to strftime.
_DATE = {
    "YYYY": "%Y", "YY": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "DD": "%d", "EEEE": "%A",
    "EEE": "%a", "hh": "%H", "HH": "%I", "mm": "%M", "ss": "%S", "AA": "%p", "ZZZZZ": "+00:00",
    "ZZZZ": "+0000", "ZZZ": "UTC", "Z": "Z",
}  # fmt: skip
_LETTERS = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*")


def divide(one: object, other: object) -> float:
    """Return a quotient."""
    if not number(other):
        raise WrongValue("division by zero")
    return whole(number(one) / number(other))


def modulo(one: object, other: object) -> float:
    """Return a remainder."""
    if not number(other):
        raise WrongValue("division by zero")
    return whole(math.fmod(number(one), number(other)))


def power(base: object, exponent: object) -> float:
    """Return a power, as exactly as a float has it where it is large."""
    one, other = number(base), number(exponent)
    try:
        made: float = one**other if abs(other) < 64 else float(one) ** float(other)
    except ZeroDivisionError:
        raise WrongValue("division by zero") from None
    if isinstance(made, complex):
        raise WrongValue(f"{one} has no power {other}")
    return whole(made)


def parseint(words: object, base: object) -> int:
    """Return the whole number that text says in a base from 2 to 36."""
    try:
        return int(text(words), integer(base))
    except ValueError as error:
        raise WrongValue(f'"{words}" is no number in base {base}') from error


def log(value: object, base: object) -> float:
    """Return a logarithm."""
    try:
        return whole(math.log(number(value), number(base)))
    except (ValueError, ZeroDivisionError) as error:
        raise WrongValue(f"there is no logarithm of {value} in base {base}") from error


def most(*values: object) -> float:
    """Return the greatest number."""
    if not values:
        raise WrongValue("it takes at least one number")
    return max(map(number, values))


def least(*values: object) -> float:
    """Return the smallest number."""
    if not values:
        raise WrongValue("it takes at least one number")
    return min(map(number, values))


def signum(value: object) -> int:
    """Return -1, 0 or 1."""
    found = number(value)
    return (found > 0) - (found < 0)


# -- times


def _moment(words: object) -> datetime:
    try:
        moment = datetime.fromisoformat(text(words))
    except ValueError as error:
        raise WrongValue(f'"{words}" is no time as RFC 3339 writes it') from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def timeadd(moment: object, duration: object) -> str:
    """Return a time, later by a duration such as 1h30m, or earlier by -5s."""
    words = text(duration)
    sign = -1 if words.startswith("-") else 1
    pieces = _DURATION.findall(words.lstrip("+-"))
    if "".join(amount + unit for amount, unit in pieces) != words.lstrip("+-") or not pieces:
        raise WrongValue(f'"{words}" is no duration such as 1h30m')
    seconds = sum(float(amount) * _UNITS_S[unit] for amount, unit in pieces)
    return _stamp(_moment(moment) + timedelta(seconds=sign * seconds))


def formatdate(pattern: object, moment: object) -> str:
    """Return a time as a pattern such as `YYYY-MM-DD` writes it."""
    when = _moment(moment)

    def one(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1].replace("''", "'")
        letters = found[0]
        if letters in ("M", "D", "h", "m", "s", "H"):
            return when.strftime(_DATE[letters * 2]).lstrip("0") or "0"
        if letters == "aa":
            return when.strftime("%p").lower()
        if letters not in _DATE:
            raise WrongValue(f'"{letters}" means no part of a date')
        if letters.startswith("Z") and when.utcoffset():
            offset = when.strftime("%z")
            return offset[:3] + ":" + offset[3:] if letters in ("Z", "ZZZZZ") else offset
        return when.strftime(_DATE[letters])

    return _LETTERS.sub(one, text(pattern))


# -- addresses


def _network(prefix: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text(prefix), strict=False)
    except ValueError as error:
        raise WrongValue(f'"{prefix}" is no network such as 10.0.0.0/8') from error


def cidrhost(prefix: object, host: object) -> str:
    """Return the address of a host in a network; negative numbers count from its end."""
    network, which = _network(prefix), integer(host)
    if not -network.num_addresses <= which < network.num_addresses:
        raise WrongValue(f"{prefix} has no host number {which}")
    return str(network[which])


def cidrsubnet(prefix: object, bits: object, which: object) -> str:
    """Return a part of a network: `bits` longer, the one with this number."""
    network = _network(prefix)
    length, place = network.prefixlen + integer(bits), integer(which)
    if length > network.max_prefixlen or place >= 1 << integer(bits):
        raise WrongValue(f"{prefix} has no such part")
    start = int(network.network_address) + (place << (network.max_prefixlen - length))
    return f"{type(network.network_address)(start)}/{length}"


def cidrsubnets(prefix: object, *bits: object) -> list[object]:
    """Return parts of a network, one after the other, each so many bits longer."""
    network = _network(prefix)
    at, found = int(network.network_address), []
    for more in bits:
        length = network.prefixlen + integer(more)
        size = 1 << (network.max_prefixlen - length)
        at = -(-at // size) * size
        if length > network.max_prefixlen or at > int(network.broadcast_address):
            raise WrongValue(f"{prefix} has no room for so many parts")
        found.append(f"{type(network.network_address)(at)}/{length}")
        at += size
    return list(found)


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "absolute": lambda value: abs(number(value)),
    "add": lambda one, other: whole(number(one) + number(other)),
    "and": lambda one, other: truth(one) and truth(other),
    "ceil": lambda value: math.ceil(number(value)),
    "cidrhost": cidrhost,
    "cidrnetmask": lambda prefix: str(_network(prefix).netmask),
    "cidrsubnet": cidrsubnet,
    "cidrsubnets": cidrsubnets,
    "divide": divide,
    "equal": equal,
    "floor": lambda value: math.floor(number(value)),
    "formatdate": formatdate,
    "greaterthan": lambda one, other: number(one) > number(other),
    "greaterthanorequalto": lambda one, other: number(one) >= number(other),
    "int": lambda value: int(number(value)),
    "lessthan": lambda one, other: number(one) < number(other),
    "lessthanorequalto": lambda one, other: number(one) <= number(other),
    "log": log,
    "max": most,
    "min": least,
    "modulo": modulo,
    "multiply": lambda one, other: whole(number(one) * number(other)),
    "negate": lambda value: -number(value),
    "not": lambda value: not truth(value),
    "notequal": lambda one, other: not equal(one, other),
    "or": lambda one, other: truth(one) or truth(other),
    "parseint": parseint,
    "pow": power,
    "signum": signum,
    "subtract": lambda one, other: whole(number(one) - number(other)),
    "timeadd": timeadd,
    "timestamp": lambda: _stamp(datetime.now(UTC)),
}
