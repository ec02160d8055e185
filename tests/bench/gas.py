"""Gas per operation, on anvil where `make tools` has put it and on py-evm always: by the same rules both must agree.

The calls and their conditions are those of `tests.contracts.gas`; `Anvil` gives them another EVM to run on.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from channeld.base.units import Address
from tests.chain.nodes import ANVIL
from tests.contracts.evm import GAS_PRICE, NOBODY, Evm, Result
from tests.contracts.gas import measure, table
from tests.contracts.world import CHAIN_ID, START, World


class Anvil(Evm):
    """A running anvil in the place of py-evm: one transaction a block, a second after the last."""

    def __init__(self, url: str, timestamp: int) -> None:
        self.timestamp = timestamp
        self._http = httpx.Client(base_url=url, timeout=30)

    def _rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        said = self._http.post("/", json=body).json()
        if "error" in said:
            raise AssertionError(f"anvil: {method}: {said['error']}")
        return said["result"]

    def close(self) -> None:
        self._http.close()

    def give(self, who: Address, amount: int) -> None:
        self._rpc("anvil_setBalance", _hex(who), hex(self.balance(who) + amount))

    def become(self, who: Address, code: bytes) -> None:
        self._rpc("anvil_setCode", _hex(who), _hex(code))

    def balance(self, who: Address) -> int:
        return int(self._rpc("eth_getBalance", _hex(who), "latest"), 16)

    def code(self, who: Address) -> bytes:
        return bytes.fromhex(self._rpc("eth_getCode", _hex(who), "latest")[2:])

    def send(self, sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> Result:
        self.timestamp += 1
        self._rpc("evm_setNextBlockTimestamp", self.timestamp)
        call = _call(sender, to, data, value, gas) | {"gasPrice": hex(GAS_PRICE)}
        receipt = self._receipt(self._rpc("eth_sendTransaction", call))
        return Result(
            good=receipt["status"] == "0x1",
            gas=int(receipt["gasUsed"], 16),
            output=b"",
            created=Address(bytes.fromhex((receipt["contractAddress"] or "0x")[2:])),
            logs=tuple(
                (
                    Address(bytes.fromhex(log["address"][2:])),
                    tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                    bytes.fromhex(log["data"][2:]),
                )
                for log in receipt["logs"]
            ),
        )

    def _receipt(self, tx_hash: str) -> dict[str, Any]:
        """Anvil mines a moment after it has answered."""
        for _ in range(1_000):
            receipt: dict[str, Any] | None = self._rpc("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            time.sleep(0.002)
        raise AssertionError("anvil never mined it")

    def ask(self, to: Address, data: bytes, sender: Address = NOBODY, gas: int = 10_000_000, value: int = 0) -> Result:
        said = self._rpc("eth_call", _call(sender, to, data, value, gas), "latest")
        return Result(good=True, gas=0, output=bytes.fromhex(said[2:]), created=Address(b""), logs=())


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _call(sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> dict[str, str]:
    call = {"from": _hex(sender), "data": _hex(data), "value": hex(value), "gas": hex(gas)}
    return call if to is None else call | {"to": _hex(to)}


@contextmanager
def anvil() -> Iterator[Anvil]:
    """Anvil on a free port, by the rules that py-evm has, sending for whoever is named as the sender."""
    options = {
        "--port": "0",
        "--chain-id": str(CHAIN_ID),
        "--hardfork": "prague",
        "--timestamp": str(START),
        "--gas-limit": "60000000",
        "--block-base-fee-per-gas": "0",
    }
    command = [str(ANVIL), "--auto-impersonate", *(word for option in options.items() for word in option)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            made = Anvil(f"http://{_address(process)}", START)
            try:
                yield made
            finally:
                made.close()
        finally:
            process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    if process.stdout is not None:
        for line in process.stdout:
            if found := re.search(r"Listening on ([0-9.:]+)", line):
                return found[1]
    raise AssertionError("anvil did not start")


def on_py_evm() -> dict[str, int]:
    return measure(World())


def on_anvil() -> dict[str, int] | None:
    """None where it is not installed."""
    if not ANVIL.exists():
        return None
    with anvil() as evm:
        return measure(World(evm))


def both() -> dict[str, tuple[int, str]]:
    """Name to (anvil's figure, or py-evm's where there is no anvil; how they compare)."""
    ours, theirs = on_py_evm(), on_anvil()
    if theirs is None:
        return {name: (gas, "py-evm alone: no anvil here, see `make tools`") for name, gas in ours.items()}
    return {name: (theirs[name], _compared(theirs[name], gas)) for name, gas in ours.items()}


def _compared(theirs: int, ours: int) -> str:
    return "anvil and py-evm agree" if theirs == ours else f"THEY DIFFER: anvil {theirs:,}, py-evm {ours:,}"


def main() -> None:
    """Print every call beside its target, the floor and the best peer, and say where the figures come from."""
    found = both()
    print(table({name: gas for name, (gas, _) in found.items()}))
    for note in sorted({note for _, note in found.values()}):
        print(note)


if __name__ == "__main__":
    main()
