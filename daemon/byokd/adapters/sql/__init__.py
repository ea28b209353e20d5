"""The Store port on SQLAlchemy Core: each transaction is one synchronous function of a `Connection`."""

from byokd.adapters.sql.opening import open_inline, open_postgres, open_sqlite, store_for, upgrade_database
from byokd.adapters.sql.schema import SchemaStatus
from byokd.adapters.sql.store import SqlStore

__all__ = [
    "SchemaStatus",
    "SqlStore",
    "open_inline",
    "open_postgres",
    "open_sqlite",
    "store_for",
    "upgrade_database",
]
