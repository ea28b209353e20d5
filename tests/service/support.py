import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from byokd.demo.stage import Stage

BASE = "/subscriptions/3f0c2f8e-0000-4000-8000-00000000d0d0/resourceGroups/test/providers/Microsoft.Media/mediaservices"
VAULT = "customer-keys"
KEY = f"https://{VAULT}.vault.azure.net/keys/media"


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


async def byokd(*arguments: str, environment: Mapping[str, str]) -> Ran:
    """Run the command as a user does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "byokd",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BYOKD_")}


async def customer(stage: Stage) -> str:
    """Make a vault with a key that the platform's identity may use; give the tenant."""
    vault = await stage.control.create_vault(VAULT, purge_protection=True)
    await stage.control.create_key(VAULT, "media", size=2048)
    await stage.control.grant(VAULT)
    return vault["tenant"]


def entry(tenant: str, *, name: str, key: str) -> str:
    return f"""\
  - id: {BASE}/{name}
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "{key}"}}
"""


def manifest(stage: Stage, tenant: str, *, key: str = KEY, name: str = "contoso") -> Path:
    path = stage.directory / f"{name}.yaml"
    path.write_text("accounts:\n" + entry(tenant, name=name, key=key))
    return path


async def apply(stage: Stage, path: Path, *options: str) -> Ran:
    return await byokd("accounts", "apply", "-f", str(path), *options, environment=stage.environment)
