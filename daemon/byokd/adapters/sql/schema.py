"""The version of the schema: which it is, whether it is this program's, and how it becomes so."""

from dataclasses import dataclass
from importlib.resources import files

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select, update

from byokd.adapters.sql.errors import wrong_schema
from byokd.adapters.sql.runners import transact
from byokd.adapters.sql.tables import brake, metadata, store_identity

HEAD = "0001"
"""The newest migration. Revisions are numbers of four digits, so that they compare."""

_revision = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The schema that a database has and the one that this version of byokd needs.

    Attributes:
        current: the database's revision; None when it is empty.
        head: the revision that this version needs.
    """

    current: str | None
    head: str

    @property
    def behind(self) -> bool:
        """Whether `upgrade` has something to do."""
        return self.current is None or self.current < self.head

    @property
    def ahead(self) -> bool:
        """Whether a newer version of byokd upgraded the database; this one must not touch it."""
        return self.current is not None and self.current > self.head


def status(engine: Engine) -> SchemaStatus:
    """Tell which schema a database has.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    return SchemaStatus(transact(engine, current), HEAD)


def upgrade(engine: Engine) -> None:
    """Bring the schema up to date, all in one transaction: it is the old one or the new one, never between.

    Raises:
        StoreUnavailableError: the schema is of a newer version, or the database cannot be used.
    """
    transact(engine, _upgrade)


def _upgrade(connection: Connection) -> None:
    found = SchemaStatus(current(connection), HEAD)
    if found.ahead:
        raise wrong_schema(found.current, HEAD)
    if found.behind:
        from alembic import command  # noqa: PLC0415 - is loaded only by the few starts that have something to migrate
        from alembic.config import Config  # noqa: PLC0415 - as above

        config = Config()
        config.set_main_option("script_location", str(files("byokd.adapters.sql").joinpath("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def create(connection: Connection, *, identity: str) -> None:
    """Make the newest schema in an empty database at once: for databases that live no longer than the process."""
    metadata.create_all(connection)
    _revision.create(connection)
    connection.execute(insert(_revision).values(version_num=HEAD))
    connection.execute(insert(store_identity).values(one=1, id=identity))
    connection.execute(insert(brake).values(one=1, revision=0, finding=None, message="", settled=0))


def current(connection: Connection) -> str | None:
    """Give the revision of a database; None when it is empty."""
    if not inspect(connection).has_table(_revision.name):
        return None
    return connection.scalar(select(_revision.c.version_num))


def identity(connection: Connection) -> str:
    """See `Store.identity`."""
    return connection.execute(select(store_identity.c.id)).scalar_one()


def ping(connection: Connection) -> None:
    """See `Store.ping`. Writes one row as it is: that proves at once that writing works and that it is this schema.

    Raises:
        StoreUnavailableError: the schema is another one.
    """
    touched = connection.execute(update(_revision).where(_revision.c.version_num == HEAD).values(version_num=HEAD))
    if touched.rowcount != 1:
        raise wrong_schema(current(connection), HEAD)
