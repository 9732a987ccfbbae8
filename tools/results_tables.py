"""Writes the tables of docs/results/paper-tables.md from the files that `tools.ablation` has written.

    python -m tools.results_tables

A table stands between a line `<!-- table: results/table2.json -->` and a line `<!-- end of table -->`, and is replaced.
"""

import json
import re
import sys
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import guarded
from oaa_tf.runs.atomic import atomic_write
from tools.ablation import table_text

PAGE = Path("docs/results/paper-tables.md")

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(page: Path) -> str:
    """The page's text with its tables as the files next to it say.

    Args:
        page: A Markdown file.

    Raises:
        UserError: The page or one of the files is missing or damaged.
    """

    def replaced(found: re.Match) -> str:
        file = page.parent / found[2]
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return f"{found[1]}\n{table_text(content)}\n\n{found[3]}"
        except OSError:
            raise UserError(f"{page}: names {found[2]}, which is missing; run tools.ablation") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: is no table of tools.ablation; run it again") from None

    try:
        return _TABLE.sub(replaced, page.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{page}: cannot be read; run this in the project's folder") from None


def run() -> None:
    """Rewrites the page."""
    text = with_tables(PAGE)
    with atomic_write(PAGE) as file:
        file.write(text.encode())
    print(f"{PAGE}: {len(_TABLE.findall(text))} tables")


if __name__ == "__main__":
    sys.exit(guarded(run))
