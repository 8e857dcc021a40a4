"""Named families that a config chooses from: data sources, networks, losses."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pydantic

from gqst import config, types

_LINEN_FIELDS = ("parent", "name", "axis_name")  # of linen modules; no config sets them


class Registry:
    """The members of one family by name.

    A new member is one new file with `@registry.register("name")` above a function or class; its keyword
    parameters are the options that a config may set.
    """

    def __init__(self, family: str):
        """Makes an empty registry; `family` names it in error messages, as in "generator"."""
        self.family = family
        self._members: dict[str, Callable[..., Any]] = {}
        self._declarations: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **declared: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that adds a member; ValueError if the name is taken by another.

        Args:
          name: Name of the member in configs.
          declared: Facts about the member that `declared` returns without calling it. A fact is a value, or a
            function from the member's options, defaults included, to one.
        """

        def add(member: Callable[..., Any]) -> Callable[..., Any]:
            if name in self._members:
                raise ValueError(f"{self.family} {name!r} is registered twice")
            self._members[name] = member
            self._declarations[name] = declared
            return member

        return add

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in the order of registration."""
        return iter(self._members)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """The member itself; InputError that lists those there are if it is absent."""
        if name not in self._members:
            raise types.InputError(
                f"unknown {self.family} {name!r}{hint(name, self._members)}; "
                f"there are: {', '.join(sorted(self._members))}"
            )
        return self._members[name]

    def options(self, name: str, *, given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
        """The options that a config may set on a member: its keyword-only parameters less `given`."""
        # eval_str: a member's file may have postponed annotations.
        parameters = inspect.signature(self[name], eval_str=True).parameters
        hidden = {*given, *_LINEN_FIELDS}
        return {
            key: parameter
            for key, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in hidden
        }

    def declared(self, choice: config.Choice, fact: str, default: Any = None) -> Any:
        """Returns what the chosen member declares of a fact with these options; `default` if it declares nothing."""
        value = self._declarations[choice.name].get(fact, default)
        if not callable(value):
            return value
        defaults = {key: parameter.default for key, parameter in self.options(choice.name).items()}
        return value({**defaults, **choice.options})

    def check(self, choice: config.Choice, *, given: Iterable[str] = ()) -> dict[str, Any]:
        """Returns the options of a choice, converted to the types that the member declares.

        A config that was read from JSON has a list where a member declares a tuple, for example.

        Raises:
          InputError: an absent member or option, a value that does not fit, a missing option.
        """
        known = self.options(choice.name, given=given)
        options = {}
        for key, value in choice.options.items():
            if key not in known:
                raise types.InputError(
                    f"unknown option {key!r} of {self.family} {choice.name!r}{hint(key, known)}; "
                    f"it takes: {', '.join(known) or 'none'}"
                )
            options[key] = self._convert(choice.name, key, value, known[key].annotation)
        for key, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and key not in choice.options:
                raise types.InputError(f"{self.family} {choice.name!r} needs the option {key!r}")
        return options

    def _convert(self, name: str, key: str, value: Any, annotation: Any) -> Any:
        if annotation is inspect.Parameter.empty:
            return value
        try:
            return pydantic.TypeAdapter(annotation).validate_python(value)
        except pydantic.ValidationError as error:
            complaint = error.errors(include_url=False)[0]["msg"]
            raise types.InputError(
                f"option {key!r} of {self.family} {name!r} is {value!r}: {complaint[0].lower()}{complaint[1:]}"
            ) from error

    def build(self, choice: config.Choice, **given: Any) -> Any:
        """Calls the chosen member with its options and what the caller gives besides."""
        options = self.check(choice, given=given)
        return self[choice.name](**options, **given)


def import_members(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that a member registers itself by being a file there."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def hint(word: str, known: Iterable[str]) -> str:
    """A short "did you mean" for a misspelt word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
