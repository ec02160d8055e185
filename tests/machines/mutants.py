"""Breaks the rules of `channeld.core` one at a time and shows that a test fails for each.

    python -m tests.machines.mutants [name ...]

Each mutant is a copy of the package with one piece of source exchanged, tried against tests/unit/core and the walks
of tests/machines (not what Hypothesis plays there: it would make every failure as small as it can). A mutant that
lives makes the exit code 1; one whose piece of source is no longer there is an error of this file. Not part of the
test suite: it runs the suite once per mutant.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITES = (
    ("unit", "tests/unit/core"),
    ("two nodes", "tests/machines/test_two_nodes.py"),
    ("lying peer", "tests/machines/test_lying_peer.py"),
)
LIVENESS = frozenset({"the next proposal is not sent with the ack"})
"""Rules whose loss costs a round trip and nothing else."""


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "the ack is not said again",
        "reconnecting.py",
        "        sends.append(channel.last_ack)\n",
        "        pass\n",
    ),
    Mutant(
        "the outstanding commit is not sent again",
        "reconnecting.py",
        "        sends.append(commit_of(out))\n",
        "        pass\n",
    ),
    Mutant(
        "the commit goes before the ack",
        "reconnecting.py",
        "        sends.append(commit_of(out))\n",
        "        sends.insert(0, commit_of(out))\n",
    ),
    Mutant(
        "reestablish leaves cooperate out",
        "reconnecting.py",
        "coop_version=coop.version if coop else Version(0)",
        "coop_version=Version(0)",
    ),
    Mutant(
        "a lapsed base is not taken over",
        "reconnecting.py",
        "return replace(channel, base=theirs.base)  # lapsed",
        "return channel  # lapsed",
    ),
    Mutant(
        "the lower of two crossing is acknowledged",
        "updating.py",
        "channel.outstanding.version > commit.version",
        "channel.outstanding.version < 0",
    ),
    Mutant(
        "the next proposal is not sent with the ack",
        "updating.py",
        "    return Step(after.channel, (ack, *after.sends), (*notes, *after.notes))",
        "    return Step(channel, (ack,), notes)",
    ),
    Mutant(
        "dropped updates are forgotten",
        "updating.py",
        "        channel = with_queue(channel, dropped + channel.queue)\n",
        "        pass\n",
    ),
    Mutant(
        "any version is taken",
        "updating.py",
        "commit.version != next_version(channel.we.other, channel.base) or commit.base != channel.base",
        "commit.version <= channel.current.version",
    ),
    Mutant(
        "a commit's signature is not looked at",
        "updating.py",
        "    if recover(digest, commit.signature) != channel.peer_key:\n        raise",
        "    if not commit.signature:\n        raise",
    ),
    Mutant(
        "an ack's signature is not looked at",
        "updating.py",
        "if recover(channel.digest(proposal.version, proposal.body_hash), ack.signature) != channel.peer_key:",
        "if not ack.signature:",
    ),
    Mutant(
        "more than the proposer has",
        "updating.py",
        "        if left < 0:\n",
        "        if left < -5_000:\n",
    ),
    Mutant(
        "a transfer of less than nothing",
        "updating.py",
        "if update.amount <= 0:",
        "if update.amount == 0:",
    ),
    Mutant(
        "a lock may be taken by its sender",
        "updating.py",
        "gone = _take(locks, (other, update.lock_id))",
        "gone = _take(locks, (other if (other, update.lock_id) in locks else proposer, update.lock_id))",
    ),
    Mutant(
        "any preimage opens a lock",
        "updating.py",
        "                    if sha256(update.preimage) != gone.key:\n",
        "                    if not update.preimage:\n",
    ),
    Mutant(
        "no cap on locks",
        "updating.py",
        "                if room < 0:\n",
        "                if room < -999:\n",
    ),
    Mutant(
        "lock numbers may come again",
        "updating.py",
        "lock.id <= last or",
        "lock.id < 0 or",
    ),
    Mutant(
        "a frozen channel still answers commits",
        "updating.py",
        "    if channel.phase is not Phase.OPEN:\n        return Step(channel, notes=_learn",
        "    if channel.phase is Phase.CLOSED:\n        return Step(channel, notes=_learn",
    ),
    Mutant(
        "states are signed while a cooperate is live",
        "updating.py",
        "    if channel.coop is not None:\n        return Step(replace(channel, waiting=commit))\n",
        "",
    ),
    Mutant(
        "proposals go out while quiet",
        "updating.py",
        "        and channel.ask is None\n",
        "",
    ),
    Mutant(
        "two proposals at once",
        "updating.py",
        "        and channel.outstanding is None\n        and channel.ask is None\n",
        "        and channel.ask is None\n",
    ),
    Mutant(
        "a known preimage may be failed",
        "paying.py",
        "    if event.lock_id in channel.claims:\n",
        "    if event.lock_id in channel.claims and not channel.claims:\n",
    ),
    Mutant(
        "a lock that has come back may be taken",
        "updating.py",
        "    if late:\n",
        "    if late and not late:\n",
    ),
    Mutant(
        "an expired lock in the queue is offered",
        "closing.py",
        "replace(with_queue(channel, queue), lost",
        "replace(channel, lost",
    ),
    Mutant(
        "both may yield: the acceptor signs too",
        "cooperating.py",
        "    if channel.ask is not None and channel.we is Side.B:\n",
        "    if channel.ask is not None and channel.we is Side.B and offer.net:\n",
    ),
    Mutant(
        "a cooperate of any length",
        "cooperating.py",
        "        and now < offer.valid_until <= now + LONGEST + SKEW\n",
        "        and now < offer.valid_until\n",
    ),
    Mutant(
        "a cooperate lapses by the newest block",
        "machine.py",
        "cooperating.lapse(channel, event.final, key)",
        "cooperating.lapse(channel, event.now, key)",
    ),
    Mutant(
        "a lapse gives its version back",
        "cooperating.py",
        "    channel = replace(channel, coop=None, waiting=None)\n",
        "    channel = replace(channel, coop=None, waiting=None, base=channel.current.version)\n",
    ),
    Mutant(
        "a cooperate that was never asked for is believed",
        "reconnecting.py",
        "        if not asked or theirs",
        "        if theirs",
    ),
    Mutant(
        "a waiting lie stops the block",
        "cooperating.py",
        "    except PeerFault as fault:  # it was",
        "    except KeyError as fault:  # it was",
    ),
    Mutant(
        "a late ack forgets what stands on chain",
        "closing.py",
        "    return _body_of(channel, case.body_hash) if case.body is None else case.body\n",
        "    return _body_of(replace(channel, onchain=None), case.body_hash)\n",
    ),
    Mutant(
        "an unknown outcome gives everything back",
        "closing.py",
        "    if body is None:  # an older",
        "    body = body or EMPTY\n    if body is None:  # an older",
    ),
    Mutant(
        "an older close is not challenged",
        "watching.py",
        "    if case.version < evidence.version:\n",
        "    if case.version < 0:\n",
    ),
    Mutant(
        "the secret is registered too late",
        "closing.py",
        "now + margins.inclusion + margins.skew >= lock.expiry",
        "now >= lock.expiry",
    ),
    Mutant(
        "locks come back at an expiry that is not final",
        "closing.py",
        "        if seen.final > lock.expiry and",
        "        if seen.now > lock.expiry and",
    ),
    Mutant(
        "what was signed is not saved",
        "saved.py",
        "            _proposal(c.outstanding),\n",
        "            None,\n",
    ),
)


def try_one(mutant: Mutant, home: Path) -> str:
    """Which suite kills `mutant`, or an empty string."""
    core = home / "channeld" / "core"
    path = core / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its source stands {source.count(mutant.old)} times in {mutant.file}")
    path.write_text(source.replace(mutant.old, mutant.new))
    killed = []
    for name, suite in SUITES:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not runTest", suite]
        run = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if run.returncode == 1:
            killed.append(name)
        elif run.returncode != 0:
            raise SystemExit(
                f"{mutant.name}: pytest ended with {run.returncode}\n{run.stdout[-2000:]}{run.stderr[-500:]}"
            )
    path.write_text(source)
    return ", ".join(killed)


def main(names: list[str]) -> int:
    lived = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for part in ("channeld", "tests/unit", "tests/machines"):
            shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("tests/conftest.py", "tests/roles.py", "setup.cfg"):
            shutil.copy(ROOT / part, home / part)
        for mutant in MUTANTS:
            if names and mutant.name not in names:
                continue
            killed = try_one(mutant, home)
            print(f"{mutant.name:55} {killed or 'LIVES'}", flush=True)
            if not killed and mutant.name not in LIVENESS:
                lived.append(mutant.name)
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
