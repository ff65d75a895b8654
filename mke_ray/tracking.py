"""Runs, curves and files in MLflow; a tracking server that fails never stops a run."""

import functools
import json
import logging
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol

from mke_ray.batching import batched
from mke_ray.registry import LoggedData, ModelPackage, dataset_inputs, register_model
from mke_ray.schema import fingerprint
from mke_ray.secret_looks import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

DATABASE_NAME = "mlflow.db"
RUN_IDS_NAME = "tracking.json"
MAX_PARAM_LENGTH = 6000
MAX_KEY_LENGTH = 250
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
PARENT_TAG = "mlflow.parentRunId"
JOB_TAG = "mke_ray.job"

# Sections that say what networks are and learn; of others another start of a run may be told.
_OF_NETWORKS = (
    *("seed", "decode", "views", "plain_views", "teacher", "more_teachers", "labels"),
    *("student", "fusion", "objective", "expansion", "supervised", "fit", "engine", "gate"),
)
_CHATTY_LOGGERS = ("alembic", "mlflow")
_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. :/]")

P = ParamSpec("P")


class RunFiles(Protocol):
    """Where the ids of the MLflow runs are kept; the root of a run is one."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a file, or raise ``FileNotFoundError``."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file at once."""
        ...


class _Connection:
    """One MLflow client and whether it still answers."""

    def __init__(self, uri: str, client: "MlflowClient | None") -> None:
        self.uri = uri
        self.client = client

    def give_up(self, error: BaseException) -> None:
        """Say once that MLflow failed, and use it no more in this process."""
        self.client = None
        log.warning(
            "MLflow at %s failed, so nothing more is recorded there (%s: %s); the run goes on. "
            "Check MLFLOW_TRACKING_URI, or switch it off with tracking=off",
            _without_password(self.uri),
            type(error).__name__,
            _without_password(str(error))[:200],
        )


def _never_fails(
    method: Callable[Concatenate["Tracker", P], None],
) -> Callable[Concatenate["Tracker", P], None]:
    """Turn an error of MLflow into one warning, after which the tracker is silent."""

    @functools.wraps(method)
    def guarded(self: "Tracker", *args: P.args, **kwargs: P.kwargs) -> None:
        if self._connection.client is None or self.run_id is None:
            return
        try:
            method(self, *args, **kwargs)
        except _tracking_errors() as error:
            self._connection.give_up(error)

    return guarded


