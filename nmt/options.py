"""The options of components: a constructor's signature is their schema.

A recipe says ``cell: lstm`` or ``cell: {type: lstm, forget_bias: 1.0}``. Positional parameters of the component's
constructor are given by the framework; keyword-only ones are the recipe's options, checked by name and type.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pydantic
from pydantic_core import ErrorDetails, PydanticUndefined

from nmt.errors import UserError, did_you_mean, reason_of
from nmt.registry import ATTENTION, CELL, CORPUS, DECODER, ENCODER, Kind, load
from nmt.section import STRICT


@dataclass(frozen=True)
class Choice:
    """A component chosen by name, with its options. `build` makes it; the registry has checked the options before."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    component: type | None = field(default=None, compare=False, repr=False)
    """What the name stood for where the choice was resolved; None before."""

    def build(self, kind: Kind, *given: Any) -> Any:
        """The component, from what the framework gives (`given`, in the order of its positional parameters).

        Raises UserError where the name or an option is unknown, or where two options don't fit each other.
        """
        try:
            checked = resolve(kind, self)
        except OptionError as error:
            place = ".".join(str(part) for part in (self.name, *error.path) if part != kind.key)
            raise UserError(error.problem, error.remedy, place=place) from error
        return checked.loaded(kind)(*given, **checked.options)

    def loaded(self, kind: Kind) -> type:
        """The component itself. Raises UserError as `nmt.registry.load`."""
        return self.component or load(kind, self.name)


@dataclass
class OptionError(Exception):
    """An option that can't be taken: where it stands below the component (`path`) and why."""

    path: tuple[str | int, ...]
    problem: str
    remedy: str = ""

    def below(self, *path: str | int) -> OptionError:
        """The same, seen from further up."""
        return OptionError((*path, *self.path), self.problem, self.remedy)


@functools.cache
def schema(component: Callable[..., Any]) -> type[pydantic.BaseModel]:
    """The options of a component as a strict pydantic model, read from its constructor's signature.

    Raises UserError where the signature hides its options (``*args``, ``**kwargs``, no annotation).
    """
    name = getattr(component, "__qualname__", str(component))
    constructor = component.__init__ if inspect.isclass(component) else component
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except Exception as error:  # an annotation may be any expression
        problem = f"{name}: its annotations can't be read ({type(error).__name__}: {error})"
        raise UserError(problem, "import what they name, not only for type checkers") from error
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(component).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{name} takes *{parameter.name}", "name each option in the constructor's signature")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.name not in hints:
            raise UserError(f"{name}: the option {parameter.name} has no annotation", "annotate it")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = STRICT | pydantic.ConfigDict(arbitrary_types_allowed=True)
    try:
        model: type[pydantic.BaseModel] = pydantic.create_model(name, __config__=config, **fields)
    except Exception as error:  # pydantic raises many kinds for names and types that it can't take
        problem = f"{name}: its options make no schema ({reason_of(error)})"
        raise UserError(
            problem, "annotate options with plain types, and let no name begin with an underscore"
        ) from error
    return model


def component_kind(annotation: pydantic.fields.FieldInfo) -> Kind | None:
    """The kind that a field chooses a component of, or None for a plain field."""
    # Directly, or as one of the alternatives of a union such as `CorpusChoice | None`.
    inner = [item for part in typing.get_args(annotation.annotation) for item in getattr(part, "__metadata__", ())]
    return next((item for item in (*annotation.metadata, *inner) if isinstance(item, Kind)), None)


def parse(kind: Kind, value: Any) -> Choice:
    """``name`` or ``{type: name, option: value}`` as a Choice; raises OptionError for anything else."""
    if isinstance(value, Choice):
        return value
    if isinstance(value, str):
        return Choice(value)
    if not isinstance(value, Mapping):
        raise OptionError((), f"expected a {kind.name}'s name or a mapping, found {value!r}")
    if not isinstance(value.get(kind.key), str):
        raise OptionError((), f"a {kind.name} is named by the key {kind.key}, which is missing here")
    return Choice(value[kind.key], {key: item for key, item in value.items() if key != kind.key})


def resolve(kind: Kind, value: Any) -> Choice:
    """A Choice with every option checked and every default written out, nested components included.

    Raises OptionError (with the path of the option) or UserError (an unknown name, a broken plugin).
    """
    choice = parse(kind, value)
    try:
        component = choice.loaded(kind)
    except UserError as error:
        raise OptionError((kind.key,), error.problem, error.remedy) from error
    return Choice(choice.name, check_options(component, choice.options), component)


