"""Everything that a job can be told, as dataclasses: a misspelt key stops with its name."""

from dataclasses import dataclass, field
from typing import Any

from mke_ray.config_ask import AskConfig, ProbeConfig
from mke_ray.config_focus import FocusConfig
from mke_ray.config_labels import ExpansionConfig, LabelsConfig, MechanismConfig
from mke_ray.config_preflight import PreflightConfig
from mke_ray.config_search import SearchConfig


@dataclass
class StorageConfig:
    """How stores are reached and guarded.

    Args:
        options: Options of the fsspec file system of ``root``; credentials belong in the
            environment instead.
        single_driver: Accept a store that ignores conditional writes.
        patience_s: How long the store of ``root`` is asked again while it does not answer, before
            the job stops.
    """

    options: dict[str, Any] = field(default_factory=dict)
    single_driver: bool = False
    patience_s: float = 30.0


@dataclass
class RayConfig:
    """Where Ray runs.

    Args:
        address: Cluster to join; null joins the one of the environment or starts a local one.
        num_cpus: Logical CPUs of a local Ray; null takes twice the cores, at least four, since
            actors that wait hold a CPU.
        include_dashboard: Start the dashboard of a local Ray.
        env_vars: Environment variables that every worker gets; no secrets, since Ray shows them.
        autoscaling: Whether the cluster starts nodes when they are asked for, also from none: the
            labelling pass then asks for its actors and waits, where it otherwise refuses what the
            nodes that are there cannot run. Set ``labelling.max_actors`` to bound what it asks for.
        cluster_file: File that the cluster is made from, of ``ray up`` or KubeRay, for
            ``autoscaling``: what its pools can never serve is refused before anything starts.
    """

    address: str | None = None
    num_cpus: int | None = None
    include_dashboard: bool = False
    env_vars: dict[str, str] = field(default_factory=dict)
    autoscaling: bool = False
    cluster_file: str | None = None


@dataclass
class TeachersPoolConfig:
    """The actors of the teachers under ``labelling.plan=split``.

    Args:
        min_actors: Least number of them.
        max_actors: Most of them; null takes as many as the GPUs of the cluster can run, and
            ``min_actors`` where ``num_gpus`` is 0.
        num_cpus: CPUs per actor, for unpacking what is stored and for a teacher without a GPU.
        num_gpus: GPUs per actor, fractions allowed; above 0 a trained teacher and the students
            that are evaluated compute there.
        pool: Label ``pool`` of the nodes that they may be on; null takes any.
    """

    min_actors: int = 1
    max_actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    pool: str | None = None


@dataclass
class LabellingConfig:
    """The pass that decodes samples and writes pseudo-labels.

    Args:
        unit_size: Samples per unit.
        plan: ``fused`` decodes and labels in the same actors; ``split`` decodes in a pool of
            actors without GPUs and labels in another, ``teachers_pool``, for nodes whose CPUs are
            too few for their GPUs.
        units_ahead: Units that an actor decodes ahead of the one that is with its teacher, while
            another is written; 0 begins a unit when the one before it is written. Labels do not
            depend on it.
        min_actors: Least number of decode-and-teach actors; under ``split`` of those that decode.
        max_actors: Most of them; null takes what the cluster can run.
        num_cpus: CPUs per actor.
        num_gpus: GPUs per actor, fractions allowed; above 0 a trained teacher and the students
            that are evaluated compute there. Under ``split`` see ``teachers_pool.num_gpus``.
        pool: Label ``pool`` of the nodes that the actors may be on; null takes any.
        teachers_pool: The actors of the teachers under ``split``.
        precision: ``float32``, or ``bfloat16`` for autocast around the teacher's ``predict``; its
            logits go to a label store of their own, as with the next two.
        compile: Compile the teacher's ``network`` by torch.compile; a teacher of yours needs an
            attribute of that name, a torch.nn.Module.
        channels_last: Keep the weights of the convolutions in ``network`` channels last.
        top_k: Classes kept of each pixel of dense labels, the likeliest ones; the rest of the
            probability is shared equally by the others. Another number makes a store of its own.
        max_bad_fraction: Share of unreadable samples above which the job stops.
        sample_timeout_s: Time that reading one sample may take, in a process of its own that is
            ended after it; null reads samples in the worker itself, for sources without media.
        sample_memory_gb: Memory that reading one sample may take in that process.
        cost_per_hour: Cost of the whole cluster per hour, in any currency, so that progress shows
            what a pass, or a search, has cost and will cost; null shows none.
        part_mb: Size of the part files into which a finished pass brings the many small files of
            units; 0 leaves every unit in a file of its own.
        runner: ``ray`` streams units through Ray Data; ``local`` runs in this process.
    """

    unit_size: int = 32
    plan: str = "fused"
    units_ahead: int = 1
    min_actors: int = 1
    max_actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    pool: str | None = None
    teachers_pool: TeachersPoolConfig = field(default_factory=TeachersPoolConfig)
    precision: str = "float32"
    compile: bool = False
    channels_last: bool = False
    top_k: int = 3
    max_bad_fraction: float = 0.1
    sample_timeout_s: float | None = 60.0
    sample_memory_gb: float = 4.0
    cost_per_hour: float | None = None
    part_mb: float = 32.0
    runner: str = "ray"


