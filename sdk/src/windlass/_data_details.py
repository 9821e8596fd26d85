"""A run's data in v1's shape, for ``get_details()``."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List

from windlass.settings import REFERENCE_VARIABLE
from windlass.specs.data import INPUT, OUTPUT, REFERENCE, DataSpec


def input_datasets(data: "Iterable[DataSpec]") -> "List[Dict[str, Any]]":
    """``inputDatasets``: each dataset read, and how."""
    return [
        {
            "dataset": {"id": spec.dataset["id"], "name": spec.dataset.get("name"),
                        "version": spec.dataset.get("version")},
            "consumptionDetails": {"type": "RunInput", "inputName": spec.name, "mechanism": spec.mode.capitalize(),
                                   "pathOnCompute": spec.path_on_compute},
        }
        for spec in data if spec.kind == INPUT
    ]  # fmt: skip


def output_datasets(data: "Iterable[DataSpec]") -> "List[Dict[str, Any]]":
    """``outputDatasets``: each output, where it goes and what it is registered as."""
    return [
        {
            "identifier": {"registeredName": spec.register.get("name")},
            "outputType": "RunOutput", "outputDetails": {"outputName": spec.name, "mechanism": spec.mode.capitalize()},
            "destination": {"datastore": spec.places[0].datastore, "path": spec.places[0].path},
        }
        for spec in data if spec.kind == OUTPUT
    ]  # fmt: skip


def definition(data: "Iterable[DataSpec]") -> "Dict[str, Dict[str, Any]]":
    """``dataReferences``, ``data`` and ``outputData`` of a run definition, by name."""
    found: "Dict[str, Dict[str, Any]]" = {"dataReferences": {}, "data": {}, "outputData": {}}
    for spec in data:
        place = spec.places[0]
        if spec.kind == REFERENCE:
            found["dataReferences"][spec.name] = {
                "dataStoreName": place.datastore, "mode": spec.mode, "pathOnDataStore": place.path or None,
                "pathOnCompute": spec.path_on_compute, "overwrite": spec.overwrite,
            }  # fmt: skip
        elif spec.kind == INPUT:
            found["data"][spec.name] = {
                "dataLocation": {"dataset": {
                    "id": spec.dataset["id"], "name": spec.dataset.get("name"), "version": spec.dataset.get("version"),
                }},
                "mechanism": spec.mode, "environmentVariableName": spec.name, "pathOnCompute": spec.path_on_compute,
            }  # fmt: skip
        else:
            found["outputData"][spec.name] = {
                "outputLocation": {"dataPath": {"datastoreName": place.datastore, "relativePath": place.path}},
                "mechanism": spec.mode, "environmentVariableName": REFERENCE_VARIABLE + spec.name,
                "additionalOptions": {"registrationOptions": dict(spec.register) or None},
            }  # fmt: skip
    return found