def check_options(component: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a component by name: those given, checked, and the others' defaults.

    Raises OptionError (with the path of the option) or UserError (a signature that hides its options).
    """
    model = schema(component)
    try:
        checked = model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        raise option_errors(error, model)[0] from error
    return resolve_fields(checked)


def resolve_fields(model: pydantic.BaseModel) -> dict[str, Any]:
    """The fields of a validated model by name, with each choice of a component resolved, at any depth."""
    resolved = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        kind = component_kind(info)
        try:
            if kind is not None and value is not None:
                value = resolve(kind, value)
            elif isinstance(value, pydantic.BaseModel):
                value = value.model_copy(update=resolve_fields(value))
        except OptionError as error:
            raise error.below(name) from error
        resolved[name] = value
    return resolved


def option_errors(error: pydantic.ValidationError, model: type[pydantic.BaseModel]) -> list[OptionError]:
    """A validation's errors in our words, with a did-you-mean for an unknown key."""
    return [_in_our_words(details, model) for details in error.errors(include_url=False)]


def _in_our_words(details: ErrorDetails, model: type[pydantic.BaseModel]) -> OptionError:
    path = tuple(details["loc"])
    if details["type"] == "extra_forbidden":
        return OptionError(path, "unknown option", did_you_mean(str(path[-1]), known_keys(model, path[:-1])))
    if details["type"] == "missing":
        return OptionError(path, "this option is missing", "add it")
    if details["type"] == "value_error":
        return OptionError(path, str(details["ctx"]["error"]))
    if details["type"] == "union_tag_invalid":
        context = details["ctx"]
        known = context["expected_tags"].replace("'", "").split(", ")
        return OptionError(
            (*path, "type"), f"no {path[-1]} named {context['tag']!r}", did_you_mean(context["tag"], known)
        )
    message = details["msg"][0].lower() + details["msg"][1:]
    return OptionError(path, f"{message}, found {details['input']!r}")


def known_keys(model: type[pydantic.BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at `path` below `model` may have; in `path`, a union's tag names its member."""
    for part in path:
        info = model.model_fields.get(str(part))
        if info is None:  # the tag of the union just entered
            continue
        sections = _sections(info.annotation)
        if not sections:
            return []
        tags = [section for section in sections if _has_tag(section, path)]
        model = (tags or sections)[0]
    return list(model.model_fields)


def _sections(annotation: Any) -> list[type[pydantic.BaseModel]]:
    alternatives = typing.get_args(annotation) or (annotation,)
    return [a for a in alternatives if inspect.isclass(a) and issubclass(a, pydantic.BaseModel)]


def _has_tag(section: type[pydantic.BaseModel], path: tuple[str | int, ...]) -> bool:
    tag = section.model_fields.get("type")
    return tag is not None and any(part in typing.get_args(tag.annotation) for part in path)


def dump(kind: Kind, choice: Choice) -> dict[str, Any]:
    """A resolved choice as a recipe writes it: ``{type: name, option: value, …}``, nested components likewise."""
    fields = schema(choice.loaded(kind)).model_fields
    options = {}
    for name, value in choice.options.items():
        inner = component_kind(fields[name])
        options[name] = dump(inner, value) if inner and value is not None else value
    return {kind.key: choice.name, **options}


def defaults(component: Callable[..., Any]) -> dict[str, Any]:
    """Each option of a component with its default, as a reader should see it; ``...`` where it must be given."""
    return {
        name: ... if info.default is PydanticUndefined else info.default
        for name, info in schema(component).model_fields.items()
    }


def _choice(kind: Kind) -> pydantic.PlainValidator:
    def validate(value: Any) -> Choice:
        try:
            return parse(kind, value)
        except OptionError as error:
            raise ValueError(error.problem) from error

    return pydantic.PlainValidator(validate)


CellChoice = Annotated[Choice, CELL, _choice(CELL)]
AttentionChoice = Annotated[Choice, ATTENTION, _choice(ATTENTION)]
EncoderChoice = Annotated[Choice, ENCODER, _choice(ENCODER)]
DecoderChoice = Annotated[Choice, DECODER, _choice(DECODER)]
CorpusChoice = Annotated[Choice, CORPUS, _choice(CORPUS)]
