"""Write the store's schema, as the migrations make it, for both databases.

python docs/schema.py            write docs/reference/schema.sql
python docs/schema.py --check    exit 1 if the committed file differs
"""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from otel_agents.store.schema import HEAD, scripts

WHERE: Final = Path(__file__).parent / "reference" / "schema.sql"
_NOTE: Final = f"""\
-- Made by docs/schema.py from the migrations, up to {HEAD}. Do not edit.
-- Times in columns that end in _ns are nanoseconds since the epoch.
"""
_DIALECTS: Final = {"SQLite": sqlite.dialect, "PostgreSQL": postgresql.dialect}


def statements(title: str) -> str:
    """Return what all migrations run on one of the databases, without a connection to any."""
    written = StringIO()
    context = MigrationContext.configure(
        dialect=_DIALECTS[title](), opts={"as_sql": True, "output_buffer": written}
    )
    steps = reversed(list(ScriptDirectory.from_config(scripts()).walk_revisions()))
    with Operations.context(context):
        for step in steps:
            step.module.upgrade()
    lines = (line.rstrip() for line in written.getvalue().replace("\t", "    ").splitlines())
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip() + "\n"


def schema() -> str:
    """Return the file: the statements for SQLite, then those for PostgreSQL."""
    parts = (f"-- {title}\n\n{statements(title)}" for title in _DIALECTS)
    return _NOTE + "\n" + "\n\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the file, or say whether it differs."""
    made = schema()
    if "--check" in arguments:
        if WHERE.read_text("utf-8") == made:
            return 0
        sys.stderr.write("docs/reference/schema.sql is not what the migrations make: "
                         "run python docs/schema.py\n")  # fmt: skip
        return 1
    WHERE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
