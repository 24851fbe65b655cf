"""Migrations are one chain: two with the same number would leave every installation without a way on."""

import ast
import pathlib

from kubetune.storage.migrations import versions


def test_each_follows_the_one_before() -> None:
    folder = pathlib.Path(versions.__file__).parent
    found = []
    for file in sorted(folder.glob("v*.py")):
        assigned = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id != "STATEMENTS"
        }
        assert file.name.startswith(f"v{assigned['revision']}_"), file.name
        found.append((assigned["revision"], assigned["down_revision"]))
    numbers = [f"{number:04}" for number in range(1, len(found) + 1)]
    assert found == list(zip(numbers, [None, *numbers], strict=False))
