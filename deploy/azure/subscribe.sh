#!/bin/sh
# Lets byokd use the keys of a vault, and has Event Grid tell byokd of it: main.bicep by `az`. See --help.
set -eu

usage() {
    cat <<'TEXT'
usage: deploy/azure/subscribe.sh --vault NAME --principal ID [--webhook URL --secret-file FILE [--header NAME]
                                                              [--tenant ID --audience ID-OR-URI]]
                                                             [--queue-account NAME [--queue NAME] [--poison-queue NAME]]
                              [--resource-events]

  --vault NAME          the vault with the customer key; it uses Azure RBAC
  --principal ID        object id, in the vault's tenant, of the identity that byokd comes with
  --webhook URL         have Event Grid call byokd, such as https://byokd.example.com/events/keyvault
  --secret-file FILE    what event_grid.sources.NAME.secret_file of byokd's settings holds
  --header NAME         the header that carries it; default: x-byokd-secret
  --tenant, --audience  have deliveries carry a token of that tenant for that application, beside or without a secret
  --queue-account NAME  have Event Grid fill a queue of that storage account, which is made where it is missing
  --queue NAME          its name; default: byokd-keyvault-events
  --poison-queue NAME   another one, for messages that nobody can read, as event_grid.sources.NAME.poison_queue names it;
                        without it byokd drops them
  --resource-events     with --webhook: tell byokd too of what Azure Resource Manager did to the vault (roles, settings,
                        deletion), by a system topic of its resource group, of which there can be one alone

Needs az, signed in as somebody who may assign roles there. It can be run again. Without webhook and queue byokd polls.
TEXT
}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

vault='' principal='' webhook='' secret_file='' secret='' header='' tenant='' audience='' account=''
queue='' poison='' resource_events=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --resource-events) resource_events=yes; shift; continue ;;
        --vault | --principal | --webhook | --secret-file | --header | --tenant | --audience | --queue-account | --queue | \
            --poison-queue)
            [ -n "${2:-}" ] || fail "$1 needs a value" "see --help" ;;
        *) usage >&2; exit 2 ;;
    esac
    case $1 in
        --vault) vault=$2 ;;
        --principal) principal=$2 ;;
        --webhook) webhook=$2 ;;
        --secret-file) secret_file=$2 ;;
        --header) header=$2 ;;
        --tenant) tenant=$2 ;;
        --audience) audience=$2 ;;
        --queue-account) account=$2 ;;
        --queue) queue=$2 ;;
        --poison-queue) poison=$2 ;;
    esac
    shift 2
done
[ -n "$vault" ] || fail "--vault is needed" "see --help"
[ -n "$principal" ] || fail "--principal is needed" "see --help"
[ -z "$webhook" ] || [ -z "$account" ] || fail "--webhook and --queue-account exclude each other" "choose one"
[ -z "$poison" ] || [ -n "$account" ] || fail "--poison-queue needs --queue-account" "both queues are of one account"
[ -z "$queue" ] || [ -n "$account" ] || fail "--queue needs --queue-account" "both, or neither: byokd polls then"
queue=${queue:-byokd-keyvault-events}
[ "$poison" != "$queue" ] || fail "--poison-queue is the queue itself" "name another"
[ -z "$webhook" ] || [ -n "$secret_file" ] || [ -n "$tenant" ] ||
    fail "a webhook without secret and token takes no delivery" "--secret-file, or --tenant and --audience"
[ -z "$tenant$audience" ] || { [ -n "$tenant" ] && [ -n "$audience" ]; } ||
    fail "--tenant and --audience belong together" "give both"
[ -z "$resource_events" ] || [ -n "$webhook" ] || fail "--resource-events needs --webhook" "queues: docs/operations.md"
[ -z "$secret_file" ] || [ -r "$secret_file" ] || fail "cannot read $secret_file" "run it as who may"
case $webhook in
    '') [ -z "$secret_file$header$tenant" ] ||
        fail "--secret-file, --header, --tenant and --audience need --webhook" "without it nothing would carry them" ;;
    https://?*) ;;
    *) fail "--webhook has to begin with https://" "Event Grid calls no other" ;;
esac
[ -z "$header" ] || [ -n "$secret_file" ] || fail "--header needs --secret-file" "it carries that secret"
case $header in
    [Aa]uthorization | *[!a-z0-9-]*) fail "--header $header carries no secret" "a name in lower case, such as x-byokd-secret" ;;
