"""Where a setting comes from: a flag, the environment, the file in the data directory, or its default, in that order.

A mistake is `Refused` as `bad_config` with the file, the line and the setting, and a hint; an unknown name is a
mistake too, with the closest known one as the hint. What is not a setting of its own in `[chain]` goes over the
network's profile.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from channeld.base.errors import Refused
from channeld.base.settings import Setting, settings_of, shown
from channeld.base.units import Address
from channeld.chain.networks import Network, network
from channeld.node.config import Config, TokenPolicy
from channeld.tower.config import TowerConfig

FILE: Final = "config.toml"
KEYSTORE: Final = "keystore.json"
SOCKET: Final = "rpc.sock"
NETWORK: Final = "dev"
"""The network where none is named: the one that costs nothing."""

_CHAIN_KEYS: Final = {one.name for one in dataclasses.fields(Network)} - {"id", "rpc"}
_OUTSIDE: Final = ("network", "api.socket")
_ENV_ONLY: Final = {
    "CHANNELD_DATA_DIR",
    "CHANNELD_PASSPHRASE_FILE",
    "CHANNELD_NETWORK",
    "CHANNELD_API_SOCKET",
    "CHANNELD_CHAIN_MANAGER",
    "CHANNELD_CHAIN_REGISTRY",
}

ConfigT = TypeVar("ConfigT", Config, TowerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One setting as it will be used. `source`: default, file, env, flag or network."""

    key: str
    value: str
    unit: str
    source: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[ConfigT]):
    """A configuration and where each of its values came from."""

    config: ConfigT
    used: tuple[Used, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which daemon is meant: its network, data directory and socket, before its file has been judged."""

    data_dir: Path
    network: str
    socket: Path
    network_source: str
    socket_source: str


def default_data_dir(network_name: str, environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/channeld/<network>`, by default in `~/.local/share`."""
    home = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "/")) / ".local" / "share")
    return Path(home) / "channeld" / network_name


