"""Tiny published data sets of the true layout, for tests: real encoded files, few and small."""

import io
import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat, wavfile

from mke_ray.data.demo_audio import Sound
from mke_ray.data.demo_video import Frames
from mke_ray.data.demo_writer import encode_mp4

SMOKE = ["scaling=local", "labelling=local", "engine=torch"]


def put(path: Path, content: bytes) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def wav(seconds: float = 0.5, rate_hz: int = 16_000, sound_hz: float = 440.0) -> bytes:
    """Return a WAV file of a sine."""
    time_N = np.arange(round(seconds * rate_hz)) / rate_hz
    file = io.BytesIO()
    sound_N = (16_000 * np.sin(2 * np.pi * sound_hz * time_N)).astype(np.int16)
    wavfile.write(file, rate_hz, sound_N)
    return file.getvalue()


def clip(number: int, *, has_sound: bool = True) -> bytes:
    """Return an mp4 file of random blocks and random notes, which no other number has."""
    generator = np.random.default_rng(number)
    blocks = generator.integers(20, 235, (8, 8)).astype(np.uint8)
    luma_THW = np.stack([np.roll(np.kron(blocks, np.ones((8, 8), np.uint8)), t) for t in range(4)])
    colour_THW = np.full((4, 32, 32), 128, np.uint8)
    notes_N = np.repeat(generator.uniform(200, 2000, 8), 1000)
    sound_N = (0.5 * np.sin(2 * np.pi * np.cumsum(notes_N) / 16_000)).astype(np.float32)
    frames = Frames(luma_THW, (colour_THW, colour_THW), 8)
    return encode_mp4(frames, Sound(sound_N, 16_000) if has_sound else None)


def write_ravdess(folder: Path, *, actors: int = 8, emotions: int = 8) -> None:
    """Write both layouts of the archives: speech with nested folders, song without; one is spoilt.

    Actor 1 has the video-only twins that the archives of videos hold too; actor 2 has no video of
    its first emotion, only the sound.
    """
    for actor in range(1, actors + 1):
        for emotion in range(1, emotions + 1):
            tail = f"01-{emotion:02d}-01-01-01-{actor:02d}"
            top = f"Video_Speech_Actor_{actor:02d}/Actor_{actor:02d}"
            if (actor, emotion) == (2, 1):
                put(folder / f"Audio_Speech_Actors_01-24/Actor_02/03-{tail}.wav", wav())
            else:
                put(folder / f"{top}/01-{tail}.mp4", clip(actor * 8 + emotion))
            if actor == 1:
                put(folder / f"{top}/02-{tail}.mp4", clip(actor * 8 + emotion, has_sound=False))
        song = f"01-02-03-01-01-01-{actor:02d}.mp4"
        put(folder / f"Actor_{actor:02d}/{song}", clip(1000 + actor))
    put(folder / "Video_Speech_Actor_03/Actor_03/01-01-02-01-01-01-03.mp4", b"")
    put(folder / "Video_Speech_Actor_03/Actor_03/holiday.mp4", clip(1))


def video_id(number: int) -> str:
    """Return an id of eleven characters, some of which begin with a dash or a Y."""
    return f"{'-Yx_'[number % 4]}{number:06d}-_aB"


def write_vggsound(folder: Path, *, train: int = 60, test: int = 12) -> None:
    """Write the list as it is published and clips in two folders; every tenth clip is gone.

    A video has a clip for training and another one, too; a file of no listed clip lies beside.
    """
    lines = []
    for number in range(train + test):
        part = "train" if number < train else "test"
        label = ("chicken crowing", "race car, auto racing", "rapping")[number % 3]
        lines.append(f'{video_id(number)},{number + 1},"{label}",{part}')
        if number % 10 != 7:
            name = f"{video_id(number)}_{number + 1:06d}.mp4"
            put(folder / f"video/{part}/{name}", clip(number))
    lines.append(f'{video_id(0)},400,"rapping",train')
    put(folder / f"video/train/{video_id(0)}_000400.mp4", clip(900))
    put(folder / "video/train/holiday.mp4", clip(901))
    put(folder / "vggsound.csv", "\n".join(lines).encode())


