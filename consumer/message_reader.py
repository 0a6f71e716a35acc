"""A message's model -> a reader of its bytes that is several times as fast, for the messages of every day."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from sys import intern
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, cast, get_args, get_origin

import msgspec
from pydantic import BaseModel, BeforeValidator, FailFast, Strict, WithJsonSchema
from pydantic.fields import FieldInfo

from consumer.domain.policies.kept import Bounded

M = TypeVar("M", bound=BaseModel)

_LIMITS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
_SCALARS: Final = (str, int, float, bool)
_NO_LIMITS: Final = (FailFast, Strict, WithJsonSchema)
"""They take away nothing: a struct is as strict as can be."""
_MOST_KNOWN: Final = 10_000
"""Values of a field that need not be looked at again, such as symbols; more only cost memory."""
_MOST_SKIPPED_BYTES: Final = 4_096
_MOST_SKIPPED_OPENINGS: Final = 100
"""Where something is skipped, a longer or a deeper message is left to the model: what it refuses of numbers of thousands of
digits, and of hundreds of levels, no struct may take."""
_KNOWN_CONFIG: Final = frozenset(
    {"frozen", "strict", "extra", "allow_inf_nan", "json_schema_extra"}
)


class MessageReader(Generic[M]):
    """Reads a message, unless it takes the model itself to read it.

    It fills a struct that is made from the model: the same fields, limits, checks and properties. It takes
    nothing that the model would refuse. What a struct cannot say, and all that is refused, is left to the
    model, which tells why.

    Args:
        model: Of the messages.
        skips_others: Whether fields of other names are skipped; else a message with one is left to the model.

    Raises:
        TypeError: The model reads or checks in a way that is not known here.
    """

    def __init__(self, model: type[M], *, skips_others: bool = False) -> None:
        self.model = model
        self._skips_others = skips_others
        self._decode = msgspec.json.Decoder(_struct(model, skips_others=skips_others)).decode
        self._set = msgspec.structs.force_setattr
        # the same few values come again and again: what is known of one is looked up
        self._patterns: list[tuple[str, Callable[[str], object], Bounded[str, str]]] = [
            (name, re.compile(pattern).search, Bounded(_MOST_KNOWN))
            for name, pattern in _patterns(model)
        ]
        self._parsed: list[tuple[str, Callable[[Any], Any], Bounded[Any, Any]]] = [
            (name, parse, Bounded(_MOST_KNOWN)) for name, parse in _parsed(model)
        ]
        self._checks = _checks(model)

    def read(self, value: bytes) -> M | None:
        """Read one; None leaves it to the model."""
        if self._skips_others and not _may_be_skipped_in(value):
            return None
        try:
            found: Any = self._decode(value)
            for name, matches, good in self._patterns:
                text = getattr(found, name)
                if text is None:
                    continue
                known = good.get(text)
                if known is None:
                    if matches(text) is None:
                        return None
                    known = good.keep(text, intern(text))
                # one object for all that say it: it is looked up again and again, and kept
                self._set(found, name, known)
            for name, parse, parsed in self._parsed:
                told = getattr(found, name)
                if told is None:
                    continue
                meant = parsed.get(told)
                if meant is None:
                    meant = parsed.keep(told, parse(told))
                self._set(found, name, meant)
            for check in self._checks:
                check(found)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return cast(M, found)


def _may_be_skipped_in(value: bytes) -> bool:
    """Tell whether what is skipped of a message is nothing that the model would refuse, if only it is JSON."""
    return (
        len(value) <= _MOST_SKIPPED_BYTES
        and value.isascii()  # what is skipped is not decoded
        and value.count(b"[") + value.count(b"{") <= _MOST_SKIPPED_OPENINGS
    )


def _patterns(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Give the fields whose text is to match a pattern, and which."""
    return [
        (name, limits["pattern"])
        for name, metadata in _metadata(model)
        if (limits := _limits(metadata)) is not None and "pattern" in limits
    ]


def _parsed(model: type[BaseModel]) -> list[tuple[str, Callable[[Any], Any]]]:
    """Give the fields that are parsed from a text or a whole number, and how."""
    return [
        (name, cast(Callable[[Any], Any], one.func))
        for name, metadata in _metadata(model)
        for one in metadata
        if isinstance(one, BeforeValidator)
    ]


