"""Watches customers' keys in Azure Key Vault and publishes every change of state to MQTT."""
