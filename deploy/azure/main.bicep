// What byokd needs in a customer's subscription, to be deployed into the resource group of the vault:
//
//   az deployment group create --resource-group keys --template-file main.bicep --parameters vaultName=contoso-keys ...
//
// * byokd's identity may get keys and wrap and unwrap with them: the one thing that is always needed;
// * Event Grid tells byokd of the vault, so that changes are noticed at once: by a webhook, or by a queue that byokd
//   empties where it cannot be reached from outside. Without either, byokd polls, and misses nothing.
//
// docs/customers.md and docs/operations.md say what each is for. deploy/azure/subscribe.sh does the same by `az`.
targetScope = 'resourceGroup'

@description('The vault with the customer key, in this resource group. It uses Azure RBAC, not access policies.')
param vaultName string

@description('Object id, in this tenant, of the identity that byokd comes with. Empty: an identity is made here.')
param byokdPrincipalId string = ''

@description('Name of the user-assigned identity that is made where byokdPrincipalId is empty. Give it to byokd\'s machine.')
param byokdIdentityName string = 'byokd'

@description('How Event Grid tells byokd: by its webhook, by a queue, or not at all (byokd polls).')
@allowed(['webhook', 'queue', 'none'])
param delivery string = 'webhook'

@description('webhook: the address of byokd, such as https://byokd.example.com/events/keyvault')
param webhookUrl string = ''

@description('webhook: the secret of event_grid.sources.NAME.secret_file. Empty where a token alone is wanted.')
@secure()
param webhookSecret string = ''

@description('webhook: the header that carries the secret, as event_grid.sources.NAME.secret_header says.')
param webhookSecretHeader string = 'x-byokd-secret'

@description('webhook: the tenant whose token deliveries carry (event_grid.sources.NAME.tenant). Empty: no token.')
param webhookTenantId string = ''

@description('webhook: the application that the token is for, or its URI (event_grid.sources.NAME.audience).')
param webhookAudience string = ''

@description('queue: the storage account for it; it is made. 3 to 24 small letters and digits, of no other in the world.')
@minLength(3)
@maxLength(24)
param queueAccountName string = 'byokd${uniqueString(resourceGroup().id)}'

@description('queue: its name.')
param queueName string = 'byokd-keyvault-events'

@description('queue: another, for what nobody can read (event_grid.sources.NAME.poison_queue). Empty: none, byokd drops it.')
param poisonQueueName string = ''

@description('webhook: tell byokd too of what Azure Resource Manager did to the vault (roles, settings, deletion). Takes a system topic of the resource group, of which there can be one alone.')
param resourceEvents bool = false

@description('The region of the vault: a system topic has to be where its source is.')
param location string = resourceGroup().location

// Built-in roles; https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var roles = {
  keyVaultCryptoServiceEncryptionUser: 'e147488a-f6f5-4113-8e2d-b22465e65bf6' // get, wrapKey, unwrapKey
  storageQueueDataMessageSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  storageQueueDataMessageProcessor: '8a0f0c08-91a1-4084-bc3d-661d67233fed' // peek, receive, delete
}

// There is no event for a key that was deleted, disabled or recovered: byokd's polls see those.
var eventTypes = [
  'Microsoft.KeyVault.KeyNewVersionCreated'
  'Microsoft.KeyVault.KeyNearExpiry'
  'Microsoft.KeyVault.KeyExpired'
  'Microsoft.KeyVault.VaultAccessPolicyChanged'
]
// What Azure Resource Manager did to the vault: roles, settings, deletion.
var resourceEventTypes = [
  'Microsoft.Resources.ResourceWriteSuccess'
  'Microsoft.Resources.ResourceDeleteSuccess'
  'Microsoft.Resources.ResourceActionSuccess'
]
// Event Grid tries for a day; byokd's polls have long seen by then what the event tells of.
var retries = { eventTimeToLiveInMinutes: 1440, maxDeliveryAttempts: 30 }

// What byokd would not take is no deployment. (fail() wants Bicep 0.33 or later.)
var endpoint = !startsWith(webhookUrl, 'https://')
  ? fail('webhookUrl has to begin with https://')
  : empty(webhookSecret) && empty(webhookTenantId)
      ? fail('a webhook without secret and token takes no delivery: webhookSecret, or webhookTenantId and webhookAudience')
      : empty(webhookTenantId) != empty(webhookAudience)
          ? fail('webhookTenantId and webhookAudience belong together')
          : !empty(webhookSecret) && length(webhookSecret) < 16
              ? fail('webhookSecret is too short: byokd takes 16 characters or more')
              : webhookUrl

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource madeIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (empty(byokdPrincipalId)) {
  name: byokdIdentityName
  location: location
}

