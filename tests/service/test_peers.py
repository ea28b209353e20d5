"""Who may use the socket: as the kernel knows the other end, whatever the file's mode."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from byokd.demo.stage import Stage
from byokd.http.peers import Peer, may_manage, peer_of

NOBODY, SOMEBODY = 65534, 65000
STATUS = b"GET /status HTTP/1.1\r\nHost: byokd\r\nConnection: close\r\n\r\n"
REVEAL = b'{"kind": "content-key", "name": "one"}'


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(0, frozenset({0})), True),
        (Peer(1000, frozenset({1000})), True),
        (Peer(1001, frozenset({1001, 77})), True),
        (Peer(1001, frozenset({1001})), False),
        (Peer(77, frozenset({1000})), False),
        (Peer(1001, frozenset()), False),
    ],
)
def test_root_the_daemons_user_and_the_sockets_group_may_manage(peer: Peer, allowed: bool) -> None:  # noqa: FBT001 - a row
    assert may_manage(peer, own_uid=1000, group=77) is allowed
    assert may_manage(peer, own_uid=1000, group=None) is (allowed and peer.uid in {0, 1000})


def test_credentials_are_those_of_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with closing(ours), closing(theirs):
        peer = peer_of(ours)
    assert peer.uid == os.geteuid()
    assert peer.groups == {os.getegid(), *os.getgroups()}


@contextmanager
def being(uid: int, *, groups: Sequence[int]) -> Iterator[None]:
    """Be another user for a moment, as far as the kernel notes it when a socket connects."""
    gid, before = os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(before)


def ask(path: Path, request: bytes, *, uid: int, groups: Sequence[int] = ()) -> bytes:
    """Send a request as that user; give all that comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        with being(uid, groups=groups):
            client.connect(str(path))
        try:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


@pytest.fixture
def path(stage: Stage) -> Path:
    """The socket, after a careless chmod."""
    found = Path(stage.environment["BYOKD_SOCKET"])
    stage.directory.chmod(0o711)
    found.chmod(0o666)
    return found


@pytest.mark.real("root")
async def test_who_is_not_of_the_group_gets_no_answer_and_a_line_in_the_log(stage: Stage, path: Path) -> None:
    os.chown(path, 0, SOMEBODY)
    assert b" 200 OK" in ask(path, STATUS, uid=0)
    assert b" 200 OK" in ask(path, STATUS, uid=NOBODY, groups=[SOMEBODY])
    assert b" 200 OK" in ask(path, STATUS, uid=SOMEBODY)
    assert ask(path, STATUS, uid=NOBODY) == b""
    lines = [json.loads(line) for line in (stage.directory / "daemon.log").read_text().splitlines()]
    assert [line["uid"] for line in lines if line["event"] == "peer-refused"] == [NOBODY]
    assert b" 200 OK" in ask(path, STATUS, uid=0), "the daemon goes on"


@pytest.mark.real("root")
async def test_revealing_needs_a_listed_user_and_every_change_is_noted_with_its_user(stage: Stage, path: Path) -> None:
    os.chown(path, 0, SOMEBODY)
    head = b"POST /account/values/reveal?ref=contoso HTTP/1.1\r\nHost: byokd\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REVEAL)
    answer = ask(path, head + REVEAL, uid=SOMEBODY)
    assert b" 403 Forbidden" in answer
    assert b"may not have protected values shown" in answer
    assert b"add 65000 to service.reveal_uids" in answer
    assert b" 404 Not Found" in ask(path, head + REVEAL, uid=0)
    ask(path, STATUS, uid=SOMEBODY)
    lines = [json.loads(line) for line in (stage.directory / "daemon.log").read_text().splitlines()]
    calls = [(line["uid"], line["path"], line["account"]) for line in lines if line["event"] == "management-call"]
    assert calls == [(uid, "/account/values/reveal", "contoso") for uid in (SOMEBODY, 0)]
