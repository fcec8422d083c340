"""Readers for the files that the recipes train on. Data is found by TOKENSCOPE_DATA (default ../shared/data)."""
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np


def data_dir() -> Path:
    """Folder with the data files; raises ValueError when it does not exist."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("TOKENSCOPE_DATA", default))
    if not folder.is_dir():
        raise ValueError(f"no data folder at {folder}: set TOKENSCOPE_DATA to the folder with the data files")
    return folder


def stories(split: str) -> list[str]:
    """Whole public-domain children's books of one split: train, val, alice or looking_glass."""
    import pyarrow.parquet as parquet

    wanted = [("split", "==", split)]
    return parquet.read_table(data_dir() / "stories.parquet", columns=["text"], filters=wanted)["text"].to_pylist()


def photos(split: str) -> tuple[np.ndarray, np.ndarray]:
    """64x64 photos of one split (train or val) as uint8 [N, 64, 64, 3], and their labels [N]."""
    import pyarrow.parquet as parquet
    from PIL import Image

    table = parquet.read_table(data_dir() / f"photos64_{split}.parquet", columns=["image", "label"])
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in table["image"].to_pylist()])
    return pixels, table["label"].to_numpy()


def kept(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, made once and kept in this .npz file, so that a resumed run need not make them again."""
    if not path.exists():
        part = path.with_name(f"{path.stem}-{os.getpid()}.npz")
        np.savez(part, **make())
        os.replace(part, path)  # another run may make the same
    with np.load(path) as found:
        return dict(found)


def blocks(tokens: np.ndarray, length: int, batch: int, step: int, seed: int) -> np.ndarray:
    """One batch of windows [batch, length + 1], without replacement within an epoch.

    The result depends only on (seed, step), so a resumed run sees exactly the batches it would have seen.
    Every epoch cuts the stream at a new offset.
    """
    per_epoch = (len(tokens) - 2 * length - 1) // length
    drawn = np.arange(step * batch, (step + 1) * batch)
    rows = []
    for epoch in np.unique(drawn // per_epoch):
        rng = np.random.default_rng((seed, int(epoch), length))
        order, offset = rng.permutation(per_epoch), int(rng.integers(length))
        starts = order[drawn[drawn // per_epoch == epoch] % per_epoch] * length + offset
        rows += [tokens[s : s + length + 1] for s in starts]
    return np.stack(rows).astype(np.int64)