esac
if [ -n "$secret_file" ]; then
    secret=$(cat "$secret_file")
    secret=${secret%"$(printf '\r')"}
    # As byokd takes it: 16 or more of "!" to "~".
    [ ${#secret} -ge 16 ] || fail "the secret in $secret_file is too short" "16 characters or more, as byokd wants them"
    [ "$(printf %s "$secret" | LC_ALL=C tr -d '!-~' | wc -c)" -eq 0 ] ||
        fail "the secret in $secret_file has other than visible characters" "one line of letters, digits and signs"
fi

# Built-in roles: their ids stay when a name changes. https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
encryption_user=e147488a-f6f5-4113-8e2d-b22465e65bf6  # Key Vault Crypto Service Encryption User
message_sender=c6a89b2d-59bc-44d0-9896-0f6e12d7b80a   # Storage Queue Data Message Sender
message_processor=8a0f0c08-91a1-4084-bc3d-661d67233fed # Storage Queue Data Message Processor

assign() { # role, principal, scope
    az role assignment create --role "$1" --assignee-object-id "$2" --assignee-principal-type ServicePrincipal \
        --scope "$3" --output none
}

vault_id=$(az keyvault show --name "$vault" --query id --output tsv)
group=$(az keyvault show --name "$vault" --query resourceGroup --output tsv)
region=$(az keyvault show --name "$vault" --query location --output tsv)
assign "$encryption_user" "$principal" "$vault_id"
[ -n "$webhook$account" ] || exit 0

topic=$vault-byokd
az eventgrid system-topic create --name "$topic" --resource-group "$group" --location "$region" \
    --topic-type Microsoft.KeyVault.vaults --source "$vault_id" --identity systemassigned --output none

set -- --name byokd --system-topic-name "$topic" --resource-group "$group" \
    --event-delivery-schema cloudeventschemav1_0 --event-ttl 1440 --max-delivery-attempts 30 \
    --included-event-types Microsoft.KeyVault.KeyNewVersionCreated Microsoft.KeyVault.KeyNearExpiry \
    Microsoft.KeyVault.KeyExpired Microsoft.KeyVault.VaultAccessPolicyChanged --output none

if [ -n "$webhook" ]; then
    set -- "$@" --endpoint-type webhook --endpoint "$webhook"
    [ -z "$tenant" ] ||
        set -- "$@" --azure-active-directory-tenant-id "$tenant" --azure-active-directory-application-id-or-uri "$audience"
    # The secret is seen in the list of processes while az runs: on a machine of several people, deploy main.bicep.
    [ -z "$secret_file" ] ||
        set -- "$@" --delivery-attribute-mapping "${header:-x-byokd-secret}" static "$secret" true
    az eventgrid system-topic event-subscription create "$@"
    [ -n "$resource_events" ] || exit 0

    # Given twice, an option has its last value. Sources that have no region are told of by topics in none, `global`.
    az eventgrid system-topic create --name "$vault-byokd-resources" --resource-group "$group" --location global \
        --topic-type Microsoft.Resources.ResourceGroups --source "${vault_id%%/providers/*}" --output none
    az eventgrid system-topic event-subscription create "$@" --system-topic-name "$vault-byokd-resources" \
        --subject-begins-with "$vault_id" --included-event-types Microsoft.Resources.ResourceWriteSuccess \
        Microsoft.Resources.ResourceDeleteSuccess Microsoft.Resources.ResourceActionSuccess
else
    az storage account show --name "$account" --resource-group "$group" --output none 2>/dev/null ||
        az storage account create --name "$account" --resource-group "$group" --location "$region" --sku Standard_LRS \
            --kind StorageV2 --min-tls-version TLS1_2 --allow-blob-public-access false --allow-shared-key-access false \
            --output none
    account_id=$(az storage account show --name "$account" --resource-group "$group" --query id --output tsv)
    queues=$account_id/queueServices/default/queues
    for name in "$queue" ${poison:+"$poison"}; do
        # By ARM: the data plane would want a role of whoever runs this.
        az rest --method put --output none --body '{}' --url "$queues/$name?api-version=2023-05-01"
    done
    sender=$(az eventgrid system-topic show --name "$topic" --resource-group "$group" --query identity.principalId --output tsv)
    assign "$message_sender" "$sender" "$account_id"
    assign "$message_processor" "$principal" "$queues/$queue"
    [ -z "$poison" ] || assign "$message_sender" "$principal" "$queues/$poison"
    az eventgrid system-topic event-subscription create "$@" --delivery-identity systemassigned \
        --delivery-identity-endpoint-type storagequeue \
        --delivery-identity-endpoint "$queues/$queue" --storage-queue-msg-ttl 86400
fi
