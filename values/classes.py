"""`dataclass`, as the standard library means it, without what that costs at start-up.

dataclasses imports inspect (5 to 10 ms) and compiles up to six functions for every class when the
module is imported (0.4 ms; a build loads 150 classes). Here `__init__` is compiled when the first
value is made, and everything else is shared, so that a class costs hardly more than a plain one.
A type checker sees the standard library's own; so do `dataclasses.fields`, `replace` and `asdict`,
for which the standard fields are made when they are asked for.

Owns what this project uses: frozen, slots, kw_only, eq; field(default, default_factory, init,
repr, compare, hash). No ClassVar, InitVar, __post_init__, and no ordering.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import (
        FrozenInstanceError,
        asdict,
        dataclass,
        field,
        fields,
        is_dataclass,
        replace,
    )
else:
    from operator import attrgetter

    _MISSING = object()

    class FrozenInstanceError(AttributeError):
        """A field of a frozen value was to be changed."""

    class _Field:
        """What is said of one field. hash None: as compare."""

        __slots__ = ("compare", "default", "factory", "hash", "init", "kw_only", "name", "repr")

        def __init__(self, default=_MISSING, factory=_MISSING):
            self.name, self.default, self.factory = "", default, factory
            self.init = self.repr = self.compare = True
            self.hash, self.kw_only = None, False

    def field(
        *,
        default=_MISSING,
        default_factory=_MISSING,
        init=True,
        repr=True,
        compare=True,
        hash=None,
    ):
        """Say more of a field than its type."""
        made = _Field(default, default_factory)
        made.init, made.repr, made.compare, made.hash = init, repr, compare, hash
        return made

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, eq=True):
        """Make a class of values of one that lists its fields."""
        if cls is None:
            return lambda cls: _made(cls, frozen, slots, kw_only, eq)
        return _made(cls, frozen, slots, kw_only, eq)

    def replace(value, /, **changes):
        """Return a value like this one but for `changes`."""
        for each in value.__value_fields__:
            if not each.init:
                if each.name in changes:
                    raise ValueError(f"field {each.name} is declared with init=False")
            elif each.name not in changes:
                changes[each.name] = getattr(value, each.name)
        return type(value)(**changes)

    def fields(value, /):
        """Return the fields of a value or its class; each has a `name`."""
        return value.__value_fields__

    def is_dataclass(value, /):
        """Tell whether something is a value, or a class of values, made here."""
        return hasattr(value, "__value_fields__")

    def asdict(value, /):
        """Return a value as a dictionary, values in it too."""
        return {each.name: _plain(getattr(value, each.name)) for each in value.__value_fields__}

    def _plain(value):
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if type(value) in (list, tuple):
            return type(value)(map(_plain, value))
        if type(value) is dict:
            return {_plain(key): _plain(each) for key, each in value.items()}
        return value

    def _made(cls, frozen, slots, kw_only, eq):
        own = _own_fields(cls, kw_only)
        known = {each.name: each for base in cls.__mro__[:0:-1] for each in _fields_of(base)}
        fields = tuple((known | own).values())
        body = dict(cls.__dict__)
        for name, each in own.items():
            if each.default is not _MISSING and not slots:
                body[name] = each.default
            else:
                body.pop(name, None)
        if slots:
            inherited = {each.name for base in cls.__mro__[1:] for each in _fields_of(base)}
            body["__slots__"] = tuple(name for name in own if name not in inherited)
        body.pop("__dict__", None)
        body.pop("__weakref__", None)
        body["__value_fields__"] = fields
        body["__dataclass_fields__"] = _StandardFields()
        body.setdefault("__match_args__", tuple(f.name for f in fields if f.init and not f.kw_only))
        _add_methods(body, fields, frozen, slots, eq)
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        if "__init__" not in cls.__dict__:
            made.__init__ = _first_init(made, fields, frozen)
        return made

    def _own_fields(cls, kw_only):
        found = {}
        for name in cls.__dict__.get("__annotations__", ()):  # noqa: RUF063  inspect is what we do without
            said = cls.__dict__.get(name, _MISSING)
            each = said if isinstance(said, _Field) else _Field(said)
            if type(each.default) in (list, dict, set):
                raise ValueError(f"mutable default for field {name}: use default_factory")
            each.name, each.kw_only = name, kw_only
            found[name] = each
        return found

    def _fields_of(cls):
        return cls.__dict__.get("__value_fields__", ())

    def _add_methods(body, fields, frozen, slots, eq):
        if eq:
            key = _key([f.name for f in fields if f.compare])
            body.setdefault("__eq__", _eq(key))
            if "__hash__" not in body or body["__hash__"] is None:
                hashed = [f.name for f in fields if (f.compare if f.hash is None else f.hash)]
                body["__hash__"] = _hash(_key(hashed)) if frozen else None
        body.setdefault("__repr__", _repr)
        if frozen:
            body.setdefault("__setattr__", _refuse_setting)
            body.setdefault("__delattr__", _refuse_deleting)
            if slots:
                body.setdefault("__getstate__", _getstate)
                body.setdefault("__setstate__", _setstate)

    def _key(names):
        """Return what gives the named fields of a value as a tuple."""
        if not names:
            return lambda value: ()
        getter = attrgetter(*names)
        return getter if len(names) > 1 else lambda value: (getter(value),)

    def _eq(key):
        def __eq__(self, other):
            if other.__class__ is self.__class__:
                return key(self) == key(other)
            return NotImplemented

        return __eq__

    def _hash(key):
        def __hash__(self):
            return hash(key(self))

        return __hash__

    def _repr(self):
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in self.__value_fields__ if f.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _refuse_setting(self, name, value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deleting(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _getstate(self):
        return [getattr(self, each.name) for each in self.__value_fields__]

    def _setstate(self, state):
        for each, value in zip(self.__value_fields__, state, strict=True):
            object.__setattr__(self, each.name, value)

    def _first_init(cls, fields, frozen):
        def __init__(self, *args, **kwargs):
            # Made now, for all values that follow; the same when two threads do it.
            init = _init(cls, fields, frozen)
            type.__setattr__(cls, "__init__", init)
            init(self, *args, **kwargs)

        return __init__

    def _init(cls, fields, frozen):
        """Compile `__init__`: slots of frozen values are written through their descriptors."""
        scope = {"_missing": _MISSING, "_set": object.__setattr__}
        words, keywords, lines = [], [], []
        for number, each in enumerate(fields):
            value = _argument(number, each, scope, keywords if each.kw_only else words)
            slot = getattr(cls, each.name, None)
            if not frozen:
                lines.append(f"self.{each.name}={value}")
            elif type(slot).__name__ == "member_descriptor":
                scope[f"_s{number}"] = slot.__set__
                lines.append(f"_s{number}(self,{value})")
            else:
                lines.append(f"_set(self,{each.name!r},{value})")
        listed = ",".join(["self", *words, *(["*", *keywords] if keywords else [])])
        exec(f"def __init__({listed}):\n " + "\n ".join(lines or ["pass"]), scope)
        init = scope["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        return init

    def _argument(number, each, scope, listed):
        """List a field's argument, if it has one; return the expression for its value."""
        if each.factory is not _MISSING:
            scope[f"_f{number}"] = each.factory
            if not each.init:
                return f"_f{number}()"
            listed.append(f"{each.name}=_missing")
            return f"_f{number}() if {each.name} is _missing else {each.name}"
        if each.default is not _MISSING:
            scope[f"_d{number}"] = each.default
            if not each.init:
                return f"_d{number}"
            listed.append(f"{each.name}=_d{number}")
        else:
            listed.append(each.name)
        return each.name

    class _StandardFields:
        """`__dataclass_fields__`, made when the standard library's functions ask for it."""

        def __get__(self, value, cls):
            import dataclasses

            rows = []
            for each in cls.__value_fields__:
                said = {"init": each.init, "repr": each.repr, "kw_only": each.kw_only}
                said |= {"compare": each.compare, "hash": each.hash}
                if each.default is not _MISSING:
                    said["default"] = each.default
                if each.factory is not _MISSING:
                    said["default_factory"] = each.factory
                rows.append((each.name, object, dataclasses.field(**said)))
            return dataclasses.make_dataclass(cls.__name__, rows).__dataclass_fields__


__all__ = [
    "FrozenInstanceError",
    "asdict",
    "dataclass",
    "field",
    "fields",
    "is_dataclass",
    "replace",
]
