"""The acts of the demo: channels, payments, paid calls, a cheat while its victim sleeps, the end, the audit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import httpx
import trio

from channeld.chain.chain import SeenChallenge, SeenClose, SeenFinal, SeenSettle
from channeld.cli.demo import books
from channeld.cli.demo.books import Books
from channeld.cli.demo.cast import DEPOSIT, DOLLAR, GIFT, PARTIES, PERIOD, PRICE, Cast, until
from channeld.cli.demo.show import Line, coin, signed, usd
from channeld.client import ApiError

FEE_PPM: Final = 100
"""What the hub takes of what it forwards, millionths: the settings' default."""
PAYMENT: Final = 20 * DOLLAR
WORKERS: Final = 4
"""Calls to the shop under way at once."""
PATIENCE: Final = 60.0
"""Seconds that an act may take before its line fails."""
IMPATIENCE: Final = 6.0
"""The same where it is broken on purpose."""


def fee(amount: int) -> int:
    """What the hub takes for forwarding `amount`; rounded up."""
    return -(-amount * FEE_PPM // 1_000_000)


async def play(cast: Cast) -> None:
    """All acts in order; `Failed` at the first line that does not hold."""
    await _open(cast)
    if cast.fault == "hub-stopped":
        await cast["hub"].stop()
    await _pay(cast)
    await _keep(cast)
    await _calls(cast)
    await _guard(cast)
    await _sleep(cast)
    await _break_tower(cast)
    await _cheat(cast)
    await _caught(cast)
    await _wake(cast)
    await _together(cast)
    if cast.fault == "one-wei":
        await _move_a_wei(cast)
    await _audit(cast)


def patience(cast: Cast, *faults: str) -> float:
    """How long to wait for what an honest run does at once; less where one of `faults` makes the wait vain."""
    return IMPATIENCE if cast.fault in faults else PATIENCE


# -- channels and payments


async def _open(cast: Cast) -> None:
    town = cast.town
    with cast.show.line("open", "payer and hub open a channel, hub and merchant another") as line:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_opened, cast, "first", "payer", "hub")
                nursery.start_soon(_opened, cast, "second", "hub", "merchant")
        for name, channel, ours in (
            ("payer", cast.first, DEPOSIT),
            ("hub", cast.first, 0),
            ("merchant", cast.second, 0),
        ):
            line.equal(f"what {name} has", int((await cast.channel(name, channel))["ours"]), ours)
        line.say(
            f"payer ─{usd(DEPOSIT)}─ hub ─{usd(DEPOSIT)}─ merchant, in DemoUSD; challenge period {PERIOD} s",
            channels=[cast.first, cast.second],
        )
    with cast.show.line("guard", "the merchant hires the tower") as line:
        async with cast["merchant"].client() as merchant:
            told = await merchant.tower_add(uri=town.actors["tower"].uri)
        line.must(bool(told["reachable"]), "the tower does not answer")
        line.say("the merchant lets the tower watch over its channel", tower=told["node_id"])


async def _opened(cast: Cast, place: str, opener: str, acceptor: str) -> None:
    setattr(cast, place, await cast.town.open(cast[opener], cast[acceptor], DEPOSIT, period=PERIOD))


async def _pay(cast: Cast) -> None:
    with cast.show.line("pay", "payer looks for a route to the merchant") as line:
        before = await _ours(cast)
        async with cast["payer"].client() as payer, cast["merchant"].client() as merchant:
            paid: dict[str, Any] = {}
            limit = patience(cast, "hub-stopped", "preimage-withheld")
            with trio.move_on_after(limit):
                paid = await _paid(payer, merchant, line)
            if not paid:
                (last,) = (await payer.list_payments(limit=1))["payments"]
                line.must(False, f"the payment is {last['state']} after {limit:.0f} s: no preimage has come")
            told = await merchant.lookup_invoice(payment_hash=paid["id"])
        line.equal("the payment", (paid["state"], paid["hops"]), ("succeeded", 2))
        line.equal("the merchant's invoice", (told["state"], told["received"]), ("paid", str(PAYMENT)))
        preimage = hashlib.sha256(bytes.fromhex(paid["preimage"][2:])).hexdigest()
        line.equal("the receipt's hash", f"0x{preimage}", paid["id"])
        line.equal("the fee", int(paid["fee"]), fee(PAYMENT))
        await _moved(cast, line, before, PAYMENT, fee(PAYMENT))
        line.say(
            f"{usd(PAYMENT)} over two hops, found by gossip; the hub's fee {usd(fee(PAYMENT))}",
            payment_hash=paid["id"],
            amount=str(PAYMENT),
            fee=paid["fee"],
        )
    cast.show.picture(await cast.tubes())


