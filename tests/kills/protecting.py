"""The protected values of a world, and what each of them may be at any moment."""

import base64
import secrets
from collections import defaultdict
from collections.abc import Mapping

from kills.management import Management

KIND = "content-key"

Place = tuple[str, str]
"""The account's name, and the value's."""


class Values:
    """Protects, reveals and removes; remembers what it protected.

    While a request is under way, a value may be what it was or what it becomes; once the daemon said that it is done,
    only that.
    """

    def __init__(self, management: Management, base: str) -> None:
        self._management = management
        self._base = base
        self._may_be: defaultdict[Place, set[bytes | None]] = defaultdict(lambda: {None})

    async def protect(self, account: str, name: str) -> None:
        content = secrets.token_bytes(32)
        self._may_be[account, name].add(content)
        shown = base64.b64encode(content).decode()
        answer = await self._management.insist("POST", "/account/values", **self._about(account, name, content=shown))
        assert "revision" in answer, f"{account} {name} was not protected: {answer}"
        self._may_be[account, name] = {content}

    async def remove(self, account: str, name: str) -> None:
        self._may_be[account, name].add(None)
        await self._management.insist("POST", "/account/values/remove", **self._about(account, name))
        self._may_be[account, name] = {None}

    def leaves(self, account: str) -> None:
        """The account is being deleted, and what it protected with it."""
        for place, contents in self._may_be.items():
            if place[0] == account:
                contents.add(None)

    def left(self, account: str) -> None:
        """The account is deleted."""
        for place in self._may_be:
            if place[0] == account:
                self._may_be[place] = {None}

    async def listed(self, account: str) -> None:
        """The daemon names what was protected."""
        shown = await self._management.insist("GET", "/account/values", params=self._params(account))
        names = {name for (of, name), contents in self._may_be.items() if of == account and None not in contents}
        assert {one["name"] for one in shown} == names

    async def revealed(self) -> None:
        """Every value is what was protected, also when byokd itself opens it."""
        for (account, name), contents in self._may_be.items():
            if None not in contents:
                answer = await self._management.insist("POST", "/account/values/reveal", **self._about(account, name))
                assert "content" in answer, f"{account} {name} is lost: {answer}"
                assert base64.b64decode(answer["content"]) in contents, f"{account} {name} is another one than before"

    def check(self, found: Mapping[Place, bytes], *, closed: set[str]) -> None:
        """What was found stored is what may be there, but for accounts that cannot be opened now."""
        for place in found.keys() | self._may_be.keys():
            if place[0] not in closed:
                may_be = self._may_be.get(place, {None})
                assert found.get(place) in may_be, f"the value {place} is lost, or another one than before"

    def _about(self, account: str, name: str, **more: str) -> dict[str, object]:
        return {"params": self._params(account), "json": {"kind": KIND, "name": name, **more}}

    def _params(self, account: str) -> dict[str, str]:
        return {"ref": f"{self._base}/{account}"}