@dataclass
class DoublesConfig:
    """What happens to samples that occur twice.

    Args:
        enabled: Look for copies of test and probe samples in all other splits, and leave these
            out of training and of the gate.
        within_unlabeled: ``keep`` only counts equal samples of the unlabeled split; ``mark``
            leaves out all but the first of them.
    """

    enabled: bool = True
    within_unlabeled: str = "keep"


@dataclass
class FitConfig:
    """How one network is trained.

    Args:
        num_steps: Optimizer steps; null derives them from ``num_epochs``.
        num_epochs: Passes over the rows of the fit; null derives them from ``num_steps``.
        global_batch: Samples per step over all workers; 0 takes the whole set every step.
        optimizer: ``type`` (adamw or sgd), ``lr``, ``weight_decay``, ``momentum``; with ``fused``
            torch updates all weights in one kernel.
        schedule: ``type`` (constant or cosine) and ``warmup_fraction``.
        clip_norm: Largest gradient norm; null does not clip.
        ema_decay: Decay of the running mean of the weights that is kept instead of the last ones,
            0.999 for example; null keeps the last.
        validate_every_steps: Steps between looks at the select part of the probe; 0 never looks.
        class_balance: Exponent by which rare classes count more, of true labels; 0 takes all alike.
            Of dense labels every class weighs its share of the labelled pixels of the fit's rows,
            to the power of minus this. Of others, rows of a class below the mean share come
            (mean share / share) to this power times in an epoch, 16 times at most; 0.5 is usual.
    """

    num_steps: int | None = None
    num_epochs: int | None = None
    global_batch: int = 64
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    ema_decay: float | None = None
    validate_every_steps: int = 0
    class_balance: float = 0.0


@dataclass
class TeacherConfig:
    """Where the teacher comes from.

    Args:
        modality: The modality that the teacher reads.
        train: Train a teacher on the labelled split (true), or use ``network`` as it is (false).
        seed: Seed of a trained teacher; null takes the seed of the job.
        network: With ``train``, the encoder of the teacher; without it, ``_target_`` and the
            arguments of a class with ``modality``, ``needs``, ``predict`` and ``fingerprint``.
        head_hidden: Hidden layers of the head of a trained teacher.
        dropout: Dropout in the head of a trained teacher.
        decoder: Decoder of a trained teacher of dense labels, as in ``student.decoder``.
        views: What a trained teacher sees in training in the place of the job's ``views``; null
            lets it see the same.
        flip_average: Let a trained teacher of dense labels answer by the mean over its pictures
            and their mirror images.
        average_views: Views beside the stored array over which the teacher's answer is averaged,
            trained or not: ``flip``, ``{type: temporal_crops, num: 3, share: 0.75}``,
            ``{type: spatial_crops, num: 5, share: 0.875}``.
        fit: How a trained teacher is trained.
    """

    modality: str = "video"
    train: bool = True
    seed: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    head_hidden: list[int] = field(default_factory=list)
    dropout: float = 0.0
    decoder: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] | None = None
    flip_average: bool = False
    average_views: list[Any] = field(default_factory=list)
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass
class StudentConfig:
    """The student network; a unimodal student keeps one encoder and the unimodal head.

    Args:
        encoders: Per modality ``type`` and the arguments of its encoder.
        fusion: ``type`` (concat, gated, attention, film; with a decoder add, gated, attention) and
            its arguments.
        decoder: ``channels`` of the way back to every pixel, for dense labels; empty for others.
        head_hidden: Hidden layers of the head.
        unimodal_head_hidden: Hidden layers of the head of unimodal students; null takes
            ``head_hidden``.
        dropout: Dropout in the head.
        init_from_teacher: Start the encoder of the teacher's modality from the teacher, and with
            it the decoder.
    """

    encoders: dict[str, Any] = field(default_factory=dict)
    fusion: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    head_hidden: list[int] = field(default_factory=list)
    unimodal_head_hidden: list[int] | None = None
    dropout: float = 0.0
    init_from_teacher: bool = False


