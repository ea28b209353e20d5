"""The daemon's process, its socket, and who watches over it."""

import grp
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from byokd.ports.examining import DaemonReport
from byokd.runtime.findings import Finding, bad, ok, warn

DAEMON: Final = "daemon"
SOCKET: Final = "socket"
SERVICE_MANAGER: Final = "service-manager"


def examine_daemon(report: DaemonReport | str | None) -> Finding:
    """Whether a daemon runs, and is ready; text says why it could not be asked."""
    if report is None:
        return ok(DAEMON, "none runs; what follows was examined without it")
    if isinstance(report, str):
        hint = "use the socket as root or as a member of its group; see the daemon's log when it does not answer"
        return bad(DAEMON, report, hint=hint)
    reasons = report.get("notReadyBecause")
    of_bus = isinstance(reasons, Sequence) and all(str(reason).startswith("bus:") for reason in reasons)
    if not report.get("ready") and not of_bus:
        told = "; ".join(map(str, reasons)) if isinstance(reasons, Sequence) else "it does not say why"
        return bad(DAEMON, f"it runs, but is not ready: {told}", hint="its page /healthz says more, with hints")
    return ok(DAEMON, f"{report.get('instance')} runs, version {report.get('version')}")


def examine_socket(path: Path) -> Finding:
    """Where the socket is, and that only its owner and group may use it."""
    directory = path.parent
    try:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            hint = f"chmod o-w {directory}; under systemd RuntimeDirectory= makes it 0750"
            return bad(SOCKET, f"everybody may put something else in the place of {path}", hint=hint)
        found = path.stat()
    except FileNotFoundError:
        return _without_socket(path)
    except OSError as error:
        hint = "run this as root, or as a member of the socket's group"
        return warn(SOCKET, f"{path} cannot be looked at: {error.strerror}", hint=hint)
    if not stat.S_ISSOCK(found.st_mode):
        hint = "move it away, or set service.socket to another path: the daemon would replace it"
        return bad(SOCKET, f"{path} is there and is no socket", hint=hint)
    if found.st_mode & stat.S_IRWXO:
        return bad(SOCKET, f"everybody may connect to {path}", hint=f"chmod 0660 {path}")
    return ok(SOCKET, f"{path}, mode {stat.S_IMODE(found.st_mode):04o}, group {_group(found.st_gid)}")


def _without_socket(path: Path) -> Finding:
    if path.parent.is_dir():
        return ok(SOCKET, f"{path} is not there; a daemon makes it")
    hint = "systemd makes it at the start (RuntimeDirectory=); elsewhere make it, owned by the user that runs byokd"
    return warn(SOCKET, f"the directory {path.parent} is not there", hint=hint)


def examine_service_manager(report: DaemonReport, *, processes: Path = Path("/proc")) -> Finding:
    """Whether somebody starts the daemon again when it dies, and ends it when it hangs."""
    seconds = report.get("watchdogSeconds")
    unit = _unit(processes / str(report.get("pid")) / "cgroup")
    if seconds is not None:
        return ok(SERVICE_MANAGER, f"{unit or 'a service manager'} watches over it, every {seconds} s")
    if unit is not None:
        return warn(SERVICE_MANAGER, f"{unit} has no watchdog", hint="use the unit of systemd/, or add WatchdogSec=30s")
    hint = "run it as a systemd service (deploy/install.sh), or let whatever runs it look at /livez"
    return warn(SERVICE_MANAGER, "nobody would notice that the daemon hangs", hint=hint)


def _unit(groups: Path) -> str | None:
    try:
        parts = groups.read_text().strip().split("/")
    except OSError:
        return None
    return next((part for part in reversed(parts) if part.endswith(".service")), None)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
