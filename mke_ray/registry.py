"""A promoted student in MLflow's registry: a version with its signature, and an alias on it.

``mke_ray.tracking`` alone calls this module.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

MODEL_FOLDER = "model"
DIGEST_TAG = "digest"


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A student as it is registered.

    Args:
        name: Name of the registered model.
        alias: Alias that its version gets, for example ``champion``.
        files: Content of its files by name.
        loader: Module that MLflow loads them by.
        inputs: Per input its type and its shape after the samples.
        output: Name and shape of the output after the samples.
        example: An input of one sample; empty keeps none.
        requirements: What has to be installed.
        tags: What it was made from, as short texts; ``digest`` changes with
            everything that makes it another version.
        description: Its model card.
    """

    name: str
    alias: str
    files: Mapping[str, bytes]
    loader: str
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    output: tuple[str, tuple[int, ...]]
    example: "Mapping[str, np.ndarray]"
    requirements: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class LoggedData:
    """A data set that a run used.

    Args:
        name: Its name.
        digest: What changes whenever a row of it changes; at most 36 letters.
        uri: Where it lies, without secrets.
        context: What it was used for, for example ``train``.
        num_rows: Its rows.
    """

    name: str
    digest: str
    uri: str
    context: str
    num_rows: int


def register_model(client: "MlflowClient", run_id: str, model: ModelPackage) -> str:
    """Store a student with a run, make it a version of its model and put the alias on that.

    A student that has a version there already keeps it, and gets the alias.

    Returns:
        The version.
    """
    version = _known_version(client, model)
    if version is None:
        version = _new_version(client, run_id, model)
    client.set_registered_model_alias(model.name, model.alias, version)
    return version


def dataset_inputs(datasets: Sequence[LoggedData]) -> list[Any]:
    """Return data sets as MLflow's ``log_inputs`` takes them."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    return [
        DatasetInput(
            Dataset(
                name=one.name,
                digest=one.digest,
                source_type="s3" if one.uri.startswith("s3:") else "local",
                source=json.dumps({"uri": one.uri}),
                profile=json.dumps({"num_rows": one.num_rows}),
            ),
            [InputTag("mlflow.data.context", one.context)],
        )
        for one in datasets
    ]


def _known_version(client: "MlflowClient", model: ModelPackage) -> str | None:
    """Return the version of exactly this student, calibrated and judged as it is now."""
    wanted = model.tags.get(DIGEST_TAG)
    found = client.search_model_versions(f"name = '{model.name}'")
    return next((one.version for one in found if one.tags.get(DIGEST_TAG) == wanted), None)


def _new_version(client: "MlflowClient", run_id: str, model: ModelPackage) -> str:
    """Store the files with the run and register them."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="mke_ray_model_") as folder:
        _save(model, folder)
        client.log_artifacts(run_id, os.path.join(folder, MODEL_FOLDER), MODEL_FOLDER)
    try:
        client.create_registered_model(model.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
    made = client.create_model_version(
        model.name, source, run_id, tags=dict(model.tags), description=model.description
    )
    return str(made.version)


def _save(model: ModelPackage, folder: str) -> None:
    """Write a student as a model of MLflow."""
    import numpy as np  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.pyfunc import save_model  # noqa: PLC0415
    from mlflow.types.schema import Schema, TensorSpec  # noqa: PLC0415

    files = os.path.join(folder, "student")
    os.mkdir(files)
    for name, content in model.files.items():
        with open(os.path.join(files, name), "wb") as file:
            file.write(content)
    inputs: list[Any] = [
        TensorSpec(np.dtype(dtype), (-1, *shape), name)
        for name, (dtype, shape) in model.inputs.items()
    ]
    name, shape = model.output
    example: dict[str, Any] = {"input_example": dict(model.example)} if model.example else {}
    save_model(
        path=os.path.join(folder, MODEL_FOLDER),
        loader_module=model.loader,
        data_path=files,
        signature=ModelSignature(
            Schema(inputs), Schema([TensorSpec(np.dtype("float32"), (-1, *shape), name)])
        ),
        **example,
        pip_requirements=list(model.requirements),
    )