class Tracker:
    """One MLflow run, its child runs and its files.

    It uses its own client and never MLflow's active run, so that workers, threads and a user's own
    tracking are left alone. Make one with ``start_tracking``.

    Args:
        connection: Client shared with the child runs.
        run_id: Id of the run, None when MLflow could not be reached.
        experiment_id: Experiment that child runs are created in.
        ids: Where the ids of the runs are kept.
    """

    def __init__(
        self,
        connection: _Connection,
        *,
        run_id: str | None,
        experiment_id: str | None,
        ids: "_RunIds",
    ) -> None:
        self._connection = connection
        self.run_id = run_id
        self._experiment_id = experiment_id
        self._ids = ids

    def child(self, name: str, params: Mapping[str, Any] | None = None) -> "Tracker":
        """Return the run of an arm below this run; the same one when the job is started again.

        Args:
            name: Name of the run, for example the arm.
            params: Nested settings of it.
        """
        child = Tracker(
            self._connection, run_id=None, experiment_id=self._experiment_id, ids=self._ids
        )
        self._open_child(child, name)
        child.log_params(params or {})
        return child

    @_never_fails
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record nested settings under dotted names; what is recorded already stays as it is.

        Args:
            params: Plain nested data. Values are cut at 6,000 characters.
        """
        from mlflow.entities import Param  # noqa: PLC0415

        known = self._client().get_run(str(self.run_id)).data.params
        new = [Param(k, v) for k, v in flatten_params(params).items() if k not in known]
        for batch in batched(new, MAX_PARAMS_PER_BATCH):
            self._client().log_batch(str(self.run_id), params=batch)

    @_never_fails
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record short texts such as the verdict; the last value counts."""
        for key, value in tags.items():
            self._client().set_tag(str(self.run_id), _key(key), str(value))

    @_never_fails
    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Record numbers of one moment.

        Args:
            metrics: Nested mapping to numbers; what is not a finite number is left out.
            step: Step that they belong to.
        """
        self._log_history([{**metrics, "step": step}])

    @_never_fails
    def log_history(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Record a curve in batches; recording the same curve again adds nothing.

        Args:
            records: Mappings with an integer ``step``, numbers, and optionally ``time_s`` (seconds
                since 1970).
        """
        self._log_history(records)

    @_never_fails
    def log_artifacts(self, path: str) -> None:
        """Record everything in a local folder."""
        self._client().log_artifacts(str(self.run_id), path)

    @_never_fails
    def log_datasets(self, datasets: Sequence[LoggedData]) -> None:
        """Record the data sets of the run with their digests."""
        self._client().log_inputs(str(self.run_id), dataset_inputs(datasets))

    @_never_fails
    def register(self, model: ModelPackage) -> None:
        """Store a student with the run, as a version of a registered model under an alias."""
        version = register_model(self._client(), str(self.run_id), model)
        log.info("MLflow: %s is version %s, alias %s", model.name, version, model.alias)
        self.set_tags({"registered_model": f"{model.name}/{version}"})

    @_never_fails
    def finish(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self._client().set_terminated(str(self.run_id), status)

    def _client(self) -> "MlflowClient":
        client = self._connection.client
        assert client is not None  # _never_fails has looked
        return client

    @_never_fails
    def _open_child(self, child: "Tracker", name: str) -> None:
        known = self._ids.children.get(name) or _created_before(
            self._client(),
            self._experiment_id,
            f"tags.`{PARENT_TAG}` = '{self.run_id}' and attributes.run_name = '{name}'",
        )
        run = _reopen(self._client(), known, self._experiment_id) or self._client().create_run(
            str(self._experiment_id), run_name=name, tags={PARENT_TAG: str(self.run_id)}
        )
        child.run_id = run.info.run_id
        self._ids.keep_child(name, run.info.run_id)

    def _log_history(self, records: Iterable[Mapping[str, Any]]) -> None:
        run = self._client().get_run(str(self.run_id))
        metrics = _metrics_of(records, start_ms=run.info.start_time or int(time.time() * 1000))
        for batch in batched(metrics, MAX_METRICS_PER_BATCH):
            self._client().log_batch(str(self.run_id), metrics=batch)


def start_tracking(
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    files: RunFiles,
    home: str,
    local_folder: str | None = None,
    uri: str | None = None,
) -> Tracker:
    """Open the MLflow run of a job, or the one that an earlier start of it left.

    Another run begins where networks are or learn something else, also where they are again what
    they were before: params and files of a run are of one configuration.

    The database is created and migrated here, so call it on the driver before any worker.

    Args:
        experiment: MLflow experiment; created if absent.
        run_name: Name of the run.
        params: The job's configuration as plain nested data.
        files: Root of the job, where the ids of the runs are kept.
        home: Absolute path or URI of the folder for ``mlflow.db`` and its artifacts, used where no
            tracking server is named.
        local_folder: Folder on this machine that holds ``mlflow.db`` for the time of the run, where
            ``home`` is elsewhere.
        uri: Tracking URI; None for the variable ``MLFLOW_TRACKING_URI``, else an SQLite file.

    Returns:
        A tracker, silent where MLflow cannot be reached (one warning says so).
    """
    server = tracking_server(uri)
    uri = server or f"sqlite:///{home}/{DATABASE_NAME}"
    opened = server or f"sqlite:///{local_folder or home}/{DATABASE_NAME}"
    _quiet()
    connection = _Connection(uri, None)
    ids = _RunIds(files, uri, fingerprint({k: params[k] for k in _OF_NETWORKS if k in params}))
    tracker = Tracker(connection, run_id=None, experiment_id=None, ids=ids)
    try:
        client = _connect(opened)
        experiment_id = _experiment_id(client, experiment, _artifact_location(uri, home))
        job = ids.keep_job()
        known = ids.run_id or _created_before(client, experiment_id, f"tags.`{JOB_TAG}` = '{job}'")
        run = _reopen(client, known, experiment_id) or client.create_run(
            experiment_id, run_name=run_name, tags={JOB_TAG: job}
        )
        ids.keep_run(run.info.run_id)
        tracker = Tracker(connection, run_id=run.info.run_id, experiment_id=experiment_id, ids=ids)
        connection.client = client
    except _tracking_errors() as error:
        connection.give_up(error)
    try:
        tracker.log_params(params)
    except BaseException:  # told to end before anybody knows of the run
        tracker.finish("KILLED")
        raise
    return tracker


def tracking_server(uri: str | None) -> str | None:
    """Return the tracking URI that is named, here or by the environment; None where none is."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings under dotted names, as short texts that MLflow accepts.

    Args:
        params: Plain nested data; lists stay whole.
        prefix: Put before every name.
    """
    flat: dict[str, str] = {}
    for name, value in params.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten_params(value, f"{key}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[_key(key)] = text[:MAX_PARAM_LENGTH]
    return flat


def finite_numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the finite numbers of a nested mapping under names joined by ``/``."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(finite_numbers(value, f"{prefix}{name}/"))
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[_key(f"{prefix}{name}")] = float(value)
    return flat


class _RunIds:
    """Ids of the runs of one job and one tracking server, kept in a file of its root."""

    def __init__(self, files: RunFiles, uri: str, identity: str) -> None:
        self._files, self._identity = files, identity
        self._uri = _without_password(uri)
        self.run_id: str | None = None
        self.children: dict[str, str] = {}
        self._job: str | None = None
        try:
            kept = json.loads(files.read(RUN_IDS_NAME))
        except FileNotFoundError:
            return
        if kept.get("uri") == self._uri and kept.get("identity", identity) == identity:
            self.run_id, self.children = kept["run_id"], dict(kept["children"])
            self._job = kept.get("job")
            if "identity" not in kept:
                self._write()

    def keep_job(self) -> str:
        """Return the mark of this job's run, kept before there is a run that bears it.

        A driver that dies between the creation of a run and the writing of its id leaves a run that
        the next start finds by this mark.
        """
        if self._job is None:
            self._job = uuid.uuid4().hex
            self._write()
        return self._job

    def keep_run(self, run_id: str) -> None:
        """Remember the run; the children of another run are forgotten."""
        if run_id != self.run_id:
            self.run_id, self.children = run_id, {}
            self._write()

    def keep_child(self, name: str, run_id: str) -> None:
        """Remember a child run."""
        if self.children.get(name) != run_id:
            self.children[name] = run_id
            self._write()

    def _write(self) -> None:
        kept = {
            "uri": self._uri,
            "identity": self._identity,
            "job": self._job,
            "run_id": self.run_id,
            "children": self.children,
        }
        self._files.write(RUN_IDS_NAME, json.dumps(kept, indent=1).encode())


def _connect(uri: str) -> "MlflowClient":
    """Return a client of its own; an SQLite file is created and migrated by its first use."""
    from mlflow import MlflowClient  # noqa: PLC0415

    if uri.startswith("sqlite:"):
        os.makedirs(os.path.dirname(uri.removeprefix("sqlite:///")) or ".", exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment_id(client: "MlflowClient", name: str, artifact_location: str | None) -> str:
    """Return the id of an experiment, creating it if absent and restoring it if deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=artifact_location)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _artifact_location(uri: str, folder: str) -> str | None:
    """Return where files go: beside an SQLite file, else where the server or the folder says.

    MLflow's own default for a database without a server is ``./mlruns`` of the working directory.
    """
    if uri.startswith("sqlite:"):
        return os.path.join(os.path.dirname(uri.removeprefix("sqlite:///")), "mlartifacts")
    if uri.startswith(("postgresql", "mysql", "mssql")):
        return os.path.join(folder, "mlartifacts")
    return None


def _reopen(client: "MlflowClient", run_id: str | None, experiment_id: str | None) -> "Run | None":
    """Return a run of an earlier start as running again, None if it is gone or elsewhere."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if run.info.lifecycle_stage == "deleted" or run.info.experiment_id != experiment_id:
        return None
    client.update_run(run_id, status="RUNNING")
    return run


def _created_before(client: "MlflowClient", experiment_id: str | None, which: str) -> str | None:
    """Return the id of a run that was created by a start that could not write it down."""
    found = client.search_runs([str(experiment_id)], filter_string=which, max_results=1)
    return found[0].info.run_id if found else None


def _metrics_of(records: Iterable[Mapping[str, Any]], *, start_ms: int) -> Iterator[Any]:
    """Yield MLflow metrics whose times depend on the record alone: a repeat adds nothing."""
    from mlflow.entities import Metric  # noqa: PLC0415

    for record in records:
        step = int(record.get("step", 0))
        time_s = record.get("time_s")
        time_ms = start_ms + step if time_s is None else round(float(time_s) * 1000)
        numbers = {k: v for k, v in record.items() if k not in ("step", "time_s")}
        for key, value in finite_numbers(numbers).items():
            yield Metric(key, value, time_ms, step)


def _key(name: str) -> str:
    """Return a name that MLflow accepts."""
    return _FORBIDDEN_IN_KEYS.sub("_", name)[:MAX_KEY_LENGTH]


def _without_password(uri: str) -> str:
    """Return a URI that may be logged and stored."""
    return without_secrets(re.sub(r"//[^/@]*@", "//***@", uri))


def _quiet() -> None:
    """Keep the migrations of the database and MLflow's hints off the terminal, and fail fast."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def _tracking_errors() -> tuple[type[Exception], ...]:
    """Return what may go wrong in MLflow, its database, its network and its disk."""
    errors: list[type[Exception]] = [OSError, ImportError, *_store_errors()]
    try:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415
    except ImportError:
        return tuple(errors)
    return (*errors, MlflowException, SQLAlchemyError)


def _store_errors() -> tuple[type[Exception], ...]:
    """Return what may go wrong where MLflow keeps files on S3."""
    try:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError:
        return ()
    return (Boto3Error, BotoCoreError, ClientError)
