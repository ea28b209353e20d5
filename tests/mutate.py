"""`make mutate`: change the rules one by one, and see whether their tests notice.

mutmut makes the changes and runs the tests, in a copy under build/: it knows sources only at the top or in `src`, and
every process must find the changed modules before the installed ones. What survives is told here: changes of what is
done first, then those of words alone.
"""

import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build/mutate"
RULES = PLACE / "mutants/src/byokd/domain"
COPIED = ("tests", "docs", "config", "systemd", "pyproject.toml")
# The scan for secrets belongs to one session of pytest; mutmut has many in a process.
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/byokd/domain/*.py"]
pytest_add_cli_args_test_selection = ["tests/domain"]
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:parts.leaks"]
also_copy = ["docs", "config", "systemd"]
"""
SURVIVED, UNTESTED = 0, 33
"""Exit codes by which mutmut remembers what became of a change; all others mean that a test failed."""


def main(modules: list[str]) -> int:
    """Change these modules of the domain, or all; give 0 when everything could be tried."""
    prepare()
    names = [f"byokd.domain.{module}.*" for module in modules]
    paths = [str(PLACE / "mutants/src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"CI": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (PLACE / "mutmut.log").open("wb") as log:
        command = [sys.executable, "-m", "mutmut", "run", *names]
        code = subprocess.run(command, cwd=PLACE, env=environment, stdout=log, stderr=log, check=False).returncode
    if code:
        say("error: mutmut did not come to its end", f"hint: {PLACE}/mutmut.log says why")
        return code
    tell(modules or sorted(path.stem for path in RULES.glob("*.py")))
    return 0


def prepare() -> None:
    """Copy what is needed; the directory of the changed modules is there before any process looks for it."""
    shutil.rmtree(PLACE, ignore_errors=True)
    (PLACE / "mutants/src").mkdir(parents=True)
    shutil.copytree(ROOT / "daemon", PLACE / "src")
    for name in COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, PLACE / name)
    with (PLACE / "pyproject.toml").open("a") as file:
        file.write(SETTINGS)


def tell(modules: list[str]) -> None:
    """Print what survived, and the score."""
    total: Counter[str] = Counter()
    words: list[str] = []
    for module in modules:
        counts: Counter[str] = Counter()
        for name, code in sorted(results(module)):
            before, after = versions(module, name)
            kind = "of words" if without_words(before) == without_words(after) else "of what is done"
            fate = {SURVIVED: "survived", UNTESTED: "untested"}.get(code, "noticed")
            counts[f"{kind}, {fate}"] += 1
            if fate != "noticed" and kind == "of words":
                words.append(f"{module}: {changed(before, after)[0][1:].strip()}")
            elif fate != "noticed":
                say(f"\n{fate}: {name}", *changed(before, after))
        total += counts
        say(f"\n{module}: {summary(counts)}")
    say("\nwords alone, not noticed:", *sorted(set(words)))
    say(f"\nmutation score: {summary(total)}")


def say(*lines: str) -> None:
    print(*lines, sep="\n    ", flush=True)  # noqa: T201 - a program that prints


def results(module: str) -> Iterator[tuple[str, int]]:
    path = RULES / f"{module}.py.meta"
    found = json.loads(path.read_text())["exit_code_by_key"] if path.exists() else {}
    return ((name, code) for name, code in found.items() if code is not None)


@cache
def functions(module: str) -> dict[str, ast.FunctionDef]:
    """Give the functions of a module, as they are written and as they were changed, by the names that mutmut gives."""
    tree = ast.parse((RULES / f"{module}.py").read_text())
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def versions(module: str, name: str) -> tuple[ast.AST, ast.AST]:
    """Give a function as it is written and as it was changed."""
    found, changed_name = functions(module), name.rpartition(".")[2]
    return found[f"{changed_name.rpartition('__mutmut_')[0]}__mutmut_orig"], found[changed_name]


def without_words(function: ast.AST) -> str:
    """Give what a function does, whatever its texts say."""

    class Silence(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.Constant("") if isinstance(node.value, str) else node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.name = ""
            return self.generic_visit(node)

    return ast.dump(Silence().visit(ast.parse(ast.unparse(function))))


def changed(before: ast.AST, after: ast.AST) -> list[str]:
    """Give the lines that differ, but for those with the name."""
    lines = [ast.unparse(function).splitlines() for function in (before, after)]
    return [line for line in difflib.ndiff(*lines) if line[0] in "-+" and "__mutmut_" not in line]


def summary(counts: Counter[str]) -> str:
    told = []
    for kind in ("of what is done", "of words"):
        noticed = counts[f"{kind}, noticed"]
        tried = noticed + counts[f"{kind}, survived"] + counts[f"{kind}, untested"]
        told.append(f"{noticed} of {tried} changes {kind} noticed ({noticed / max(tried, 1):.1%})")
    return "; ".join(told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