def place(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Place:
    """Find the data directory, and in it network and socket; reads no more of the file than that."""
    named, source = _first(flags.get("network"), environ.get("CHANNELD_NETWORK"))
    given = flags.get("data_dir") or environ.get("CHANNELD_DATA_DIR")
    home = default_data_dir(named or NETWORK, environ)
    data_dir = Path(given).expanduser().absolute() if given else home
    found = _table_of(data_dir / FILE)
    if named is None:
        named, source = (found["network"], "file") if isinstance(found.get("network"), str) else (NETWORK, "default")
    socket, socket_source = _first(flags.get("socket"), environ.get("CHANNELD_API_SOCKET"))
    if socket is None:
        api = found.get("api")
        if isinstance(api, dict) and isinstance(api.get("socket"), str) and api["socket"]:
            socket, socket_source = api["socket"], "file"
        else:
            runtime = environ.get("XDG_RUNTIME_DIR")
            runs = Path(runtime) / "channeld" / named if runtime and data_dir == home else data_dir
            socket, socket_source = str(runs / SOCKET), "default"
    path = (data_dir / Path(socket).expanduser()).absolute()
    return Place(data_dir=data_dir, network=named, socket=path, network_source=source, socket_source=socket_source)


def _first(flag: str | Path | None, env: str | None) -> tuple[str | None, str]:
    if flag:
        return str(flag), "flag"
    return (env, "env") if env else (None, "default")


def load_node(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Loaded[Config]:
    """The node's configuration; `flags` by field name, None where not given. Refused `bad_config`, `bad_network`."""
    return _Reading(flags, environ).load(Config)


def load_tower(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Loaded[TowerConfig]:
    """The tower's configuration."""
    return _Reading(flags, environ).load(TowerConfig)


def _table_of(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise Refused("bad_config", f"{path} is not UTF-8 text", "is it the right file?") from None
    except OSError as fault:
        raise Refused("bad_config", f"{path} cannot be read: {fault.strerror}", "check its owner and mode") from None
    except tomllib.TOMLDecodeError as fault:
        raise Refused("bad_config", f"{path}: {fault}", "the file is TOML: name = value, text in quotes") from None


class _Reading:
    """One reading of file, environment and flags."""

    def __init__(self, flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.flags, self.environ = flags, environ
        self.place = place(flags, environ)
        self.path = self.place.data_dir / FILE
        self.file = _table_of(self.path)
        self.used: list[Used] = []

    def load(self, kind: type[ConfigT]) -> Loaded[ConfigT]:
        where = self.place
        self._say("network", where.network, where.network_source, "which chain's profile is used")
        self._say("api.socket", str(where.socket), where.socket_source, "where wallets and commands reach the daemon")
        known = settings_of(kind)
        values: dict[str, Any] = {}
        chain = dict(self._table("chain"))
        for name, one in known.items():
            values[name] = self._value(name, one)
        chain.pop("rpc", None)
        profile = self._network(chain)
        if not values["rpc"] and profile.rpc:
            values["rpc"] = (profile.rpc,)
            self._say("chain.rpc", profile.rpc, "network", known["rpc"].why)
        self._check_names({one.key for one in known.values()}, kind is Config)
        if kind is Config:
            values["policy"] = self._policy("policy", TokenPolicy())
            values["policies"] = dict(self._policies(profile, values["policy"]))
        try:
            config = kind(data_dir=where.data_dir, network=profile, socket=where.socket, **values)
        except Refused as fault:
            raise self._located(fault.text.partition(":")[0], fault.text, fault.hint) from None
        return Loaded(config=config, used=tuple(self.used))

    def _say(self, key: str, value: str, source: str, why: str, unit: str = "") -> None:
        self.used = [one for one in self.used if one.key != key]
        self.used.append(Used(key=key, value=value, unit=unit, source=source, why=why))

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.file.get(name, {})
        if not isinstance(table, dict):
            raise self._located(name, f"{name}: must be a table", f"[{name}] on a line of its own")
        return table

    def _value(self, name: str, one: Setting) -> Any:
        """The first of flag, environment, file and default."""
        table, _, last = one.key.rpartition(".")
        inside = self._table(table) if table else self.file
        if self.flags.get(name) not in (None, ()):
            given, source, where = self.flags[name], "flag", f"--{name.replace('_', '-')}"
        elif self.environ.get(one.env):
            given, source, where = self.environ[one.env], "env", one.env
        elif last in inside:
            given, source, where = inside[last], "file", one.key
            if one.key == "chain.rpc" and isinstance(given, str):
                given = [given]
        else:
            self._say(one.key, shown(one.default), "default", one.why, one.unit)
            return one.default
        try:
            value = one.read(given)
        except ValueError as fault:
            text = f"{where}: {fault}, not {given!r:.60}"
            hint = f"{one.why}" + (f", in {one.unit}" if one.unit else "")
            if source == "file":
                raise self._located(one.key, text, hint) from None
            raise Refused("bad_config", text, hint) from None
        self._say(one.key, shown(value), source, one.why, one.unit)
        return value

    def _network(self, chain: dict[str, Any]) -> Network:
        """The profile, with the file's own values and those of environment and flags over it."""
        sources = dict.fromkeys(chain, "file")
        for name in ("manager", "registry"):
            given, source = _first(self.flags.get(name), self.environ.get(f"CHANNELD_CHAIN_{name.upper()}"))
            if given is not None:
                chain[name], sources[name] = given, source
        for name in chain:
            if name not in _CHAIN_KEYS:
                raise self._unknown(f"chain.{name}", [f"chain.{key}" for key in (*_CHAIN_KEYS, "rpc")])
        try:
            profile = network(self.place.network, chain)
        except Refused as fault:
            key = next((name for name in chain if name in fault.text), "")
            raise self._located(f"chain.{key}" if key else "network", fault.text, fault.hint, fault.code) from None
        for name in ("manager", "registry"):
            why = "the contract of the channels" if name == "manager" else "the contract of the secrets"
            self._say(f"chain.{name}", shown(getattr(profile, name)), sources.pop(name, "network"), why)
        for name, source in sources.items():
            self._say(f"chain.{name}", str(chain[name]), source, "over the network's profile")
        return profile

    def _policies(self, profile: Network, base: TokenPolicy) -> Iterator[tuple[Address, TokenPolicy]]:
        for name, table in self._table("policy").items():
            if not isinstance(table, dict):
                continue
            try:
                token = profile.token(name)
            except Refused as fault:
                raise self._located(f"policy.{name}", fault.text, fault.hint) from None
            yield token, self._policy(f"policy.{name}", base)

    def _policy(self, path: str, base: TokenPolicy) -> TokenPolicy:
        """The terms in one table; what it leaves out is as in `base`."""
        table: Any = self.file
        for part in path.split("."):
            table = table.get(part, {})
        values = {}
        for name, one in settings_of(TokenPolicy).items():
            last = one.key.partition(".")[2]
            key = f"{path}.{last}"
            if path == "policy" and self.environ.get(one.env):
                given, source = self.environ[one.env], "env"
            elif last in table:
                given, source = table[last], "file"
            else:
                if path == "policy":
                    self._say(key, shown(getattr(base, name)), "default", one.why, one.unit)
                continue
            try:
                values[name] = one.read(given)
            except ValueError as fault:
                hint = one.why + (f", in {one.unit}" if one.unit else "")
                raise self._located(key, f"{key}: {fault}, not {given!r:.60}", hint) from None
            self._say(key, shown(values[name]), source, one.why, one.unit)
        return dataclasses.replace(base, **values)

    def _check_names(self, known: set[str], is_node: bool) -> None:
        """Refuse what nobody would read."""
        policy = {one.key.partition(".")[2] for one in settings_of(TokenPolicy).values()} if is_node else set()
        every = [*known, *_OUTSIDE, *(f"policy.{name}" for name in policy), *(f"chain.{name}" for name in _CHAIN_KEYS)]
        for path in _paths(self.file):
            parts = path.split(".")
            if parts[0] == "chain" or path in every:
                continue
            if is_node and parts[0] == "policy" and len(parts) == 3 and parts[2] in policy:
                continue
            raise self._unknown(path, every)

    def _unknown(self, path: str, known: list[str]) -> Refused:
        return self._located(path, f"unknown setting {path}", _closest(path, known))

    def _located(self, key: str, text: str, hint: str, code: str = "bad_config") -> Refused:
        line = _line_of(self.path, key)
        where = f"{self.path}, line {line}: " if line else ""
        return Refused(code, where + text, hint)


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Refused if a CHANNELD_ name in the environment is no setting: for `config check`."""
    known = {one.env for kind in (Config, TowerConfig, TokenPolicy) for one in settings_of(kind).values()}
    known |= _ENV_ONLY
    for name in environ:
        if name.startswith("CHANNELD_") and name not in known:
            raise Refused("bad_config", f"the environment names an unknown setting {name}", _closest(name, known))


def _closest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    if not near:  # the right name in the wrong table
        near = [one for one in sorted(known) if one.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"did you mean {near[0]}?" if near else "channeld config check lists every setting"


def _paths(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")
        else:
            yield before + name


def _line_of(path: Path, key: str) -> int:
    """The line of `table.name` in the file, 0 if it is not found there."""
    table, _, last = key.rpartition(".")
    inside = ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            inside = header[1]
            if inside == key:
                return number
        if inside == table and re.match(rf"\s*\"?{re.escape(last)}\"?\s*=", line):
            return number
    return 0


def file_text(kind: type[Config] | type[TowerConfig], given: Mapping[str, Any]) -> str:
    """The commented file that `init` writes: `given` by key as it is, everything else as a comment with its default."""
    head = "# Settings of channeld. Flags win over CHANNELD_* in the environment, these over this file, and it over the"
    lines = [
        head,
        "# defaults, which stand here as comments. `channeld config check` shows what would be used and why.",
        "",
    ]
    extra = [
        Setting(key="network", read=str, default=NETWORK, unit="", why="which chain's profile is used"),
        Setting(key="chain.manager", read=str, default="", unit="", why="the contract of the channels"),
        Setting(key="chain.registry", read=str, default="", unit="", why="the contract of the secrets"),
        Setting(key="chain.tokens", read=str, default={}, unit="", why="tokens to know by name"),
        Setting(key="api.socket", read=str, default="", unit="", why="empty: in the data or runtime directory"),
    ]
    policy = list(settings_of(TokenPolicy).values()) if kind is Config else []
    every = sorted([*settings_of(kind).values(), *extra, *policy], key=lambda one: one.key.rpartition(".")[0])
    table = ""
    for one in every:
        inside, _, last = one.key.rpartition(".")
        if inside != table:
            lines += ["", f"[{inside}]"]
            table = inside
        env = "" if one.key == "chain.tokens" else f"  ({one.env})"
        lines.append(f"# {one.why}" + (f", {one.unit}" if one.unit else "") + env)
        value = given.get(one.key)
        lines.append(f"{'# ' if value is None else ''}{last} = {_toml(one.default if value is None else value)}")
    if kind is Config:
        lines += ["", "# Terms of one token: [policy.USDC] with any name of [policy]."]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(said)}" for name, said in value.items()) + " }"
    if isinstance(value, bool) or (isinstance(value, int) and value < 2**63):
        return str(value).lower()
    if isinstance(value, tuple) and not (len(value) == 2 and isinstance(value[1], int)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    text = shown(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