var byokd = empty(byokdPrincipalId) ? madeIdentity!.properties.principalId : byokdPrincipalId

resource wrapsKeys 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, byokdPrincipalId, byokdIdentityName, roles.keyVaultCryptoServiceEncryptionUser)
  scope: vault
  properties: {
    principalId: byokd
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.keyVaultCryptoServiceEncryptionUser
    )
  }
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (delivery != 'none') {
  name: '${vaultName}-byokd'
  location: location
  identity: { type: 'SystemAssigned' } // it puts messages into the queue; a webhook does not need it
  properties: {
    source: vault.id
    topicType: 'Microsoft.KeyVault.vaults'
  }
}

var webhook = {
  endpointType: 'WebHook'
  properties: {
    endpointUrl: endpoint
    minimumTlsVersionAllowed: '1.2'
    azureActiveDirectoryTenantId: empty(webhookTenantId) ? null : webhookTenantId
    azureActiveDirectoryApplicationIdOrUri: empty(webhookAudience) ? null : webhookAudience
    deliveryAttributeMappings: empty(webhookSecret)
      ? []
      : [
          {
            name: webhookSecretHeader
            type: 'Static'
            properties: { value: webhookSecret, isSecret: true }
          }
        ]
  }
}

resource toWebhook 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (delivery == 'webhook') {
  parent: topic
  name: 'byokd'
  properties: {
    destination: webhook
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: eventTypes }
    retryPolicy: retries
  }
}

// A resource group has no region, nor has the topic that tells of it.
resource resourceTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (delivery == 'webhook' && resourceEvents) {
  name: '${vaultName}-byokd-resources'
  location: 'global'
  properties: {
    source: resourceGroup().id
    topicType: 'Microsoft.Resources.ResourceGroups'
  }
}

resource resourcesToWebhook 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (delivery == 'webhook' && resourceEvents) {
  parent: resourceTopic
  name: 'byokd'
  properties: {
    destination: webhook
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: resourceEventTypes, subjectBeginsWith: vault.id }
    retryPolicy: retries
  }
}

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = if (delivery == 'queue') {
  name: queueAccountName
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' } // hints that are lost cost a poll, no more
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false // identities alone, by the roles below
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }

  resource queues 'queueServices' = {
    name: 'default'

    resource queue 'queues' = {
      name: queueName
    }

    // A name has to be one even where the condition says no.
    resource poison 'queues' = if (!empty(poisonQueueName)) {
      name: empty(poisonQueueName) ? 'none' : poisonQueueName
    }
  }
}

// On the account, as Event Grid's documentation asks for it.
resource sends 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (delivery == 'queue') {
  name: guid(account.id, topic.id, roles.storageQueueDataMessageSender)
  scope: account
  properties: {
    principalId: topic!.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.storageQueueDataMessageSender
    )
  }
}

resource receives 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (delivery == 'queue') {
  name: guid(account::queues::queue.id, byokdPrincipalId, byokdIdentityName, roles.storageQueueDataMessageProcessor)
  scope: account::queues::queue
  properties: {
    principalId: byokd
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.storageQueueDataMessageProcessor
    )
  }
}

resource setsAside 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (delivery == 'queue' && !empty(poisonQueueName)) {
  name: guid(account::queues::poison.id, byokdPrincipalId, byokdIdentityName, roles.storageQueueDataMessageSender)
  scope: account::queues::poison
  properties: {
    principalId: byokd
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roles.storageQueueDataMessageSender
    )
  }
}

resource toQueue 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (delivery == 'queue') {
  parent: topic
  name: 'byokd'
  properties: {
    deliveryWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      destination: {
        endpointType: 'StorageQueue'
        properties: {
          resourceId: account.id
          queueName: queueName
          queueMessageTimeToLiveInSeconds: 86400
        }
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: eventTypes }
    retryPolicy: retries
  }
  // A role takes a while to be known. Where the subscription is refused, deploy once more.
  dependsOn: [sends, account::queues::queue]
}

@description('Client id of the identity that was made: identities.NAME.client_id of byokd\'s settings.')
output byokdClientId string = empty(byokdPrincipalId) ? madeIdentity!.properties.clientId : ''

@description('Where byokd finds the queue.')
output queueUrl string = delivery == 'queue' ? '${account!.properties.primaryEndpoints.queue}${queueName}' : ''
