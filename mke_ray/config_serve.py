"""What ``jobs/serve.py`` can be told, as a dataclass: a misspelt key stops with its name."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ServeConfig:
    """What ``jobs/serve.py`` can be told.

    Args:
        folder: Folder of the exported student, ``student/`` below the root of a run.
        options: Options of the file system of the folder; credentials belong in the environment.
        host: Address to listen at; one that other machines reach needs a token.
        port: Port to listen at.
        token_file: File with the token that requests have to show; null takes the environment's
            MKE_RAY_SERVE_TOKEN, and without that only this machine is served.
        uri_prefixes: Folders, of a disk or an object store, whose files a request may name.
        uri_options: Options of the file systems of these folders, where they are of object stores.
        batch_size: Samples of different requests that the student is asked at once; 1 asks one by
            one.
        batch_wait_s: How long the first sample of a batch waits for others.
        num_replicas: Processes that answer.
        num_cpus: CPUs of each.
        num_gpus: GPUs of each, fractions allowed; above 0 the student computes there.
        num_decoders: Helper processes of each, so samples that it decodes at once.
        pool: Label ``pool`` of the nodes that replicas may be on; null takes any.
        max_body_mb: Size of a request above which it is refused.
        max_file_mb: Size of a file above which it is refused.
        max_items: Samples of a request.
        max_duration_s: Length of a clip above which it is refused.
        max_at_once: Requests that a replica works on; more are told to come again (429).
        max_queued: Requests that wait for a replica; more are refused (503).
        decode_timeout_s: Time that decoding one sample may take.
        decode_memory_gb: Memory that decoding one sample may take.
        request_timeout_s: Time that a whole request may take.
        modalities: What is read of every modality, as ``decode`` of the run; empty takes that of
            the student.
        classes: The student's own encoders and fusions, ``package.Class``.
        allow_targets: Packages outside ``mke_ray`` that these classes may be of.
        ray_address: Cluster to join; null joins RAY_ADDRESS or starts a local Ray.
        dry_run: Check everything, load the student, start nothing.
        verbose: Show the log lines of Ray too.
    """

    folder: str = "???"
    options: dict[str, Any] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: str | None = None
    uri_prefixes: list[str] = field(default_factory=list)
    uri_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    batch_wait_s: float = 0.005
    num_replicas: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_decoders: int = 2
    pool: str | None = None
    max_body_mb: float = 64.0
    max_file_mb: float = 32.0
    max_items: int = 16
    max_duration_s: float = 600.0
    max_at_once: int = 32
    max_queued: int = 64
    decode_timeout_s: float = 20.0
    decode_memory_gb: float = 1.0
    request_timeout_s: float = 60.0
    modalities: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    allow_targets: list[str] = field(default_factory=list)
    ray_address: str | None = None
    dry_run: bool = False
    verbose: bool = False
