"""Keeps a table of the present state of every account, through restarts of itself, of byokd and of the broker.

    MQTT_USERNAME=reader MQTT_PASSWORD=... MQTT_CA=ca.pem python subscriber.py mqtt.example.com 8883 accounts.db

Needs aiomqtt. Without MQTT_CA it speaks without TLS, without MQTT_USERNAME it gives no name. What it relies on is said
in docs/events.md.
"""

import asyncio
import json
import os
import sqlite3
import ssl
import sys

from aiomqtt import Client, MqttError, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ACCOUNTS = "byokd/v1/accounts/+/+/+/+"
TABLE = "CREATE TABLE IF NOT EXISTS accounts (account PRIMARY KEY, incarnation, sequence, time, state, reason)"
PLACE = "INSERT OR REPLACE INTO accounts VALUES (:account, :incarnation, :sequence, :time, :state, :reason)"


def take(table: sqlite3.Connection, payload: bytes) -> None:
    """Note what an event says, unless something newer is noted already: repetitions and late ones change nothing."""
    if not payload:  # it empties the retained state of a deleted account; the event of the deletion came before it
        return
    event = json.loads(payload)
    if not event["type"].startswith("byokd.account"):  # others may come: trials of `byokd doctor`, and what is new
        return
    data = event["data"]
    known = table.execute("SELECT incarnation, sequence, time FROM accounts WHERE account = ?", [data["account"]])
    incarnation, sequence, time = known.fetchone() or (data["incarnation"], 0, "")
    same = incarnation == data["incarnation"]
    if data["sequence"] <= sequence if same else event["time"] <= time:
        return
    deleted = event["type"] == "byokd.account.deleted"  # it stays noted, so that nothing older brings it back
    with table:
        table.execute(PLACE, {**data, "time": event["time"], "state": "Deleted" if deleted else data["state"]})


async def follow(host: str, port: int, table: sqlite3.Connection) -> None:
    """Follow for ever. The session outlives connections: while we are away, the broker keeps what comes."""
    table.execute(TABLE)
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 14 * 86_400
    login = {"username": os.environ.get("MQTT_USERNAME"), "password": os.environ.get("MQTT_PASSWORD")}
    tls = ssl.create_default_context(cafile=os.environ["MQTT_CA"]) if "MQTT_CA" in os.environ else None
    alike = {"protocol": ProtocolVersion.V5, "clean_start": False, "properties": session, "tls_context": tls, **login}
    while True:
        client = Client(host, port, identifier="accounts-table", **alike)
        # Acknowledge what is noted. By itself paho does so on receipt: what then waits here dies with us.
        paho = client._client  # noqa: SLF001 - aiomqtt has no name for it
        paho.manual_ack_set(on=True)
        try:
            async with client:
                # Events and states: the broker sends every retained state now, should it have forgotten our session.
                await client.subscribe(ACCOUNTS, qos=1)
                async for message in client.messages:
                    take(table, message.payload)
                    paho.ack(message.mid, message.qos)
        except MqttError as error:
            sys.stderr.write(f"the broker cannot be followed, trying again: {error}\n")
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], int(sys.argv[2]), sqlite3.connect(sys.argv[3])))
