"""Pictures of dense labels: what every network says of single scenes, and the gain by class."""

# C classes, H height, W width, K channels.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation import TEACHER, ArmResult, DenseExample, Evaluation, EvaluationPlan
from mke_ray.evaluation.dense import class_maps
from mke_ray.labels.dense import DenseForm, hard_rows
from mke_ray.report import style
from mke_ray.report.style import Picture, arm_colour, arm_short, house_style, new_figure
from mke_ray.schema import IGNORE, MASK, DepthSpec, ImageSpec, decode_spec_from_dict

NOISY_ARM = "noisy_student"
SCENE_KINDS = {
    "corrected": "Most corrected",
    "typical": "Typical",
    "corrupted": "Most corrupted",
}

_PAGE_WIDTH_IN = 10.4
_IGNORED = (225, 228, 232)
# Colours for up to 20 classes that differ in lightness as well as in hue.
_CLASS_COLOURS = (
    *("#4477aa", "#aa3377", "#f4b6d8", "#228833", "#8c564b", "#cc6633", "#ccbb44", "#66ccee"),
    *("#ee6677", "#7744aa", "#111111", "#99ddaa", "#2244cc", "#ffaabb", "#777700", "#44bb99"),
    *("#994455", "#ffcc99", "#335533", "#aaaaff"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One test sample with dense labels, and what was said of it.

    Args:
        example: Which sample it is, and why it is shown.
        inputs: By name the picture of each modality, uint8 [H, W, 3], None where it is missing.
        maps: By title the class map [H, W] of the truth and of every network, 255 for none.
    """

    example: DenseExample
    inputs: Mapping[str, np.ndarray | None]
    maps: Mapping[str, np.ndarray]


def scenes_of(evaluation: Evaluation, plan: EvaluationPlan) -> list[Scene]:
    """Read the scenes that an evaluation found worth showing.

    Args:
        evaluation: What was found.
        plan: What was compared.
    """
    form = DenseForm.of_spec(plan.labels.spec)
    if form is None or plan.samples is None:
        return []
    shown = {TEACHER: "Teacher", NOISY_ARM: "Noisy student", plan.shipped: arm_short(plan.shipped)}
    shown = {arm: title for arm, title in shown.items() if arm in evaluation.columns}
    return [_scene(one, evaluation, plan, form, shown) for one in evaluation.dense_examples]


def scenes_picture(scenes: Sequence[Scene], classes: Sequence[str]) -> Picture | None:
    """Draw scenes as rows: inputs, truth, and what every network says, with a legend of classes.

    Args:
        scenes: From ``scenes_of``.
        classes: Names of the classes.

    Source:
        After figure 3 of Xue et al., Multimodal Knowledge Expansion, ICCV 2021.
    """
    if not scenes:
        return None
    titles = [*(name.upper() if name == "rgb" else name.capitalize() for name in scenes[0].inputs)]
    titles += list(scenes[0].maps)
    height, width = next(iter(scenes[0].maps.values())).shape
    cell_in = _PAGE_WIDTH_IN / (len(titles) + 0.55)
    with house_style():
        figure = new_figure(len(scenes) * cell_in * height / width + 1.1, _PAGE_WIDTH_IN)
        grid = figure.subplots(len(scenes), len(titles), squeeze=False)
        for axes_row, scene in zip(grid, scenes, strict=True):
            _draw_scene(axes_row, scene, len(classes))
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title, loc="center", fontsize=10)
        figure.legend(
            handles=_legend(classes),
            loc="outside lower center",
            ncols=min(len(classes) + 1, 7),
            frameon=False,
            fontsize=9,
            handlelength=1.2,
        )
    picture = style.to_picture(
        figure,
        name="scenes",
        title="What does each network see?",
        alt=_scenes_alt(scenes, titles),
        note="Test samples: where the student corrects the teacher most and corrupts it most, in "
        "net share of the pixels that count, and where it does neither. Light grey counts for "
        "nothing. The numbers say how much of a scene is corrected and corrupted.",
    )
    return Picture(
        picture.name, title=picture.title, alt=picture.alt, png=picture.png, note=picture.note
    )


def class_gain_picture(
    arms: Mapping[str, ArmResult], *, shipped: str, classes: Sequence[str]
) -> Picture | None:
    """Draw the intersection over union of each class, of the teacher and of the shipped student.

    Args:
        arms: Results by arm.
        shipped: Arm that was put in front of the gate.
        classes: Names of the classes.
    """
    teacher, student = arms[TEACHER].class_ious, arms[shipped].class_ious if shipped in arms else ()
    if not teacher or not student:
        return None
    gain_C = np.nan_to_num(np.subtract(student, teacher))
    order: list[int] = np.argsort(-gain_C, kind="stable").tolist()
    with house_style():
        figure = new_figure(0.9 + 0.3 * len(classes))
        axes = figure.subplots()
        for row, one in enumerate(order):
            _draw_class(axes, row, teacher[one], student[one], colour=arm_colour(shipped))
        axes.set_yticks(range(len(classes)), [str(classes[one]) for one in order])
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlim(0, max(0.1, 1.12 * float(np.nanmax([*teacher, *student]))))
        axes.set_xlabel("Intersection over union on the test set")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        style.percent_axis(axes, "x")
    parts = [
        f"{classes[one]} {_percent(teacher[one])} to {_percent(student[one])}" for one in order
    ]
    return style.to_picture(
        figure,
        name="classes",
        title="Which classes gain?",
        alt="Intersection over union by class, teacher to student: " + "; ".join(parts),
        note=f"Rings are the teacher, dots are {arm_short(shipped)}; the number is the gain in "
        "points. Classes in order of gain.",
    )


def _scene(
    example: DenseExample,
    evaluation: Evaluation,
    plan: EvaluationPlan,
    form: DenseForm,
    shown: Mapping[str, str],
) -> Scene:
    """Read one scene out of the stores."""
    assert plan.samples is not None
    unit, row = example.unit, example.row
    decode = decode_spec_from_dict(plan.decode)
    seen = {name: spec for name, spec in decode.items() if isinstance(spec, ImageSpec | DepthSpec)}
    table = plan.samples.read(unit, [*seen, MASK], rows=[row]).slice(row, 1)
    pieces = {name: table.column(name)[0].as_py() for name in [*seen, MASK]}
    arrays = {name: decode_modality(one, decode[name]) for name, one in pieces.items() if one}
    columns = {arm: evaluation.columns[arm][0] for arm in shown if arm != TEACHER}
    students = plan.predictions.read(unit, columns=list(columns.values())).slice(row, 1)
    teacher = plan.labels.read(unit, columns=["classes"]).slice(row, 1)
    maps = {"Truth": arrays[MASK], shown[TEACHER]: hard_rows(teacher, form)[0]}
    maps |= {shown[arm]: class_maps(students, fit, form)[0] for arm, fit in columns.items()}
    ordered = sorted(seen, key=lambda name: isinstance(seen[name], DepthSpec))
    inputs = {
        name: None if name not in arrays else _shown(arrays[name], seen[name]) for name in ordered
    }
    return Scene(example, inputs, maps)


def _shown(array_HWK: np.ndarray, spec: object) -> np.ndarray:
    """Return a picture as it is, and depth in shades of one colour, uint8 [H, W, 3]."""
    if not isinstance(spec, DepthSpec):
        return array_HWK
    depth_HW = array_HWK[..., 0]
    known_HW = depth_HW > 0
    if not known_HW.any():
        return np.full((*depth_HW.shape, 3), _IGNORED, np.uint8)
    low, high = np.quantile(depth_HW[known_HW], [0.02, 0.98])
    level_HW = np.clip((depth_HW - low) / max(high - low, 1e-6), 0, 1)
    shown = (colormaps["viridis_r"](level_HW)[..., :3] * 255).astype(np.uint8)
    shown[~known_HW] = _IGNORED
    return shown


def _draw_scene(axes_row: Sequence[Axes], scene: Scene, num_classes: int) -> None:
    """Draw one row of pictures."""
    pictures = [*scene.inputs.values(), *(coloured(m, num_classes) for m in scene.maps.values())]
    for axes, picture in zip(axes_row, pictures, strict=True):
        if picture is None:
            axes.text(0.5, 0.5, "missing", ha="center", va="center", color=style.MUTED)
        else:
            axes.imshow(picture, interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    example = scene.example
    said = f"{SCENE_KINDS[example.kind]}\n+{example.corrected:.0%} -{example.corrupted:.0%}"
    axes_row[0].set_ylabel(said, fontsize=8.5, color=style.INK)


def coloured(class_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a class map in the colours of the legend, uint8 [H, W, 3]."""
    palette = np.full((256, 3), _IGNORED, np.uint8)
    for number in range(min(num_classes, IGNORE)):
        colour = _CLASS_COLOURS[number % len(_CLASS_COLOURS)]
        palette[number] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return palette[class_HW]


def _legend(classes: Sequence[str]) -> list[Patch]:
    """Return a patch of colour for every class, and one for what counts for nothing."""
    patches = [
        Patch(color=_CLASS_COLOURS[number % len(_CLASS_COLOURS)], label=name.replace("_", " "))
        for number, name in enumerate(classes)
    ]
    return [*patches, Patch(color=f"#{bytes(_IGNORED).hex()}", label="not labelled")]


def _draw_class(axes: Axes, row: int, teacher: float, student: float, *, colour: str) -> None:
    """Draw the gain of one class as a line from the teacher to the student."""
    axes.plot([teacher, student], [row, row], color=style.GRID, lw=2.5, zorder=1)
    axes.plot(teacher, row, "o", mfc="none", mec=style.INK, ms=6, zorder=4, clip_on=False)
    axes.plot(student, row, "o", color=colour, ms=6, zorder=3, clip_on=False)
    if np.isfinite(student - teacher):
        place = max(teacher, student)
        axes.annotate(
            f"{100 * (student - teacher):+.1f}",
            (place, row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=style.MUTED,
        )


def _scenes_alt(scenes: Sequence[Scene], titles: Sequence[str]) -> str:
    """Say the figure of scenes in words."""
    rows = [
        f"{SCENE_KINDS[one.example.kind].lower()} {one.example.key}: "
        f"{one.example.corrected:.0%} corrected, {one.example.corrupted:.0%} corrupted"
        for one in scenes
    ]
    return f"Test samples as rows of {', '.join(titles)}: " + "; ".join(rows)


def _percent(share: float) -> str:
    """Return a share as a percentage, or that there is none."""
    return f"{share:.1%}" if np.isfinite(share) else "none"
