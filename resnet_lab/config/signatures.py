"""Arguments of a constructor, read from its source because importing it takes seconds.

Where the source is not plain, nothing is concluded here, and `build` judges after the import.
"""

import ast
import functools
import importlib.util
import re
from pathlib import Path

Definition = ast.FunctionDef | ast.ClassDef


class Missing(Exception):
    """The module does not define the name."""


class NotPlain(Exception):
    """The source defines it in a way that is not followed here."""


@functools.cache
def settings_of(target: str) -> dict[str, str] | None:
    """The arguments of a function or class with their annotations as written; None where that is not plain.

    Raises:
        Missing: the module has no such name.
    """
    try:
        return arguments(*definition(*target.rpartition(".")[::2]))
    except NotPlain:
        return None


def definition(module: str, name: str) -> tuple[str, Definition]:
    """The module that defines the name, found by following imports, and the definition."""
    path = file_of(module)
    text, tree = parsed(path)
    for node in tree.body:
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(origin(module, path, node), alias.name)
    if re.search(rf"\b{re.escape(name)}\b", text):
        raise NotPlain
    raise Missing(name)


def arguments(module: str, found: Definition) -> dict[str, str]:
    """Arguments of the function or of the class's constructor, and of its bases' if it passes **settings on."""
    function = constructor(found) if isinstance(found, ast.ClassDef) else found
    names: dict[str, str] = {}
    if isinstance(found, ast.ClassDef) and (function is None or function.args.kwarg):
        for base in found.bases:
            if not isinstance(base, ast.Name):
                raise NotPlain
            names |= arguments(*definition(module, base.id))
    if function is not None:
        taken = [*function.args.args, *function.args.kwonlyargs]
        names |= {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in taken}
    return {name: annotation for name, annotation in names.items() if name != "self"}


def constructor(found: ast.ClassDef) -> ast.FunctionDef | None:
    functions = (node for node in found.body if isinstance(node, ast.FunctionDef))
    return next((function for function in functions if function.name == "__init__"), None)


def file_of(module: str) -> Path:
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)  # of a top-level package, found without executing anything
    if spec is None or not spec.submodule_search_locations:
        raise NotPlain
    place = Path(spec.submodule_search_locations[0], *rest)
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            return path
    raise NotPlain


@functools.cache
def parsed(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text(encoding="utf-8")
    return text, ast.parse(text)


def origin(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The module that is imported from; a relative import counts from the package of `module`."""
    if not node.level:
        return node.module or ""
    depth = node.level - (path.name == "__init__.py")
    package = module.split(".")[: -depth or None]
    return ".".join([*package, *([node.module] if node.module else [])])
