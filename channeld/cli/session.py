"""What every command shares: where the daemon is, how to print, and the options that say so.

The options may stand before or after the command's name; the later one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from channeld.cli.output import Output

if TYPE_CHECKING:
    from channeld.cli.settings import Place
    from channeld.client.blocking import BlockingClient

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """One run of the program. `flags`: what was given of data_dir, network and socket."""

    flags: dict[str, Any] = field(default_factory=dict)
    as_json: bool | None = None
    verbose: int = 0

    @property
    def out(self) -> Output:
        return Output(self.as_json)

    def place(self) -> Place:
        """Which daemon is meant."""
        from channeld.cli.settings import place

        return place(self.flags)

    def connect(self) -> BlockingClient:
        """A client of that daemon; `Unreachable` if it is not there."""
        from channeld.client.blocking import BlockingClient

        return BlockingClient(self.place().socket)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        session = context.ensure_object(Session)
        if value is not None and name in ("data_dir", "network", "socket"):
            session.flags[name] = value
        elif value is not None and name == "json":
            session.as_json = value
        elif name == "verbose":
            session.verbose += value
        return value

    return keep


def shared(function: FunctionT) -> FunctionT:
    """Give a command the options of every command."""
    options = (
        click.option("--data-dir", type=click.Path(file_okay=False), help="Folder with settings, key and store."),
        click.option("--network", metavar="NAME", help="Profile of the chain, such as dev or base."),
        click.option("--socket", type=click.Path(dir_okay=False), help="The daemon's Unix socket."),
        click.option(
            "--json/--text", "json", default=None, help="JSON, or text for people; JSON in a pipe if not said."
        ),
        click.option("-v", "--verbose", count=True, help="Say more on stderr."),
    )
    for option in reversed(options):
        function = option(function)
    for parameter in function.__click_params__[-len(options) :]:  # type: ignore[attr-defined]
        parameter.callback, parameter.expose_value = _keep(parameter.name), False
    return function


def session() -> Session:
    """The session of the command that runs."""
    return click.get_current_context().ensure_object(Session)