@dataclass
class ScalingConfig:
    """What training runs on.

    Args:
        launch: ``trainer`` (one Ray Train worker group for all fits), ``tasks`` (each fit a Ray
            task, side by side) or ``local`` (in this process).
        num_workers: Workers of the trainer, or ``[least, most]``: when nodes are lost training goes
            on with those that are left, and takes more when nodes come.
        cpus_per_worker: CPUs per worker or task.
        gpus_per_worker: GPUs per worker or task.
        pool: Label ``pool`` of the nodes that workers, tasks and trials of a search may be on, with
            a fixed ``num_workers``; null takes any.
        max_failures: Restarts of the worker group before the run fails.
        checkpoint_every_steps: Steps between checkpoints; 0 makes none but where a node is about to
            go.
        checkpoints_kept: Checkpoints that are kept while training goes on.
        resize_every_s: Seconds between looks for more workers, where ``num_workers`` allows them.
        window_units: Units whose rows are shuffled together.
        cache_bytes: Memory for decoded units per worker; several times what ``window_units`` units
            take, or units are read again and again.
        feed: Who makes batches: ``local`` (threads of each worker) or ``ray`` (tasks of Ray Data on
            any node, in the same order and with the same content; ``launch=trainer`` only).
        feed_threads: Threads per worker that read and decode; null takes ``cpus_per_worker``.
        prefetch_batches: Batches per worker that are ready or being made ahead of the loop; null
            takes one more than ``feed_threads``, and at least 2.
        prefetch_bytes: Most bytes of these batches; with ``feed=ray``, of Ray's memory for objects.
        feed_cpus: CPUs per worker of the pool of ``feed=ray``, beside ``cpus_per_worker``.
        feed_pool: Label ``pool`` of the nodes that its tasks may be on; null takes any.
        feed_timeout_s: How long a worker waits for a batch of this pool, in three tries, before the
            run ends; beside it each try waits for ``storage.patience_s``.
        log_every_steps: Steps between logged losses; at most a tenth of a fit.
        micro_batch: Most rows of a worker in one forward and backward pass; a step then adds up the
            gradients of several. null takes all rows of a worker in one pass.
        skip_non_finite: Most steps of a fit that may be left out because a loss or a gradient is
            not finite; each is logged with its samples. 0 stops at the first.
    """

    launch: str = "trainer"
    num_workers: Any = 2
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    pool: str | None = None
    max_failures: int = 3
    checkpoint_every_steps: int = 100
    checkpoints_kept: int = 2
    resize_every_s: float = 60.0
    window_units: int = 16
    cache_bytes: int = 1 << 30
    feed: str = "local"
    feed_threads: int | None = None
    prefetch_batches: int | None = None
    prefetch_bytes: int = 1 << 30
    feed_cpus: int = 1
    feed_pool: str | None = None
    feed_timeout_s: float = 600.0
    log_every_steps: int = 10
    micro_batch: int | None = None
    skip_non_finite: int = 0


@dataclass
class GateConfig:
    """The promotion gate.

    Args:
        confidence: Confidence of the one-sided lower bound.
        min_samples: Gate samples below which the verdict is ``unverified``.
        min_groups: Groups (of like size) of gate samples below which it is, too.
        select_fraction: Share of the probe's groups that is the select part.
    """

    confidence: float = 0.95
    min_samples: int = 50
    min_groups: int = 5
    select_fraction: float = 0.5


@dataclass
class TrackingConfig:
    """Where MLflow records.

    Args:
        enabled: Record to MLflow at all.
        uri: Tracking URI; null takes MLFLOW_TRACKING_URI, else an SQLite file kept with the run.
        model: Name of the registered model that a promoted student is a version of; null takes the
            name of the run.
        alias: Alias that this version gets; null registers none.
    """

    enabled: bool = True
    uri: str | None = None
    model: str | None = None
    alias: str | None = "champion"


