"""Which pages there are to look at: of the backends that are named, set, or known from the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from mlobs.backend import Backend, Viewer
from mlobs.config import Settings
from mlobs.delivery.registry import build, resolve, spec_of
from mlobs.delivery.start import named_backends
from mlobs.errors import DeliveryError, UsageError
from mlobs.events import BackendSpec
from mlobs.journal.store import Store

RUNS = 200  # the newest that are asked where they went


def backends_to_view(store: Store, settings: Settings, only: Sequence[str]) -> list[Backend]:
    """Return the backends of the settings, else those that the store's newest runs named.

    `only` names the ones that are meant. A name that stood for several places comes once for each.

    Raises:
        UsageError: a name that is not known, or there is no backend at all.
    """
    options = settings.backend_options
    if not only and settings.backends:
        return list(resolve(settings.backends, options))
    known = _of_runs(store, options)
    found = [one for one in known if not only or one.name in only]
    unknown = [name for name in only if name in settings.backends or name not in {one.name for one in known}]
    found = [one for one in found if one.name not in unknown] + list(resolve(unknown, options))
    if not found:
        raise UsageError(
            f"neither the settings nor the runs in {store.path} name a backend"
            " - type: mlobs ui --backend NAME"
        )
    return found


def viewers(backends: Iterable[Backend]) -> tuple[dict[str, Viewer], dict[str, str]]:
    """Return the pages of each backend by its name, and why others have none."""
    found: dict[str, Viewer] = {}
    without: dict[str, str] = {}
    for backend in backends:
        try:
            viewer = _viewer(backend)
        except (UsageError, DeliveryError) as error:
            without[backend.name] = str(error)
            continue
        if viewer not in found.values():
            found[_label(backend.name, found)] = viewer
    return found, {name: why for name, why in without.items() if name not in found}


def _viewer(backend: Backend) -> Viewer:
    offer = getattr(backend, "viewer", None)
    if offer is None:
        raise UsageError("it has no pages to start here - `mlobs show RUN` names a run's, if there is one")
    viewer: Viewer = offer()
    return viewer


def _label(name: str, taken: Mapping[str, Viewer]) -> str:
    """The name, or with a number where a name stands for several places."""
    label, number = name, 1
    while label in taken:
        number += 1
        label = f"{name} ({number})"
    return label


def _of_runs(store: Store, options: Mapping[str, Mapping[str, object]]) -> list[Backend]:
    specs: list[BackendSpec] = []
    for folder in islice(reversed(list(store.runs())), RUNS):
        specs += [spec for spec in named_backends(folder).values() if spec not in specs]
    found: list[Backend] = []
    for spec in specs:
        try:
            backend = build(spec, options)
        except UsageError:
            continue  # a type that is not installed here; `mlobs doctor` says so
        if spec_of(backend) not in [spec_of(one) for one in found]:
            found.append(backend)
    return found