async def _paid(payer: Any, merchant: Any, line: Line) -> dict[str, Any]:
    """Pay an invoice; a new one as long as gossip has not shown a way."""
    last = "no answer"
    while True:
        line.doing(f"payer looks for a route to the merchant ({last})")
        asked = await merchant.make_invoice(token="DemoUSD", amount=PAYMENT, description="the first payment")
        try:
            return dict(await payer.pay_invoice(invoice=asked["invoice"], timeout=10))
        except ApiError as fault:
            if fault.code not in ("no_route", "unknown_payee", "insufficient_balance"):
                raise
            last = fault.code
            if trio.current_effective_deadline() - trio.current_time() < 0.5:
                raise
            await trio.sleep(0.2)


async def _ours(cast: Cast) -> dict[str, int]:
    """What each of the three has in its channels together."""
    hub = int((await cast.channel("hub", cast.first))["ours"]) if cast["hub"].alive else 0
    return {
        "payer": int((await cast.channel("payer", cast.first))["ours"]),
        "hub": hub + (int((await cast.channel("hub", cast.second))["ours"]) if cast["hub"].alive else 0),
        "merchant": int((await cast.channel("merchant", cast.second))["ours"]),
    }


async def _moved(cast: Cast, line: Line, before: Mapping[str, int], amount: int, fees: int) -> None:
    """The channels have moved by exactly this, as each of the three nodes says."""
    wanted = {"payer": -amount - fees, "hub": fees, "merchant": amount}
    found: dict[str, int] = {}
    with trio.move_on_after(5):
        while True:
            after = await _ours(cast)
            found = {name: after[name] - before[name] for name in before}
            if found == wanted:
                return
            await trio.sleep(0.05)  # the hub is paid a moment after the payer knows
    line.equal("what moved", found, wanted)


