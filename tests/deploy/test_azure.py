"""deploy/azure says the same twice, in Bicep and for `az`. Bicep's grammar is here; its compiler and Azure are not."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

import byokd
from byokd.domain.signals import read_delivery
from byokd.runtime.delivery_secrets import flaw_of_secret

CHECKOUT = Path(byokd.__file__).parent.parent.parent
AZURE = CHECKOUT / "deploy" / "azure"
BICEP, SCRIPT = AZURE / "main.bicep", AZURE / "subscribe.sh"
ROLES = {
    "Key Vault Crypto Service Encryption User": "e147488a-f6f5-4113-8e2d-b22465e65bf6",
    "Storage Queue Data Message Sender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "Storage Queue Data Message Processor": "8a0f0c08-91a1-4084-bc3d-661d67233fed",
}
"""From https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""

GUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
EVENT = re.compile(r"Microsoft\.KeyVault\.[A-Z]\w+")


def code(path: Path) -> str:
    """The text without comments."""
    mark = "//" if path.suffix == ".bicep" else "#"
    return "\n".join(re.sub(rf"(^|\s){mark}.*", "", line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("path", [BICEP, SCRIPT])
def test_roles_are_those_that_azure_documents(path: Path) -> None:
    text = path.read_text()
    assert set(GUID.findall(text)) == set(ROLES.values())
    pairs = {name: re.sub(r"\W", "", name).lower() for name in ROLES}
    for line in text.splitlines():
        if found := GUID.search(line):
            names = [
                name
                for name, short in pairs.items()
                if ROLES[name] == found[0] and (short in line.lower() or name in line)
            ]
            assert names, line


def test_both_ask_for_the_same_events_and_byokd_knows_each() -> None:
    asked = set(EVENT.findall(code(BICEP)))
    assert asked == set(EVENT.findall(code(SCRIPT)))
    assert len(asked) == 4
    data = {"VaultName": "contoso", "ObjectType": "Key", "ObjectName": "media"}
    for kind in asked:
        assert read_delivery({"id": "1", "eventType": kind, "data": data}).signals, kind


RESOURCE_EVENT = re.compile(r"Microsoft\.Resources\.Resource[A-Z]\w+Success")


def parsed(text: str) -> Node:
    return Parser(Language(tree_sitter_bicep.language())).parse(text.encode()).root_node


def test_the_bicep_is_bicep() -> None:
    text = BICEP.read_text()
    assert not parsed(text).has_error
    for right, wrong in (("scope: account::", "scope = account::"), ("= if (", "= if "), ("param ", "parameter ")):
        assert parsed(text.replace(right, wrong)).has_error, right


def test_the_bicep_holds_together() -> None:
    text = code(BICEP)
    names = re.findall(r"^(?:param|var) (\w+)", text, re.MULTILINE)
    for name in names:
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is not used"
    for name, kind in re.findall(r"^resource (\w+) '([^']+)'", text, re.MULTILINE):
        assert re.fullmatch(r"Microsoft\.[\w./]+@\d{4}-\d\d-\d\d", kind), f"{name}: {kind}"
    assert re.search(r"@secure\(\)\nparam webhookSecret string", text)


def resource(name: str) -> str:
    """What a resource of the Bicep says, without white space."""
    (found,) = re.findall(rf"^resource {name} (.*?)^}}", code(BICEP), re.MULTILINE | re.DOTALL)
    return re.sub(r"\s", "", found)


def test_the_bicep_makes_a_poison_queue_that_byokd_may_write_and_not_empty_where_one_is_named() -> None:
    named = "!empty(poisonQueueName)"
    assert re.search(r"^param poisonQueueName string = ''$", code(BICEP), re.MULTILINE)
    assert f"resourcepoison'queues'=if({named}){{name:" in resource("account")
    sets_aside = resource("setsAside")
    assert f"=if(delivery=='queue'&&{named}){{" in sets_aside
    assert "scope:account::queues::poison" in sets_aside
    assert "principalId:byokd" in sets_aside
    assert sets_aside.count("roles.storageQueueDataMessageSender") == 2
    assert "Processor" not in sets_aside
    (receives,) = (one for one in map(resource, ("sends", "receives", "setsAside")) if "Processor" in one)
    assert "scope:account::queues::queue" in receives


def test_both_ask_for_the_same_of_azure_resource_manager_and_byokd_knows_each() -> None:
    asked = set(RESOURCE_EVENT.findall(code(BICEP)))
    assert asked == set(RESOURCE_EVENT.findall(code(SCRIPT)))
    assert len(asked) == 3
    vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/contoso"
    for kind in asked:
        delivery = {"id": "1", "eventType": kind, "data": {"resourceUri": vault, "operationName": "any"}}
        assert read_delivery(delivery).signals, kind


def test_the_bicep_tells_of_resources_where_it_is_wanted_by_the_webhook() -> None:
    assert re.search(r"^param resourceEvents bool = false$", code(BICEP), re.MULTILINE)
    topic, told = resource("resourceTopic"), resource("resourcesToWebhook")
    for one in (topic, told):
        assert "=if(delivery=='webhook'&&resourceEvents){" in one
    assert (
        "location:'global'properties:{source:resourceGroup().idtopicType:'Microsoft.Resources.ResourceGroups'}" in topic
    )
    assert "parent:resourceTopic" in told
    assert "destination:webhook" in told
    assert "destination:webhook" in resource("toWebhook")
    assert "includedEventTypes:resourceEventTypes,subjectBeginsWith:vault.id" in told
    assert "properties:{value:webhookSecret,isSecret:true}" in re.sub(r"\s", "", code(BICEP))


AZ = """#!/bin/sh
printf '%s\\n' "$*" >> "$AZ_CALLS"
case "$*" in
    "storage account show"*"--output none") exit 1 ;;
    *"--query id "*) echo "/the/id/of/$(echo "$*" | cut -d' ' -f1)" ;;
    *"--query resourceGroup"*) echo keys ;;
    *"--query location"*) echo westeurope ;;
    *"--query identity.principalId"*) echo topic-principal ;;
esac
"""


@pytest.fixture
def az(tmp_path: Path) -> dict[str, str]:
    """An `az` that writes down how it is called: the real one needs a subscription."""
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    program.write_text(AZ)
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "AZ_CALLS": str(tmp_path / "calls")}


def run(az: dict[str, str], *arguments: str) -> tuple[int, str, list[str]]:
    ran = subprocess.run([str(SCRIPT), *arguments], env=az, capture_output=True, text=True, check=False)
    calls = Path(az["AZ_CALLS"])
    return ran.returncode, ran.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_a_webhook_gets_secret_and_token(az: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret-of-sixteen\r\n")
    code, said, calls = run(
        az, "--vault", "contoso", "--principal", "p", "--webhook", "https://byokd.example.com/events/keyvault",
        "--secret-file", str(tmp_path / "secret"), "--tenant", "t", "--audience", "api://byokd",
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert f"--role {ROLES['Key Vault Crypto Service Encryption User']} --assignee-object-id p" in calls[3]
    assert "--scope /the/id/of/keyvault" in calls[3]
    assert calls[-1].startswith("eventgrid system-topic event-subscription create --name byokd")
    assert "--delivery-attribute-mapping x-byokd-secret static s3cret-of-sixteen true" in calls[-1]
    assert (
        "--azure-active-directory-tenant-id t --azure-active-directory-application-id-or-uri api://byokd" in calls[-1]
    )
    assert not any("storage" in call for call in calls)


def test_what_happens_to_the_vault_itself_is_told_by_the_topic_of_its_group(az: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret-of-twenty-one\n")
    group = "/subscriptions/s/resourceGroups/keys"
    vault = f"{group}/providers/Microsoft.KeyVault/vaults/contoso"
    program = tmp_path / "bin" / "az"
    program.write_text(AZ.replace('"/the/id/of/$(echo "$*" | cut -d\' \' -f1)"', vault))
    assert vault in program.read_text()
    arguments = (
        "--vault", "contoso", "--principal", "p", "--resource-events", "--webhook", "https://byokd.example.com/events/keyvault",
        "--secret-file", str(tmp_path / "secret"),
    )  # fmt: skip
    code, said, calls = run(az, *arguments)
    assert (code, said) == (0, "")
    assert len(calls) == 8
    keys, topic, told = calls[-3:]
    assert "--system-topic-name contoso-byokd " in keys
    assert topic.startswith("eventgrid system-topic create --name contoso-byokd-resources ")
    assert "--location global --topic-type Microsoft.Resources.ResourceGroups --source " in topic
    assert topic.endswith(f" --source {group} --output none")
    assert told.startswith("eventgrid system-topic event-subscription create --name byokd ")
    assert "--delivery-attribute-mapping x-byokd-secret static s3cret-of-twenty-one true --system-topic-name " in told
    assert "--system-topic-name contoso-byokd-resources " in told
    last = told.rpartition("--included-event-types ")[2].split()
    assert sorted(last) == [f"Microsoft.Resources.Resource{what}Success" for what in ("Action", "Delete", "Write")]
    assert f"--subject-begins-with {vault} " in told


def test_a_queue_is_filled_by_event_grid_and_emptied_by_byokd(az: dict[str, str]) -> None:
    code, said, calls = run(az, "--vault", "contoso", "--principal", "p", "--queue-account", "hints")
    assert (code, said) == (0, "")
    queue = "/the/id/of/storage/queueServices/default/queues/byokd-keyvault-events"
    (sends,) = (call for call in calls if ROLES["Storage Queue Data Message Sender"] in call)
    (receives,) = (call for call in calls if ROLES["Storage Queue Data Message Processor"] in call)
    assert "--assignee-object-id topic-principal" in sends
    assert sends.endswith("--scope /the/id/of/storage --output none")
    assert "--assignee-object-id p" in receives
    assert receives.endswith(f"--scope {queue} --output none")
    assert any(call.startswith("storage account create --name hints") for call in calls)
    assert f"--delivery-identity-endpoint {queue}" in calls[-1]


def test_a_poison_queue_is_made_and_byokd_may_write_it(az: dict[str, str]) -> None:
    arguments = ("--vault", "contoso", "--principal", "p", "--queue-account", "hints", "--poison-queue", "poison")
    code, said, calls = run(az, *arguments)
    assert (code, said) == (0, "")
    queues = "/the/id/of/storage/queueServices/default/queues"
    made = [call for call in calls if call.startswith("rest --method put")]
    assert [call.rpartition("/")[2].partition("?")[0] for call in made] == ["byokd-keyvault-events", "poison"]
    (sends,) = (call for call in calls if f"{queues}/poison " in call and "role assignment" in call)
    assert ROLES["Storage Queue Data Message Sender"] in sends
    assert "--assignee-object-id p " in sends
    (receives,) = (call for call in calls if ROLES["Storage Queue Data Message Processor"] in call)
    assert f"--scope {queues}/byokd-keyvault-events " in receives


@pytest.mark.parametrize("header", ["authorization", "X-Secret", "x secret"])
def test_a_header_that_byokd_would_not_look_into_is_refused(az: dict[str, str], tmp_path: Path, header: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    way = ("--webhook", "https://x", "--secret-file", str(secret), "--header", header)
    code, said, calls = run(az, "--vault", "v", "--principal", "p", *way)
    assert (code, calls) == (1, [])
    assert f"--header {header} carries no secret" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "--vault is needed"),
        (("--vault", "v"), "--principal is needed"),
        (("--vault",), "--vault needs a value"),
        (("--vault", "v", "--principal", "p", "--webhook", "https://x"), "takes no delivery"),
        (("--vault", "v", "--principal", "p", "--webhook", "u", "--queue-account", "q"), "exclude each other"),
        (("--vault", "v", "--principal", "p", "--webhook", "u", "--tenant", "t"), "belong together"),
        (("--vault", "v", "--principal", "p", "--resource-events", "--queue-account", "a"), "needs --webhook"),
        (("--vault", "v", "--principal", "p", "--poison-queue", "q"), "needs --queue-account"),
        (("--vault", "v", "--principal", "p", "--queue-account", "a", "--queue", "q", "--poison-queue", "q"), "itself"),
        (("--vault", "v", "--principal", "p", "--webhook", "u", "--secret-file", "/nowhere"), "cannot read /nowhere"),
        (("--vault", "v", "--principal", "p", "--webhook", ""), "--webhook needs a value"),
        (("--vault", "v", "--principal", "p", "--webhook", "http://x", "--tenant", "t", "--audience", "a"), "https://"),
        (("--vault", "v", "--principal", "p", "--tenant", "t", "--audience", "a"), "need --webhook"),
        (("--vault", "v", "--principal", "p", "--secret-file", "/dev/null"), "need --webhook"),
        (("--vault", "v", "--principal", "p", "--header", "x-other"), "need --webhook"),
        (("--vault", "v", "--principal", "p", "--queue", "q"), "--queue needs --queue-account"),
        (
            (
                "--vault",
                "v",
                "--principal",
                "p",
                "--webhook",
                "https://x",
                "--header",
                "h",
                "--tenant",
                "t",
                "--audience",
                "a",
            ),
            "--header needs --secret-file",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_done(
    az: dict[str, str], arguments: tuple[str, ...], why: str
) -> None:
    code, said, calls = run(az, *arguments)
    assert (code, calls) == (1, [])
    assert why in said
    assert "hint: " in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is too short"),
        (b"fifteen-bytes-x\n", "is too short"),
        (b"two words of many bytes\n", "has other than visible characters"),
        ("gehörtauchnichthinein".encode(), "has other than visible characters"),
        (b"sixteen-and-more\nand-a-second-line", "has other than visible characters"),
    ],
)
def test_a_secret_that_byokd_would_refuse_is_refused(
    az: dict[str, str], tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert flaw_of_secret(tmp_path / "secret") is not None
    webhook = ("--webhook", "https://x/events/keyvault", "--secret-file", str(tmp_path / "secret"))
    code, said, calls = run(az, "--vault", "v", "--principal", "p", *webhook)
    assert (code, calls) == (1, [])
    assert why in said
    assert not content.strip() or content.decode() not in said


def test_the_bicep_refuses_a_webhook_that_takes_no_delivery() -> None:
    assert "destination:webhook" in resource("toWebhook")
    (webhook,) = re.findall(r"^var webhook = (.*?)^}$", code(BICEP), re.MULTILINE | re.DOTALL)
    assert "endpointUrl: endpoint" in webhook
    (chosen,) = re.findall(r"^var endpoint = (.*?)^$", code(BICEP), re.MULTILINE | re.DOTALL)
    assert re.findall(r"^[ :]*(.+)\n *\? fail\('[^']+'\)$", chosen, re.MULTILINE) == [
        "!startsWith(webhookUrl, 'https://')",
        "empty(webhookSecret) && empty(webhookTenantId)",
        "empty(webhookTenantId) != empty(webhookAudience)",
        "!empty(webhookSecret) && length(webhookSecret) < 16",
    ]
    assert chosen.split()[-2:] == [":", "webhookUrl"]
