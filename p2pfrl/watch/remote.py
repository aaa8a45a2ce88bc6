"""Pages of other hosts: each is fetched as JSON, and several pages of peers become one."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.deploy.status import RUNNING
from p2pfrl.watch.deployed import UNREACHABLE, Deployed, Parts
from p2pfrl.watch.journals import COLUMNS
from p2pfrl.watch.shares import Joined, Share
from p2pfrl.watch.simulated import METRICS
from p2pfrl.watch.tails import Curves

_PATIENCE = 5.0
"""Seconds that a page has to answer, and to send all of its answer."""
_MOST = 2**26
"""Most bytes of an answer."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a token is for the address that was given."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """Return no request."""


@dataclass(frozen=True)
class News:
    """What a page said last.

    Attributes:
        sections: of the page; empty if it has never answered.
        problem: why it does not answer now; "" if it does.
        age: seconds since it answered.
    """

    sections: Mapping[str, Any]
    problem: str = ""
    age: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether the run had ended when the page answered: a page ends with its run."""
        state = str((self.sections.get("run") or {}).get("state", ""))
        return bool(self.sections.get("closed")) or state.startswith(("ended", "failed", "killed"))


class Remote:
    """The page of one host.

    Attributes:
        url: its address, without a token.

    Args:
        url: its address, perhaps with ?token=.
        token: its token, if the address has none.

    Raises:
        ScenarioError: it is no address of a page.
    """

    def __init__(self, url: str, token: str = "") -> None:
        split = urlsplit(url if "//" in url else f"http://{url}")
        try:
            is_address = bool(split.hostname) and split.port != 0
        except ValueError:  # a port that is none
            is_address = False
        if split.scheme not in ("http", "https") or not is_address:
            raise ScenarioError(
                [f"--url: expected an address such as http://10.0.0.7:8400, got {url!r}"]
            )
        self.url = f"{split.scheme}://{split.netloc}"
        self._token = parse_qs(split.query).get("token", [token])[0]
        self._last: dict[str, Any] = {}
        self._seen: float | None = None
        self._opener = urllib.request.build_opener(NoRedirect)
        self._name = f"p2pfrl-watch/{secrets.token_hex(4)}"  # the page knows who follows it

    def fetch(self) -> dict[str, Any]:
        """Return all sections of the page.

        Raises:
            P2PFRLError: it does not answer, asks for another token, or is no page of a run.
        """
        request = urllib.request.Request(f"{self.url}/state.json")
        request.add_header("User-Agent", self._name)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                content = _read(answer)
            found = json.loads(content) if len(content) <= _MOST else None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:
                what = "a wrong one" if self._token else "none"
                raise P2PFRLError(
                    f"--url {self.url}: expected the token of this page, got {what}: give --token FILE, or the "
                    "address with ?token= that it has printed"
                ) from error
            raise P2PFRLError(
                f"--url {self.url}: expected a page of a run, got status {error.code}"
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise P2PFRLError(f"--url {self.url}: cannot be read: {reason}") from error
        if not isinstance(found, dict) or not ("run" in found or "problem" in found):
            raise P2PFRLError(f"--url {self.url}: expected a page of a run, got something else")
        self._last, self._seen = found, time.monotonic()
        return found

    def newest(self) -> News:
        """Return the newest sections, which may be of a while ago."""
        try:
            return News(self.fetch())
        except P2PFRLError as error:
            if self._seen is None:
                return News({}, str(error))
            age = time.monotonic() - self._seen
            return News(self._last, f"{error}; what is shown is {age:.0f} s old", age)


def _read(answer: Any) -> bytes:
    """Return an answer, or its beginning if it is too large.

    Raises:
        TimeoutError: it does not end in time.
    """
    content, deadline = bytearray(), time.monotonic() + _PATIENCE
    while len(content) <= _MOST and (piece := answer.read1(2**16)):
        content += piece
        if time.monotonic() > deadline:
            raise TimeoutError(f"no whole answer within {_PATIENCE:g} s")
    return bytes(content)


class Elsewhere:
    """Reader of the page of another host: it shows what that page shows."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def read(self) -> dict[str, Any]:
        """Return its sections. A page that has ended with its run is no problem."""
        news = self._remote.newest()
        found = {**news.sections, "problem": news.sections.get("problem", ""), "closed": False}
        if not news.problem:
            return found
        if news.has_ended:
            note = "The page of this run has ended: what is shown is its last state."
            return {**found, "notes": [*(found.get("notes") or []), note]}
        if run := found.get("run"):
            found["run"] = {**run, "state": UNREACHABLE, "running": False, "left": None}
        if table := found.get("processes"):
            found["processes"] = {**table, "rows": _aged(table, news.age)}
        return {**found, "problem": news.problem}


