"""Who may read a file: what its mode says, or its access control list where it has one."""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from typing import Final

_LIST: Final = "system.posix_acl_access"
_VERSION: Final = 2
_ENTRY: Final = struct.Struct("<HHI")
_OWNER: Final = 0x01
_USER: Final = 0x02
_MASK: Final = 0x10
_NONE: Final = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)


def is_private(descriptor: int) -> bool:
    """Tell whether nobody but root, the file's owner and this process's user may read or write an open file.

    systemd lets the service's user read its credentials by an access control list where the file system has them; the
    group's bits of the mode then show the list's mask and say nothing about the group.
    """
    mode = os.fstat(descriptor).st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return True
    if mode & (stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO):
        return False
    try:
        entries = list(_entries(os.getxattr(descriptor, _LIST)))
    except OSError as error:
        if error.errno in _NONE:
            return False
        raise
    return bool(entries) and all(_harmless(*entry) for entry in entries)


def _entries(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Give tag, permissions and id of each entry, as in Linux's posix_acl_xattr.h; none of a form that is unknown."""
    header, body = content[:4], content[4:]
    if int.from_bytes(header, "little") == _VERSION and len(body) % _ENTRY.size == 0:
        yield from _ENTRY.iter_unpack(body)


def _harmless(tag: int, permissions: int, who: int) -> bool:
    if tag in {_OWNER, _MASK}:
        return True
    return permissions == 0 or (tag == _USER and who in {0, os.geteuid()})
