"""Command that watches runs: a live page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import DONE
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import read_regular

Bind = Annotated[
    str,
    Parameter(
        help="HOST:PORT of the page; port 0: any free port. Addresses of other hosts need a token."
    ),
]
Url = Annotated[
    tuple[str, ...],
    Parameter(
        negative=(),
        help="A page of another host, such as the --status of a peer; repeatable: peers become one page.",
    ),
]
Token = Annotated[
    Path | None,
    Parameter(
        help="A file with the token of the page, or with that of the pages of --url. One is made for a page that "
        "others can reach."
    ),
]
NoOpen = Annotated[
    bool, Parameter(name="--no-open", negative=(), help="Open no browser; the address is printed.")
]
Attached = Annotated[
    bool,
    Parameter(negative=(), show=False, help="End when standard input ends: that of a parent."),
]
_MOST_TOKEN, _LEAST_TOKEN = 4096, 16


def watch(
    *runs: Path,
    url: Url = (),
    bind: Bind = "127.0.0.1:0",
    token: Token = None,
    no_open: NoOpen = False,
    attached: Attached = False,
) -> int:
    """Show a run on a live page in the browser, while it runs or when it has ended.

    Parameters
    ----------
    runs
        The directory of a run, or those of its peers.
    """
    from p2pfrl.commands.place import is_local, named
    from p2pfrl.net.fleet import parse_address
    from p2pfrl.watch.remote import pages
    from p2pfrl.watch.serve import listening, new_token, require_live, serve, url_of
    from p2pfrl.watch.sources import Careful, source_of

    require_live()
    if url and runs:
        raise ScenarioError([f"--url: expected addresses or directories, got both: {runs[0]}"])
    with named("--bind"):
        address = parse_address(bind)
    is_own = is_local(address)
    word = "" if token is None else token_of(token)
    source = Careful(pages(url, word), "--url") if url else source_of(runs, waits=attached)
    own = "" if url else word
    if not own and not is_own:
        own = new_token()
    listener = listening(address)
    place = url_of(listener, own)
    print(f"watch: {place}", flush=True)
    if not attached:
        print("Ctrl-C ends the page, and never the run", file=sys.stderr, flush=True)
    if not no_open:
        open_browser(place)
    ended = sys.stdin.read if attached else None
    serve(source, listener, own, is_local=is_own, is_fleeting=bool(url), ended=ended)
    return DONE


def token_of(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ScenarioError: there is no such file, or the token is short or no text.
    """
    try:
        word = read_regular(path, _MOST_TOKEN).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise ScenarioError(
            [f"--token {path}: expected a file with a token, got: {reason}"]
        ) from error
    if len(word) < _LEAST_TOKEN or not word.isprintable() or " " in word:
        raise ScenarioError(
            [
                f"--token {path}: expected a token of at least {_LEAST_TOKEN} characters without spaces, got "
                f"{len(word)} characters; `openssl rand -hex 16 > {path}` makes one"
            ]
        )
    return word


def open_browser(url: str) -> None:
    """Open a page in the user's browser, where there is a screen; a terminal is no such place."""
    import webbrowser

    has_screen = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if has_screen and sys.stderr.isatty():
        webbrowser.open(url)
