"""Registries of the families that a config chooses from: data sources, networks, losses."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pydantic

from gqst import config, types

_LINEN_FIELDS = ("parent", "name", "axis_name")  # fields of linen modules that no config sets


class Registry:
    """The members of one family, by name.

    A new member is one new file with `@FAMILY.register("name")` above a function or class, whose keyword-only
    parameters are the options that a config may set.

    Attributes:
      family: Name of the family in error messages, such as "generator".
    """

    def __init__(self, family: str):
        """Makes an empty registry."""
        self.family = family
        self._members: dict[str, Callable[..., Any]] = {}
        self._declarations: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **declared: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Returns a decorator that adds a member.

        Args:
          name: Name of the member in configs.
          declared: Facts about the member that `declared` returns without calling it. A fact is a value, or a
            function from the member's options, defaults included, to one.

        Raises:
          ValueError: The name is taken.
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
        """Returns a member.

        Raises:
          InputError: There is no such member; the message lists those that exist.
        """
        if name not in self._members:
            raise types.InputError(
                f"unknown {self.family} {name!r}{hint(name, self._members)}; "
                f"there are: {', '.join(sorted(self._members))}"
            )
        return self._members[name]

    def options(self, name: str, *, given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
        """Returns the options that a config may set on a member, by name: its keyword-only parameters.

        Args:
          name: Name of the member.
          given: Parameters that the caller of `build` passes, which are therefore not options.
        """
        # eval_str, because a member's file may postpone the evaluation of annotations.
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
          InputError: The member or an option does not exist, a value has the wrong type, or a required option is
            missing.
        """
        parameters = self.options(choice.name, given=given)
        options = {}
        for key, value in choice.options.items():
            if key not in parameters:
                raise types.InputError(
                    f"unknown option {key!r} of {self.family} {choice.name!r}{hint(key, parameters)}; "
                    f"it takes: {', '.join(parameters) or 'none'}"
                )
            options[key] = self._convert(choice.name, key, value, parameters[key].annotation)
        for key, parameter in parameters.items():
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
        """Returns the chosen member called with its options and, in addition, the arguments `given`.

        Raises:
          InputError: The choice does not pass `check`.
        """
        options = self.check(choice, given=given)
        return self[choice.name](**options, **given)


def import_members(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, so that members register themselves merely by being files in it."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def hint(word: str, candidates: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" with the candidate closest to a misspelt word, or "" if none is close."""
    closest = difflib.get_close_matches(word, list(candidates), n=1)
    return f" (did you mean {closest[0]!r}?)" if closest else ""
