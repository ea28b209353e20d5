"""Azure Resource Manager: what it tells of customers' vaults."""