AUDIOSET_CLASSES = {
    "/m/09x0r": "Speech",
    "/m/0bt9lr": "Dog",
    "/m/07qf0zm": "Howl",
    "/m/068hy": "Domestic animals, pets",
}
_AUDIOSET_NODES = {
    "/m/0jbk": ("Animal", ["/m/068hy"]),
    "/m/068hy": ("Domestic animals, pets", ["/m/0bt9lr"]),
    "/m/0bt9lr": ("Dog", ["/m/07qf0zm"]),
    "/m/07qf0zm": ("Howl", []),
    "/m/09x0r": ("Speech", []),
}


def write_audioset(
    folder: Path, *, balanced: int = 48, unbalanced: int = 40, test: int = 16
) -> None:
    """Write the lists as they are published and clips whose names are in three ways of writing."""
    rows = ["index,mid,display_name"]
    rows += [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(AUDIOSET_CLASSES.items())]
    put(folder / "class_labels_indices.csv", "\n".join(rows).encode())
    nodes = [
        {"id": mid, "name": name, "child_ids": children, "restrictions": []}
        for mid, (name, children) in _AUDIOSET_NODES.items()
    ]
    put(folder / "ontology.json", json.dumps(nodes).encode())
    number = 0
    for table, num in (
        ("balanced_train", balanced),
        ("unbalanced_train", unbalanced),
        ("eval", test),
    ):
        lines = [
            "# Segments csv created Sun Mar  5 10:54:31 2017",
            f"# num_ytids={num}, num_segs={num}, num_unique_labels=4, num_positive_labels=9",
            "# YTID, start_seconds, end_seconds, positive_labels",
        ]
        for _ in range(num):
            mids = list(AUDIOSET_CLASSES)[number % 4 :][: 1 + number % 2]
            lines.append(f'{video_id(number)}, 30.000, 40.000, "{",".join(mids)}"')
            name = ("{}_30.000", "{}_30000_40000", "Y{}")[number % 3].format(video_id(number))
            if number % 8 != 5:
                put(folder / f"media/{table}/{name}.mp4", clip(2000 + number))
            number += 1
        put(folder / f"{table}_segments.csv", "\n".join(lines).encode())


NYU_NAMES = ("wall", "floor", "cup", "box")