async def _calls(cast: Cast) -> None:
    url, count = cast["shop"].ready["url"], cast.calls
    with cast.show.line("call", f"GET {url}") as line:
        async with httpx.AsyncClient(trust_env=False) as http, cast["payer"].client() as payer:
            took, asked, told = await _call(http, payer, url)
        line.equal("the status before the payment", asked, 402)
        line.say(f'GET /joke: 402 → pay {usd(PRICE)} → 200 "{told["joke"]}"  {took * 1000:.0f} ms', ms=took * 1000)
    with cast.show.line("calls", "paid calls") as line:
        before, nonces, started = await _ours(cast), await _nonces(cast), trio.current_time()
        took_all: list[float] = []
        with trio.fail_after(2 * PATIENCE):
            await _many(cast, line, count, took_all)
        line.equal("the number of answers", len(took_all), count)
        await _moved(cast, line, before, count * PRICE, count * fee(PRICE))
        line.equal("the number of transactions", await _nonces(cast), nonces)
        passed, took_all = trio.current_time() - started, sorted(took_all)
        p50, p99 = (1_000 * took_all[min(count - 1, count * part // 100)] for part in (50, 99))
        line.say(
            f"{count} paid calls, {WORKERS} at once: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {count / passed:.0f} a second;"
            f" {usd(count * PRICE)} DemoUSD, 0 transactions",
            calls=count,
            p50_ms=round(p50, 1),
            p99_ms=round(p99, 1),
            per_second=round(count / passed, 1),
        )
    cast.show.picture(await cast.tubes())


async def _many(cast: Cast, line: Line, count: int, took: list[float]) -> None:
    left = iter(range(count))

    async def work() -> None:
        async with httpx.AsyncClient(trust_env=False) as http, cast["payer"].client() as payer:
            for _ in left:
                took.append((await _call(http, payer, cast["shop"].ready["url"]))[0])
                line.doing(f"{len(took)} of {count} paid calls")

    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(work)


async def _call(http: httpx.AsyncClient, payer: Any, url: str) -> tuple[float, int, dict[str, Any]]:
    """Ask, pay, ask again: seconds, the first status, and the answer that was paid for."""
    started = trio.current_time()
    offer = await http.get(url)
    if offer.status_code != 402:
        raise httpx.HTTPError(f"the shop answered {offer.status_code}, not 402")
    paid = await payer.pay_invoice(invoice=offer.json()["invoice"], timeout=20)
    bought = await http.get(url, headers={"Authorization": f"Channeld {paid['id']}:{paid['preimage']}"})
    bought.raise_for_status()
    return trio.current_time() - started, offer.status_code, bought.json()


async def _nonces(cast: Cast) -> list[int]:
    """Transactions that each party has sent so far."""
    return [int(await cast.rpc.call("eth_getTransactionCount", cast.account(name), "latest"), 16) for name in PARTIES]


# -- the cheat


def _old_state(cast: Cast) -> str:
    return str(cast.town.root / "old.state")


async def _keep(cast: Cast) -> None:
    with cast.show.line("copy", "the hub puts an old state aside") as line:
        words = ("--data-dir", str(cast.town.root / "hub"), "--channel", cast.second, "--to", _old_state(cast))
        cast.old = await cast.run_example("cheat.py", "keep", *words)
        line.equal("the merchant's share", int(cast.old["theirs"]), PAYMENT)
        line.say(f"the hub puts aside state #{cast.old['version']}: hub {usd(int(cast.old['ours']))}", **cast.old)


async def _guard(cast: Cast) -> None:
    with cast.show.line("receipt", "the tower signs for the newest state") as line:
        async with cast["merchant"].client() as merchant:
            with trio.fail_after(PATIENCE):
                told = await until(lambda: _covered(merchant))
        line.equal("the value at risk", told["value_at_risk"], "0")
        line.say("the tower has signed for the newest state; it cannot read it", guarded=told["guarded"])


async def _covered(merchant: Any) -> dict[str, Any]:
    """The node's view of its towers once they have its newest states; nothing before."""
    told = dict(await merchant.tower_status())
    return {} if told["guarded"] < 1 or told["towers"][0]["behind"] else told


async def _sleep(cast: Cast) -> None:
    with cast.show.line("sleep", "the merchant closes for the night") as line:
        cast.newest = await cast.channel("merchant", cast.second)
        await cast["merchant"].stop()
        line.must(not cast["merchant"].alive, "the merchant is still running")
        async with httpx.AsyncClient(trust_env=False) as http:
            line.equal("what the shop answers", (await http.get(cast["shop"].ready["url"])).status_code, 503)
        version, theirs = cast.newest["version"], int(cast.newest["ours"])
        line.must(version > cast.old["version"], "nothing has happened since the hub's copy")
        line.say(f"the merchant's node is down; newest state #{version}, {usd(theirs)} of it the merchant's")


async def _break_tower(cast: Cast) -> None:
    """The faults that are in the tower."""
    if cast.fault in ("tower-stopped", "tower-emptied"):
        await cast["tower"].stop()
    if cast.fault == "tower-emptied":
        for path in (cast.town.root / "tower").glob("tower.sqlite3*"):
            path.unlink()
        await cast["tower"].start()


async def _cheat(cast: Cast) -> None:
    with cast.show.line("CHEAT", "the hub stops its honest node and closes with the old state") as line:
        await cast["hub"].stop()
        home, passphrase = str(cast.town.root / "hub"), str(cast.town.root / "passphrase")
        words = ("--data-dir", home, "--passphrase-file", passphrase, "--rpc", cast.town.url)
        cast.closed = await cast.run_example("cheat.py", "close", *words, "--state", _old_state(cast))
        found = await cast.facts(SeenClose)
        line.equal("the version on chain", [fact.version for fact in found], [cast.old["version"]])
        cast.closed |= {"deadline": found[0].deadline}
        stolen = int(cast.newest["ours"]) - int(cast.old["theirs"])
        line.say(
            f"the hub closes with state #{cast.old['version']}, the newest is #{cast.newest['version']}:"
            f" {usd(stolen)} stolen if nobody answers within {PERIOD} s",
            **cast.closed,
        )


async def _caught(cast: Cast) -> None:
    bond = int(cast.newest["close_bond"])
    with cast.show.line("caught", "the tower looks at the close") as line:
        seen = await _challenge(cast, line)
        line.equal("the tower's challenge", seen.version, cast.newest["version"])
        line.equal("who gets the bond", f"0x{seen.bond_to.hex()}", cast.account("tower"))
        line.say(
            f"the tower answers in block {seen.block.number} (closed in {cast.closed['block']}) with"
            f" state #{seen.version}, tx 0x{seen.tx_hash.hex()[:8]}…",
            version=seen.version,
            tx=f"0x{seen.tx_hash.hex()}",
        )
    with cast.show.line("bond", "the dev chain's clock jumps past the deadline") as line:
        jump = await cast.after(cast.closed["deadline"])
        with trio.fail_after(PATIENCE):
            found = await until(lambda: cast.facts(SeenFinal))
            status = await until(lambda: _earned(cast))
        line.equal("what the tower says it earned", status["earned"], str(bond))
        line.equal("the bond", [found[0].bond, f"0x{found[0].bond_to.hex()}"], [bond, cast.account("tower")])
        earned = f"{coin(bond)}, which cost it {coin(int(status['spent']))} of gas"
        line.say(
            f"clock moved {jump} s; the outcome stands, and the tower has the cheat's bond: {earned}", bond=str(bond)
        )


async def _earned(cast: Cast) -> dict[str, Any]:
    """What the tower says of itself once it has earned something; nothing before."""
    told = await cast.tower_status()
    return told if int(told["earned"]) else {}


async def _challenge(cast: Cast, line: Line) -> SeenChallenge:
    """The challenge, once it is on chain; the line fails when the deadline is over."""
    began = trio.current_time()
    while True:
        found = await cast.facts(SeenChallenge)
        if found:
            return found[-1]
        late = await cast.chain_time() > cast.closed["deadline"]
        line.must(not late, "nobody has challenged the old state before the deadline")
        if trio.current_time() > began + patience(cast, "tower-stopped", "tower-emptied"):
            await cast.after(cast.closed["deadline"])
        await trio.sleep(0.1)


# -- the end


async def _wake(cast: Cast) -> None:
    town = cast.town
    with cast.show.line("settle", "the merchant wakes, and the hub's honest node is back") as line:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for name in ("merchant", "hub"):
                    nursery.start_soon(cast[name].start)
            for name in ("merchant", "hub"):
                await town.channel_state(cast[name], cast.second, "closed")
        found = await cast.channel("merchant", cast.second)
        paid = await cast.facts(SeenSettle)
        line.equal("the number of settlements", len(paid), 1)
        wanted = int(cast.newest["theirs"]), int(cast.newest["ours"])
        line.equal("what was paid out", (paid[0].paid_a, paid[0].paid_b), wanted)
        line.equal("what the merchant says", found["paid_ours"], cast.newest["ours"])
        line.say(
            f"the merchant wakes up and has its {usd(wanted[1])}, the hub {usd(wanted[0])}: as the newest state says",
            paid_hub=str(wanted[0]),
            paid_merchant=str(wanted[1]),
        )


async def _together(cast: Cast) -> None:
    with cast.show.line("close", "payer and hub close their channel together") as line:
        before = await cast.channel("payer", cast.first)
        async with cast["payer"].client() as payer:
            with trio.fail_after(PATIENCE):
                await until(lambda: _connected(cast))
                said = await payer.close_channel(channel_id=cast.first)
        line.equal("how they closed", said["how"], "cooperative")
        for name in ("payer", "hub"):
            await cast.town.channel_state(cast[name], cast.first, "closed", patience=PATIENCE)
        after = await cast.channel("payer", cast.first)
        paid = after["paid_ours"], after["paid_theirs"]
        line.equal("what was paid out", paid, (before["ours"], before["theirs"]))
        line.say(
            f"payer {usd(int(paid[0]))}, hub {usd(int(paid[1]))}: one transaction, no waiting", tx=after["close_tx"]
        )


async def _connected(cast: Cast) -> bool:
    return bool((await cast.channel("payer", cast.first))["connected"])


async def _move_a_wei(cast: Cast) -> None:
    """By decree of the dev chain: from the payer to the merchant."""
    head = int(await cast.rpc.call("eth_blockNumber"), 16)
    for name, change in (("payer", -1), ("merchant", 1)):
        wei = await books.balance(cast.rpc, cast.account(name), head)
        await cast.rpc.call("anvil_setBalance", cast.account(name), hex(wei + change))


async def _audit(cast: Cast) -> None:
    read: Books | None = None
    with cast.show.line("audit coin", "reading every block and receipt") as line:
        read = await books.read(cast.rpc, cast.contracts, cast.token)
        _coins(cast, line, read)
    with cast.show.line("audit token") as line:
        line.equal("what the token's events add up to", _held(read.moved), _held(read.tokens))
        contract = read.tokens[cast.town.manager.lower()]
        line.equal("what is left in the manager", contract, 0)
        people = sum(read.tokens.values()) - contract
        line.equal("the sum of all balances", people + contract, read.minted)
        line.say(
            f"accounts {people:_} + contracts {contract:_} = minted {read.minted:_} units of DemoUSD",
            accounts=str(people),
            contracts=str(contract),
            minted=str(read.minted),
        )
    for name in PARTIES:
        with cast.show.line(f"audit {name}", f"what {name} has more or less") as line:
            await _party(cast, line, read, name)


def _held(balances: Mapping[str, int]) -> dict[str, int]:
    return {account: amount for account, amount in balances.items() if amount and account != books.ZERO}


def _coins(cast: Cast, line: Line, read: Books) -> None:
    """Every wei of the genesis is somewhere."""
    contracts = {account.lower() for account in (cast.town.manager, cast.town.registry, cast.town.token)}
    held = sum(read.wei[account] for account in contracts)
    tips = read.wei[read.miner]
    people = sum(read.wei.values()) - held - tips
    genesis = sum(read.genesis.values())
    line.equal("what is left in the contracts", held, 0)
    line.equal("what the block producer has", tips, read.tips)
    line.equal("the sum of all wei", people + held + tips + read.burnt, genesis)
    line.say(
        f"accounts {people:_}\n+ contracts {held}\n+ fees {tips:_} to the block producer + {read.burnt:_} burnt\n"
        f"= genesis {genesis:_} wei",
        accounts=str(people),
        contracts=str(held),
        tips=str(tips),
        burnt=str(read.burnt),
        genesis=str(genesis),
    )


async def _party(cast: Cast, line: Line, read: Books, name: str) -> None:
    """end − start = payments − fees for the token; − gas and bond for the coin. Nothing else may have moved."""
    account = cast.account(name)
    change = read.wei[account] - await books.balance(cast.rpc, account, cast.start)
    count, gas = read.gas(account, cast.start)
    bond = read.bonds(account, cast.start) + read.given(account, cast.start) - read.sent(account, cast.start)
    line.equal("end − start in wei", change, bond - gas)
    received, sent, fees = await _payments(cast, name)
    tokens = read.tokens[account] - (GIFT if name in ("payer", "hub") else 0)
    line.equal("end − start in DemoUSD", tokens, received - sent + fees)
    spent = f"− {gas:_} gas of {count} transactions" + (f" {signed(bond)} bond" if bond else "")
    text = f"wei      end − start = {signed(change)} = {spent}"
    if name != "tower":
        moved = f"{received:_} received − {sent:_} paid {signed(fees)} fees"
        text = f"DemoUSD  end − start = {signed(tokens)} = {moved}\n{text}"
    facts = {"wei": str(change), "gas": str(gas), "bond": str(bond), "transactions": count}
    line.say(text, units=str(tokens), received=str(received), paid=str(sent), fees=str(fees), **facts)


async def _payments(cast: Cast, name: str) -> tuple[int, int, int]:
    """(received, paid, fees) by the lists of the nodes: fees are what the payer paid and the hub took."""
    if name == "tower":
        return 0, 0, 0
    if name == "hub":
        return 0, 0, -(await _payments(cast, "payer"))[2]
    received = sent = fees = 0
    async with cast[name].client() as node:
        cursor = None
        while True:
            page = await node.list_payments(limit=500, cursor=cursor)
            for one in page["payments"]:
                if one["state"] != "succeeded":
                    continue
                received += int(one["amount"]) if one["direction"] == "in" else 0
                sent += int(one["amount"]) if one["direction"] == "out" else 0
                fees -= int(one["fee"]) if one["direction"] == "out" else 0
            cursor = page["next"]
            if cursor is None:
                return received, sent, fees
