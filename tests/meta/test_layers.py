"""Arrows point down: a module imports only what stands below it."""

from graphlib import TopologicalSorter

import pytest
from source_tree import imports, is_standard, modules, own_imports

LAYERS = [
    "mlobs.__main__",
    "mlobs.cli",
    "mlobs",  # the public names alone: its modules have layers of their own
    "mlobs.integrations",
    "mlobs.testing",
    "mlobs.moving",
    "mlobs.api",
    "mlobs.tracker",
    "mlobs.decorator",
    "mlobs.run",
    "mlobs.recorder",
    "mlobs.provenance_recorder",
    "mlobs.payload_recorder",
    "mlobs.call_data",
    "mlobs.handle",
    "mlobs.opened",
    "mlobs.capturing",
    "mlobs.capturing_streams",
    "mlobs.capturing_screen",
    "mlobs.provenance",
    "mlobs.last_words",
    "mlobs.joining",
    "mlobs.waiting",
    "mlobs.opening",
    "mlobs.past",
    "mlobs.resuming",
    "mlobs.ranks",
    "mlobs.jobs",
    "mlobs.current",
    "mlobs.exits",
    "mlobs.program",
    "mlobs.sending_threads",  # above the sender, whose host it imports
    "mlobs.sending",
    "mlobs.spawning",
    "mlobs.finishing",
    "mlobs.sender",
    "mlobs.reporting",
    "mlobs.comparing",
    "mlobs.upkeep",
    "mlobs.viewing",
    "mlobs.repro",
    "mlobs.read",
    "mlobs.payloads",
    "mlobs.ledger",
    "mlobs.progress",
    "mlobs.troubles",
    "mlobs.values",
    "mlobs.fields",
    "mlobs.config",
    "mlobs.config_file",
    "mlobs.settings",
    "mlobs.delivery",
    "mlobs.encoding",
    "mlobs.journal",
    "mlobs.backends",
]
VOCABULARY = {
    "mlobs.backend",
    "mlobs.events",
    "mlobs.errors",
    "mlobs.moments",
    "mlobs.names",
    "mlobs.secrets",
    "mlobs.text",
    "mlobs.version",
}
FOUNDATIONS = {
    "msgspec",
    "PIL",
    "rich",
}  # of ours, what a backend may use besides the standard library and its vendor
VENDORS = {  # what comes with a backend's vendor under another name
    "appinsights": {"azure", "opencensus"},
    "azureml": {"azure", "requests"},
}
MODULES = modules()
IMPORTS = own_imports()


def layer_of(module: str) -> str | None:
    """The entry of the table that a module belongs to: itself, or the package around it."""
    while module not in VOCABULARY and module not in LAYERS:
        module, _, _ = module.rpartition(".")
        if module in ("mlobs", ""):
            return None
    return module


def rank(layer: str) -> int:
    return len(LAYERS) if layer in VOCABULARY else LAYERS.index(layer)


def test_every_module_has_a_layer() -> None:
    homeless = [module for module in MODULES if layer_of(module) is None]

    assert not homeless, f"give them a place in LAYERS: {homeless}"


def test_modules_import_only_what_stands_below_them() -> None:
    upwards = [
        f"{one.source}:{one.line} imports {one.target}"
        for one in IMPORTS
        if (above := layer_of(one.source)) != (below := layer_of(one.target))
        and above is not None
        and below is not None
        and rank(above) >= rank(below)
        and not {above, below} <= VOCABULARY
    ]

    assert not upwards, "\n".join(upwards)


def test_no_import_closes_a_circle_not_even_inside_a_function() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in IMPORTS:
        graph[one.source].add(one.target)

    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_the_vocabulary_stands_on_nothing_but_itself() -> None:
    outside = [one for one in IMPORTS if one.source in VOCABULARY and one.target not in VOCABULARY]

    assert not outside


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("mlobs.backends.")])
def test_a_backend_imports_the_vocabulary_its_own_files_and_its_vendor_alone(module: str) -> None:
    name = module.removeprefix("mlobs.backends.").partition("_")[0]
    own = {one for one in MODULES if one.removeprefix("mlobs.backends.").partition("_")[0] == name}

    foreign = [
        f"{module}:{one.line} imports {one.target}"
        for one in imports(module, MODULES[module], MODULES)
        if one.target not in VOCABULARY | own | {"mlobs.backends"}
        and not is_standard(one.target)
        and one.target.partition(".")[0] not in FOUNDATIONS | {name} | VENDORS.get(name, set())
    ]

    assert not foreign, "\n".join(foreign)
