"""``dsm-ext predict`` gives photographs the answers of ``dsm-ext eval``. Needs ``DSM_EXT_DATA``."""

import pytest
import torch
from commands import run
from predict_runs import rows

import dsm_ext
from dsm_ext.images import find_images, read_image, transform_for

NAME = "deit_tiny_patch16_224"
BATCH = 50
# The least cosine of embeddings where a photograph of several megapixels was decoded at a half or a
# quarter of its size: merging reacts to small differences. Seen: 0.9986 and 0.980.
REDUCED = {"dense": 0.995, "dsm": 0.95}


@pytest.mark.parametrize("schedule, every", [("dense", 5), ("dsm", 1)])
def test_top1_equals_that_of_eval(schedule, every, data, tmp_path, capsys):
    paths = find_images(data / "imagenet_samples")[::every]
    photographs, out = tmp_path / "photographs.txt", tmp_path / "out"
    photographs.write_text("\n".join(map(str, paths)))
    weights = data / f"{NAME}.safetensors"
    run(
        capsys, "predict", NAME, "--weights", weights, "--images", photographs, "-o", out,
        "--schedule", schedule, "--output", "embedding,top5",
    )  # fmt: skip
    found = rows(out)
    assert len(found) == len(paths) >= 100
    model = dsm_ext.from_timm(NAME, schedule, weights=weights)
    transform = transform_for(model)
    for start in range(0, len(paths), BATCH):
        some = paths[start : start + BATCH]
        pictures = [read_image(path) for path in some]
        images = torch.stack([transform(picture) for picture in pictures])
        logits, embeddings, _, _ = model.forward_with_features(images)
        for i, path in enumerate(some):
            row = found[str(path)]
            assert row["top5_class"][0] == logits[i].argmax(), path
            embedding = torch.tensor(row["embedding"])
            reduced = min(pictures[i].size) >= 2 * 2 * 248  # the shorter side becomes 248
            least = REDUCED[schedule] if reduced else 0.99999
            assert torch.cosine_similarity(embedding, embeddings[i], dim=0) > least, path
