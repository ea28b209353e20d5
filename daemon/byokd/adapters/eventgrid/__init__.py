"""What Event Grid delivers to: Storage Queues."""
