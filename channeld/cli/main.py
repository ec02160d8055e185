"""The program `channeld`: finds the command, imports it, and turns every ending into an exit code and one line.

Commands are listed here with one line each, so that `--help` and the start of any one import none of the others.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from channeld import __version__
from channeld.cli.exits import Ending, Exit, ending
from channeld.cli.output import Output
from channeld.cli.session import Session, shared

COMMANDS: Final = {
    "init": ("channeld.cli.setup:init", "Make a data directory: key, settings."),
    "run": ("channeld.cli.daemon:run", "Run a node until told to stop."),
    "info": ("channeld.cli.look:info", "Who the daemon is, where it listens, how the chain looks."),
    "balance": ("channeld.cli.look:balance", "What there is of each token, on chain and in channels."),
    "connect": ("channeld.cli.channels:connect", "Connect to a peer."),
    "peers": ("channeld.cli.look:peers", "Who we are connected to."),
    "open": ("channeld.cli.channels:open_", "Open a channel with a peer."),
    "channels": ("channeld.cli.look:channels", "Our channels."),
    "close": ("channeld.cli.channels:close", "Close a channel."),
    "transfer": ("channeld.cli.pay:transfer", "Pay the peer of a channel directly."),
    "invoice": ("channeld.cli.pay:invoice", "Ask for a payment; decode, show, list, settle and cancel invoices."),
    "pay": ("channeld.cli.pay:pay", "Pay an invoice."),
    "keysend": ("channeld.cli.pay:keysend", "Pay a node that has asked for nothing."),
    "route": ("channeld.cli.pay:route", "How a payment would go now; pays nothing."),
    "routing": ("channeld.cli.routing:routing", "Export and import what payments have taught of others' balances."),
    "estimate": ("channeld.cli.pay:estimate", "What paying a node would cost, and how likely it arrives."),
    "probe": ("channeld.cli.pay:probe", "See how far an amount gets; pays nothing."),
    "rebalance": ("channeld.cli.channels:rebalance", "Move money from one channel to another, round the network."),
    "payments": ("channeld.cli.look:payments", "Payments made and received."),
    "tower": ("channeld.cli.tower:tower", "Run a watchtower, or let some guard this node."),
    "devchain": ("channeld.cli.chain:devchain", "Run a chain for development, with funded keys."),
    "deploy": ("channeld.cli.chain:deploy", "Put the contracts on a chain."),
    "demo": ("channeld.cli.demo:demo", "Watch a whole network work: payments, a cheat, an audit."),
    "shop": ("channeld.cli.shop:shop", "Sell a line of text over HTTP: the demo's merchant."),
    "config": ("channeld.cli.setup:config", "Check the settings and show where each comes from."),
    "call": ("channeld.cli.look:call", "Call a method of the daemon's socket with JSON."),
    "stop": ("channeld.cli.look:stop", "Stop the daemon; channels stay open."),
}


class Lazy(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="channeld %(version)s")
@shared
def channeld() -> None:
    """A payment-channel network daemon for EVM chains.

    Exit codes: 0 done, 1 fault of the program, 2 usage, 3 no connection, 4 passphrase, 5 not found, 6 insufficient,
    7 payment failed, 8 refused.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    session = Session()
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(int(_ran(given, session)))


def _ran(arguments: list[str], session: Session) -> Exit:
    try:
        done: Any = channeld.main(args=arguments, prog_name="channeld", standalone_mode=False, obj=session)
    except click.exceptions.Abort:
        return _told(session, Ending(exit=Exit.INTERRUPTED, code="interrupted", message="interrupted"))
    except click.ClickException as fault:
        hint = f"{fault.ctx.command_path} --help" if isinstance(fault, click.UsageError) and fault.ctx else ""
        return _told(session, Ending(exit=Exit.USAGE, code="usage", message=fault.format_message(), hint=hint))
    except BrokenPipeError:
        sys.stderr.close()
        return Exit.OK
    except BaseException as fault:
        told = ending(fault)
        if told is None:
            if isinstance(fault, SystemExit):
                raise
            told = Ending(
                exit=Exit.INTERNAL,
                code="internal",
                message=" ".join(f"{type(fault).__name__}: {fault}".split())[:200],
                hint="a fault of this program; -v shows where, please report it",
            )
            if session.verbose or logging.getLogger().handlers:  # daemons always log it
                logging.getLogger("channeld").critical("the program failed", exc_info=fault)
        return _told(session, told)
    return Exit(done) if isinstance(done, int) else Exit.OK


def _told(session: Session, told: Ending) -> Exit:
    Output(session.as_json).error(told)
    return told.exit