def _aged(table: Mapping[str, Any], seconds: float) -> list[list[Any]]:
    """Return the rows of the table of processes with later last signs of life."""
    place = list(table["columns"]).index("last sign") if table["rows"] else 0
    return [
        [*row[:place], None if row[place] is None else row[place] + seconds, *row[place + 1 :]]
        for row in table["rows"]
    ]


class Pages:
    """The pages of several peers, as the origin of one deployment."""

    def __init__(self, remotes: Sequence[Remote]) -> None:
        self._remotes = tuple(remotes)
        self._joined = Joined()
        self._curves = Curves(METRICS)

    def parts(self) -> Parts:
        """Return the processes of all pages.

        One that ran when its page answered last is unreachable: nothing else is known of it.
        """
        with ThreadPoolExecutor(min(16, len(self._remotes))) as pool:
            answers = list(pool.map(lambda remote: remote.newest(), self._remotes))
        processes: list[Mapping[str, Any]] = []
        log: list[Mapping[str, Any]] = []
        network: Mapping[str, Any] = {}
        scenario: Mapping[str, Any] = {}
        shares: list[list[Share]] = []
        gone: list[int] = []
        agents: set[int] = set()
        for remote, news in zip(self._remotes, answers, strict=True):
            parts = news.sections.get("parts") or {}
            own = parts.get("processes") or [{"agents": [], "directory": remote.url}]
            processes += [_as_of_now(process, news) for process in own]
            log += parts.get("log") or []
            network = network or parts.get("network") or {}
            scenario = scenario or parts.get("scenario") or {}
            if told := parts.get("shares"):
                if news.problem or all(process.get("state") != RUNNING for process in own):
                    gone.append(len(shares))
                shares.append([Share.of_json(share) for share in told])
                agents.update(map(int, parts.get("of") or ()))
        self._curves.add(COLUMNS, self._joined.add(shares, gone))
        return Parts(
            processes,
            network,
            scenario,
            log,
            columns=self._curves.columns() if self._curves.rows else {},
            disagreement={str(id): value for id, value in self._joined.disagreement.items()},
            rows=self._curves.rows,
            of=sorted(agents),
            is_projected=self._joined.is_projected,
        )


def _as_of_now(process: Mapping[str, Any], news: News) -> Mapping[str, Any]:
    """Return the status of a process whose page may not answer any more."""
    age, state = process.get("age"), process.get("state", RUNNING)
    if news.problem and state == RUNNING:
        state = UNREACHABLE
    return {**process, "state": state, "age": None if age is None else age + news.age}


def pages(urls: Sequence[str], token: str) -> Elsewhere | Deployed:
    """Return what reads the pages of other hosts.

    Args:
        urls: their addresses.
        token: of those whose address has none.

    Raises:
        P2PFRLError: none of them answers, or one asks for another token.
    """
    remotes = [Remote(url, token) for url in urls]
    problems = []
    for remote in remotes:
        try:
            found = remote.fetch()
        except P2PFRLError as error:
            problems.append(str(error))
        else:
            if len(remotes) > 1 and "parts" not in found:
                raise P2PFRLError(f"--url {remote.url}: a simulated run: give its address alone")
    if len(problems) == len(remotes) or any("token" in problem for problem in problems):
        raise P2PFRLError("; ".join(problems))
    if len(remotes) == 1:
        return Elsewhere(remotes[0])
    return Deployed(Pages(remotes), f"{len(remotes)} pages")
