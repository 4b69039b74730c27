"""The house rules, and that the project's own words about itself hold: imports, sizes, pins, links, commands."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from swarm.config import NodeConfig, RunConfig
from swarm.events import EVENTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ops", "p2p", "swarm")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

FORBIDDEN = {
    "ops": {"p2p", "swarm", "torch", "asyncio", "socket"},
    "p2p": {"swarm", "torch", "pickle"},
    "swarm": {"pickle"},
    "p2p/protocol": {"asyncio", "socket", "threading", "time", "os", "ssl", "uvloop", "hivemind", "libp2p"},
}
"""Folder -> packages and modules that nothing under it may import."""


def read(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, as `package` and as `package.module`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module is not None
            names.add(node.module)
    return names | {name.split(".")[0] for name in names}


# --- the code ---


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_module_imports_what_its_folder_must_not_know(folder: str) -> None:
    found = {
        str(path): sorted(bad)
        for path in MODULES
        if path.is_relative_to(folder) and (bad := imported(path) & FORBIDDEN[folder])
    }
    assert found == {}


@pytest.mark.parametrize("door", ["p2p/discovery/hivemind_import.py", "p2p/libp2p_import.py"])
def test_one_module_imports_hivemind_and_one_libp2p(door: str) -> None:
    """Importing them takes precautions that only those modules know."""
    package = Path(door).stem.removesuffix("_import")
    assert {str(path) for path in MODULES if package in imported(path)} == {door}


def test_no_module_is_too_long() -> None:
    assert {str(path): count for path in MODULES if (count := len(read(path).splitlines())) > MAX_MODULE_LINES} == {}


def functions() -> Iterator[tuple[str, int]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_no_function_is_too_long() -> None:
    assert {name: lines for name, lines in functions() if lines > MAX_FUNCTION_LINES} == {}


def test_the_protocol_is_covered_by_tests_of_its_own() -> None:
    for folder in ("ops", "p2p/protocol"):
        assert list((ROOT / "tests" / folder).glob("test_*.py")), f"no tests of {folder}"


# --- what is installed ---


def project() -> dict[str, object]:
    return tomllib.loads(read("pyproject.toml"))["project"]  # type: ignore[no-any-return]


def pins() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def dependencies(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """What an installed distribution asks for here, with these of its extras."""
    for text in requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def test_every_package_that_is_needed_is_pinned_and_the_pins_satisfy_what_asks_for_it() -> None:
    pinned, seen = pins(), set[tuple[str, frozenset[str]]]()
    todo = list(dependencies("swarm-node", frozenset({"dev"})))
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement} against {pinned[name]}"
        try:
            todo += dependencies(name, extras)
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed: make setup")
    assert len(seen) > 50


def test_the_changelog_has_the_version() -> None:
    assert f"## {project()['version']}" in read("CHANGELOG.md")


# --- what the pages say ---


def anchors(path: Path) -> set[str]:
    """GitHub's names for the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert (ROOT / linked).exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_files_exist(page: Path) -> None:
    named = re.findall(r"`((?:ops|p2p|swarm|tests|docs|docker|benchmarks|tools|configs)/[\w./-]*)`", read(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_that_is_called_by_its_path_finds_its_modules(script: str) -> None:
    text = read(f"benchmarks/{script}")
    if f"    python benchmarks/{script}" in text and re.search("^from (benchmarks|tests)", text, re.MULTILINE):
        assert "sys.path.insert" in text


def test_named_commands_exist() -> None:
    commands = set(re.findall(r"^@app\.command\(\)\ndef (\w+)", read("swarm/cli.py"), re.MULTILINE))
    commands |= set(re.findall(r'^app\.add_typer\(.*name="(\w+)"', read("swarm/cli.py"), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:^|`)swarm ([a-z]+)", read(page), re.MULTILINE)) <= commands, page


def test_the_two_commands_come_first_in_the_readme() -> None:
    block = re.search(r"```\w*\n(.*?)```", read("README.md"), re.DOTALL)
    assert block is not None
    assert re.findall(r"^make \w+", block.group(1), re.MULTILINE) == ["make simulate", "make test"]


def shown(default: object) -> str:
    """How the tables of settings write a default."""
    if default in (None, "", ()):
        return "-"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str | Path):
        return f"`{str(default).replace(str(Path.home()), '~')}`"
    return f"{default:g}"


@pytest.mark.parametrize("table", [RunConfig, NodeConfig])
def test_every_setting_is_explained_with_its_default(table: type[RunConfig | NodeConfig]) -> None:
    page = read("docs/operating.md")
    defaults = {name: field.get_default(call_default_factory=True) for name, field in table.model_fields.items()}
    rows = [f"| `{name}` | {shown(default)} |" for name, default in defaults.items()]
    assert [row for row in rows if row not in page] == []


def test_every_event_is_explained() -> None:
    page = read("docs/operating.md")
    assert [name for name in EVENTS if f"| `{name}` |" not in page] == []


# --- the images ---


@pytest.mark.parametrize("image", ["docker/Dockerfile", "docker/Dockerfile.cuda"])
def test_images_run_as_nobody_special_and_open_the_ports_of_the_configuration(image: str) -> None:
    text = read(image)
    ports = [str(NodeConfig.model_fields[name].default) for name in ("port", "dht_port")]
    assert f"EXPOSE {' '.join(ports)}" in text
    assert re.search(r"^USER swarm$", text, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["swarm"\]$', text, re.MULTILINE)
    assert "HEALTHCHECK" in text