def write_nyu(folder: Path, *, train: int = 34, test: int = 6, lists: str = "mat") -> None:
    """Write the MATLAB file with its axes turned round, the split and the mapping, small.

    Sample n is of scene ``room_(n // 2)``, the left of its picture is red and its label nothing,
    and the box in it is nearer than the wall.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num, height, width = train + test, 24, 32
    generator = np.random.default_rng(0)
    images = generator.integers(0, 120, (num, height, width, 3)).astype(np.uint8)
    depths = np.full((num, height, width), 4.0, np.float32)
    labels = np.ones((num, height, width), np.uint16)
    labels[:, 14:] = 2
    labels[:, :, :4] = 0
    images[:, :, :4, 0] = 255
    for number in range(num):
        top, left = generator.integers(4, 10), generator.integers(5, 18)
        labels[number, top : top + 8, left : left + 8] = 3 + number % 2
        depths[number, top : top + 8, left : left + 8] = 1.5
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = images.transpose(0, 3, 2, 1)  # MATLAB has [H, W, 3, N]
        file["depths"] = depths.transpose(0, 2, 1)
        file["labels"] = labels.transpose(0, 2, 1)
        for name, texts in (
            ("names", NYU_NAMES),
            ("scenes", [f"room_{number // 2:04d}" for number in range(num)]),
        ):
            cells = file.create_dataset(name, (1, len(texts)), h5py.ref_dtype)
            for number, text in enumerate(texts):
                codes = np.array([[ord(one)] for one in text], np.uint16)
                cells[0, number] = file.create_dataset(f"#refs#/{name}{number}", data=codes).ref
    mapping = {"mapClass": np.array([[1, 2, 40, 29]], np.uint8)}  # wall, floor, otherprop, box
    savemat(folder / "classMapping40.mat", mapping)
    indices = {
        "trainNdxs": np.arange(1, train + 1)[:, None],
        "testNdxs": np.arange(train + 1, num + 1)[:, None],
    }
    if lists == "mat":
        savemat(folder / "splits.mat", indices)
    else:
        for name, key in (("train", "trainNdxs"), ("test", "testNdxs")):
            lines = "\n".join(str(one) for one in indices[key].ravel())
            (folder / f"{name}.txt").write_text(lines)


FILM_GENRES = (["Drama"], ["Comedy", "Drama"], ["Western"], ["Comedy", "News"])


def picture(number: int, *, height: int = 60, width: int = 40) -> np.ndarray:
    """Return random blocks of colour, uint8 [H, W, 3], which no other number has."""
    blocks = np.random.default_rng(number).integers(0, 256, (6, 4, 3)).astype(np.uint8)
    return np.kron(blocks, np.ones((height // 6, width // 4, 1), np.uint8))


def write_mm_imdb(folder: Path, *, train: int = 40, dev: int = 24, test: int = 16) -> None:
    """Write the official split, and a description and a poster for every film.

    Film 3 has no poster, film 5 no description, film 7 no genre that counts, film 9 no plot.
    """
    films = [f"{10_000 + number:07d}" for number in range(train + dev + test)]
    ends = (0, train, train + dev, len(films))
    parts = ("train", "dev", "test")
    split = {part: films[ends[n] : ends[n + 1]] for n, part in enumerate(parts)}
    put(folder / "split.json", json.dumps(split).encode())
    for number, film in enumerate(films):
        genres = ["News"] if number == 7 else FILM_GENRES[number % 4]
        plots = [f"A {genres[0].lower()} of number {number}.", "Nobody knows how it ends."]
        told = {"title": film, "genres": genres, "plot": [] if number == 9 else plots}
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "JPEG")
        if number != 3:
            put(folder / f"dataset/{film}.jpeg", file.getvalue())
        if number != 5:
            put(folder / f"dataset/{film}.json", json.dumps(told).encode())


def write_mm_imdb_hdf5(folder: Path, *, train: int = 40, dev: int = 24, test: int = 16) -> None:
    """Write the one file of pictures, features and genres; 23 genres, of which five occur."""
    folder.mkdir(parents=True, exist_ok=True)
    num, generator = train + dev + test, np.random.default_rng(0)
    pictures = np.stack([picture(number) for number in range(num)])
    genres = np.zeros((num, 23), np.int32)
    genres[np.arange(num), np.arange(num) % 5] = 1
    genres[:, 0] = np.arange(num) % 2
    with h5py.File(folder / "multimodal_imdb.hdf5", "w") as file:
        file["images"] = pictures.transpose(0, 3, 1, 2)
        file["features"] = generator.normal(size=(num, 300)).astype(np.float32)
        file["vgg_features"] = generator.normal(size=(num, 4096)).astype(np.float32)
        file["genres"] = genres


def write_av_mnist_arrays(folder: Path, *, train: int = 70, test: int = 16) -> None:
    """Write six arrays as they are handed on: flat pictures, square spectrograms, and digits.

    A digit is a bright row of the picture and a bright column of the spectrogram, under noise.
    Some values of the pictures are outside 0 to 255.
    """
    generator = np.random.default_rng(0)
    for part, num in (("train", train), ("test", test)):
        digits = np.arange(num) % 10
        pictures = generator.normal(40, 30, (num, 28, 28))
        spectrograms = generator.uniform(0, 120, (num, 112, 112))
        for row, digit in enumerate(digits):
            pictures[row, 4 + 2 * digit] += 200
            spectrograms[row, :, 5 + 10 * digit : 10 + 10 * digit] += 100
        for name, array in (
            (f"image/{part}_data", pictures.reshape(num, 784)),
            (f"audio/{part}_data", spectrograms.astype(np.uint8)),
            (f"{part}_labels", digits.astype(np.float64)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{name}.npy", array)