@dataclass
class JobConfig:
    """Everything a job can be told; ``docs/`` explains the groups behind the nested keys.

    Args:
        name: Name of the run, in the report and in MLflow.
        root: Folder or object-store URI that holds all that the run writes.
        seed: Seed of everything that is drawn.
        data_seed: Seed of a source that makes its own data.
        arms: ``default``, ``all``, or a list of arms, see the README.
        model_seeds: Seeds of the student networks; each is trained, the report shows the spread.
        data_seeds: Number of draws of the data, each a whole run below ``root``; null is one run.
        refresh: Look at the source again for new, changed and deleted files.
        accept_loss: Go on although much of what an earlier run listed is gone from the source.
        dry_run: Check everything, print what would be done, write nothing.
        verbose: Show the log lines of Ray, DeepSpeed and MLflow too.
        retry: ``io`` reads samples again that a store did not give, ``[io, timeout]`` also bad ones
            of that reason; their labels, and the fits that saw them, are made anew. null reads
            nothing again.
        verify: jobs/label.py proves that the stores hold every row exactly once: it compares them
            with the manifest row by row, and every file with its digest.
        allow_targets: Packages outside ``mke_ray`` whose classes ``_target_`` may name.
        source: The videos or tables, and how they are listed.
        decode: What is stored of every modality: frames, size, sample rate, seconds, codec.
        samples: ``on`` keeps decoded samples, so that a video is decoded once; ``off`` keeps only
            what became of every sample, and training and evaluation decode again from the
            source (``docs/storage.md`` has what that costs).
        views: What a network sees of every stored modality, with its augmentation.
        plain_views: What the arms without perturbation (um_student, mm_student_no_reg) see in the
            place of ``views``; null lets them see the same.
        teacher: Where the teacher comes from.
        more_teachers: Further teachers by name, each ``_target_`` and arguments as in
            ``teacher.network`` of a teacher of yours; the labelling pass writes their logits too,
            to label stores of their own (``+more_teachers.NAME={_target_: ..., ...}``). Our student
            learns from all of them (``expansion.teachers``), the other arms from ``teacher`` alone.
        labels: How logits become targets.
        student: The student network.
        fusion: How the student joins its modalities.
        objective: The loss of the students that learn from the teacher's labels.
        expansion: Our student, and the labels that it learns from.
        mechanism: Why the student becomes better than its teacher, measured.
        focus: What jobs/focus.py measures: what distillation between modalities gives, and why.
        supervised: The loss of networks that learn from true labels.
        fit: How a student is trained.
        engine: What trains: ``type`` (torch or deepspeed); of torch ``bf16``, ``shard`` (fsdp2) and
            ``find_unused_parameters``, of DeepSpeed its ``config``; of both
            ``checkpoint_activations`` (compute the inside of blocks again in the backward pass) and
            ``compile`` (true, or arguments of torch.compile). See ``docs/training.md``.
        labelling: The pass that decodes samples and writes pseudo-labels.
        doubles: What happens to samples that occur twice.
        scaling: What training runs on.
        preflight: What jobs/expand.py looks at after the first few thousand labels.
        search: What jobs/tune.py searches.
        gate: The promotion gate.
        probe: What is added to the probe of the source.
        ask: Which unlabeled samples jobs/ask.py asks people for.
        further_metrics: Report mAP, mAUC, d-prime and F1 of every arm too, one class against the
            others, where a sample has one class; with many classes they always are.
        noise_levels: How much noise the shipped student's modalities are put under, one at a time,
            on the test split: standard deviations as multiples of the signal's. [] for none.
        tracking: Where MLflow records.
        storage: How stores are reached and guarded.
        ray: Where Ray runs.
    """

    name: str = "demo"
    root: str = "outputs/${name}/seed-${data_seed}"
    seed: int = 0
    data_seed: int = "${seed}"  # type: ignore[assignment]
    arms: Any = "default"
    model_seeds: list[int] = field(default_factory=lambda: ["${seed}"])  # type: ignore[list-item]
    data_seeds: int | None = None
    refresh: bool = True
    accept_loss: bool = False
    dry_run: bool = False
    verbose: bool = False
    retry: Any = None
    verify: bool = False
    allow_targets: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    decode: dict[str, Any] = field(default_factory=dict)
    samples: bool = True
    views: dict[str, Any] = field(default_factory=dict)
    plain_views: dict[str, Any] | None = None
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    more_teachers: dict[str, Any] = field(default_factory=dict)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    fusion: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    expansion: ExpansionConfig = field(default_factory=ExpansionConfig)
    mechanism: MechanismConfig = field(default_factory=MechanismConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    supervised: dict[str, Any] = field(default_factory=dict)
    fit: FitConfig = field(default_factory=FitConfig)
    engine: dict[str, Any] = field(default_factory=dict)
    labelling: LabellingConfig = field(default_factory=LabellingConfig)
    doubles: DoublesConfig = field(default_factory=DoublesConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    ask: AskConfig = field(default_factory=AskConfig)
    further_metrics: bool = False
    noise_levels: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0, 4.0])
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)