def _metadata(model: type[BaseModel]) -> Iterable[tuple[str, list[Any]]]:
    """Give what is said of each field, and of each of the kinds that it may be of."""
    for name, field in model.model_fields.items():
        yield name, field.metadata
        if get_origin(field.annotation) in (Union, UnionType):
            for kind in _but_null(get_args(field.annotation)):
                if get_origin(kind) is Annotated:
                    yield name, _flat(kind.__metadata__)


def _but_null(kinds: Sequence[Any]) -> list[Any]:
    """Give the one kind besides null; nothing where there are more."""
    others = [one for one in kinds if one is not NoneType]
    return others if len(others) == 1 else []


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [one for m in metadata for one in (m.metadata if isinstance(m, FieldInfo) else [m])]


def _checks(model: type[BaseModel]) -> list[Callable[[Any], Any]]:
    """Give the checks of whole messages."""
    made = model.__pydantic_decorators__
    whole = made.model_validators.values()
    others = made.validators or made.field_validators or made.root_validators
    if others or any(one.info.mode != "after" for one in whole):
        raise TypeError(f"{model.__name__}: has checks other than those of a whole message")
    if (
        model.model_config.keys() - _KNOWN_CONFIG
        or model.model_config.get("extra", "ignore") != "ignore"
        or model.model_post_init is not BaseModel.model_post_init
        or any(
            field.alias or field.validation_alias or field.default_factory
            for field in model.model_fields.values()
        )
    ):
        raise TypeError(f"{model.__name__}: is read in a way that is not known here")
    return [cast(Callable[[Any], Any], one.func) for one in whole]


def _struct(model: type[BaseModel], *, skips_others: bool) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation, field.metadata, skips_others=skips_others, is_field=True)
        if kind is None:
            raise TypeError(f"{model.__name__}.{name}: is of a kind that no struct has")
        fields.append((name, kind) if field.is_required() else (name, kind, field.default))
    return msgspec.defstruct(
        model.__name__,
        fields,
        namespace={
            name: one
            for name, one in inspect.getmembers_static(model)
            if isinstance(one, property) and not hasattr(BaseModel, name)
        },
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=not skips_others,
        gc=False,  # they hold no circles
    )


def _kind(
    annotation: Any, metadata: Sequence[Any], *, skips_others: bool, is_field: bool = False
) -> Any:
    """Give a type of which the annotation takes each value, if only null; None where a struct has none."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [*_flat(args[1:]), *metadata]
        return _kind(args[0], inner, skips_others=skips_others, is_field=is_field)
    if origin in (Union, UnionType):
        kind: Any = None
        for one in _but_null(args):
            kind = _kind(one, metadata, skips_others=skips_others, is_field=is_field)
        if NoneType in args:
            return NoneType if kind is None else kind | None
        return kind
    parsed = [one for one in metadata if isinstance(one, BeforeValidator)]
    if is_field and len(parsed) == 1:
        others = [one for one in metadata if one is not parsed[0]]
        return str | int if _limits(others) == {} else None  # see `_parsed`
    limits = _limits(metadata)
    if limits is None:
        return None
    if is_field:
        limits.pop("pattern", None)  # looked up, see `_patterns`
    if origin is tuple and args[1:] == (Ellipsis,):
        item: Any = _kind(args[0], (), skips_others=skips_others)
        return None if item is None else Annotated[tuple[item, ...], msgspec.Meta(**limits)]
    if annotation in _SCALARS:
        return Annotated[annotation, msgspec.Meta(**limits)]
    if not isinstance(annotation, type) or limits:
        return None
    if issubclass(annotation, Enum):
        return annotation
    if not issubclass(annotation, BaseModel):
        return None
    if _parsed(annotation) or _patterns(annotation) or _checks(annotation):
        return None
    return _struct(annotation, skips_others=skips_others)


def _limits(metadata: Sequence[Any]) -> dict[str, Any] | None:
    """Give what limits a value; None where there is more to it."""
    limits: dict[str, Any] = {}
    for one in metadata:
        if isinstance(one, _NO_LIMITS):
            continue
        told = {name: getattr(one, name) for name in _LIMITS if hasattr(one, name)}
        others = getattr(one, "__dict__", {}).keys() - told.keys()
        if not told or others or told.keys() & limits.keys():
            return None
        limits |= told
    pattern = limits.get("pattern")
    if pattern is not None and not pattern.endswith(r"\$"):
        # the model's engine means the very end of a text by it, Python's a line feed before it, too
        limits["pattern"] = pattern.removesuffix("$") + r"\Z"
    return limits
