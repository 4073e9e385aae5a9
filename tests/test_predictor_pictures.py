"""``Predictor`` on batches of pictures: files and pixels of every kind, whole and broken."""

import io
import re

import numpy as np
import pytest
import torch
from models import prepared
from pictures import TAKEN, colours, png16, tag, taken
from PIL import Image

import dsm_ext
from dsm_ext.images import transform_for

OUTPUTS = "embedding,top5,tokens"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = dsm_ext.from_timm(prepared(), "dsm:r=16,skip=1,local=2,window=7")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": [f"n{i}" for i in range(10)]}
    return model


@pytest.fixture(scope="module")
def predictor(model):
    return dsm_ext.Predictor(model, outputs=OUTPUTS)


def objects(cells):
    column = np.empty(len(cells), object)
    for row, cell in enumerate(cells):
        column[row] = cell
    return column


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def embedding(model, image):
    """The embedding of a picture by the preprocessing and the model alone."""
    images = transform_for(model)(image)[None]
    return model.forward_with_features(images).pooled.numpy()[0]


RGB = Image.fromarray(colours(70, 90))
FILES = {
    "PNG": encoded(RGB),
    "JPEG": encoded(RGB, "JPEG"),
    "CMYK": encoded(RGB.convert("CMYK"), "JPEG"),
    "grey": encoded(RGB.convert("L")),
    "palette": encoded(RGB.quantize(16)),
    "alpha": encoded(Image.fromarray(colours(70, 90, 4))),
    "16 bits": png16(colours(70, 90, 1).astype(np.uint16) * 257, 0).getvalue(),
    "turned": encoded(taken(RGB, 6), "PNG", exif=tag(6)),
    "animated": encoded(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", (90, 70))]),
}


def test_encoded_files(model, predictor):
    result = predictor({"bytes": objects(list(FILES.values())), "path": np.array(list(FILES))})
    assert result["path"].tolist() == list(FILES) and "bytes" not in result
    assert result["error"].tolist() == [""] * len(FILES)
    for row, (name, content) in enumerate(FILES.items()):
        wanted = embedding(model, Image.open(io.BytesIO(content)))
        assert np.allclose(result["embedding"][row], wanted, atol=1e-5), name
    rows = [list(FILES).index(name) for name in ("PNG", "turned")]
    assert np.array_equal(*result["embedding"][rows])


def test_all_orientations(predictor):
    files = [encoded(taken(RGB, turn), exif=tag(turn)) for turn in TAKEN]
    embeddings = predictor({"bytes": objects(files)})["embedding"]
    assert (embeddings == embeddings[0]).all()


GREY = colours(70, 90, 1)
PIXELS = {
    "RGB": (colours(70, 90), RGB),
    "of the model's size": (colours(56, 56), Image.fromarray(colours(56, 56))),
    "grey": (GREY[..., 0], Image.fromarray(GREY[..., 0])),
    "grey, one channel": (GREY, Image.fromarray(GREY[..., 0])),
    "grey and alpha": (colours(70, 90, 2), Image.fromarray(colours(70, 90, 2))),
    "alpha": (colours(70, 90, 4), Image.fromarray(colours(70, 90, 4))),
    "16 bits": (GREY[..., 0].astype(np.uint16) * 257, Image.fromarray(GREY[..., 0])),
    "16 bits in 32": (GREY[..., 0].astype(np.int32) * 257, Image.fromarray(GREY[..., 0])),
    "16 bits, colours": (colours(70, 90).astype(np.uint16) * 256 + 7, RGB),
    "black and white": (GREY[..., 0] > 127, Image.fromarray(np.uint8(255) * (GREY[..., 0] > 127))),
    "not contiguous": (colours(90, 70).transpose(1, 0, 2), Image.fromarray(
        np.ascontiguousarray(colours(90, 70).transpose(1, 0, 2)))),
}  # fmt: skip


def test_pixels_of_many_sizes(model, predictor):
    result = predictor({"image": objects([pixels for pixels, _ in PIXELS.values()])})
    assert result["error"].tolist() == [""] * len(PIXELS)
    for row, (name, (_, image)) in enumerate(PIXELS.items()):
        wanted = embedding(model, image)
        assert np.allclose(result["embedding"][row], wanted, atol=1e-5), name


@pytest.mark.parametrize("shape", [(3, 70, 90, 3), (2, 56, 56, 3), (2, 70, 90, 1), (2, 70, 90)])
def test_pixels_of_one_size(model, predictor, shape):
    pixels = colours(shape[1], shape[2], np.prod(shape[3:], dtype=int) * shape[0])
    pixels = np.ascontiguousarray(np.moveaxis(pixels.reshape(*shape[1:3], shape[0], -1), 2, 0))
    pixels = pixels.reshape(shape)
    pixels.flags.writeable = False  # as those in Ray's object store
    result = predictor({"image": pixels, "label": np.arange(shape[0])})
    assert result["label"].tolist() == list(range(shape[0]))
    for row, image in enumerate(pixels):
        wanted = embedding(model, Image.fromarray(image.squeeze()))
        assert np.allclose(result["embedding"][row], wanted, atol=1e-5)


def test_grey_models_take_colours():
    grey = dsm_ext.from_timm(prepared(in_chans=1), "dense")
    result = dsm_ext.Predictor(grey)({"image": colours(70, 90)[None]})
    assert np.allclose(result["embedding"][0], embedding(grey, RGB), atol=1e-5)


BROKEN = {
    "text": (b"no picture", "no known picture format"),
    "cut": (FILES["PNG"][:300], "image file is truncated"),
    "no bytes": (b"", "the file is empty"),
    "none": (None, "there is no picture"),
    "large": (encoded(Image.new("L", (200, 200))), "more than the limit of 10000"),
    "long": (np.zeros((30000, 1), np.uint8), "sides too unlike to be scaled"),
    "no pixels": (np.zeros((0, 9, 3), np.uint8), "the picture has no pixels: 9 x 0"),
    "channels first": (np.zeros((3, 9, 9), np.uint8), "expected pixels .* got .3, 9, 9."),
    "a vector": (np.zeros(9, np.uint8), "expected pixels .* got .9."),
    "32 bits": (np.full((9, 9), 70000, np.int32), "no certain scale"),
    "32 bits, colours": (np.full((9, 9, 3), 700, np.int32), "expected int32 pixels to be grey"),
}


def test_broken_pictures_are_rows(model):
    predictor = dsm_ext.Predictor(model, outputs=OUTPUTS, max_pixels=10000)
    cells = [FILES["PNG"], *(cell for cell, _ in BROKEN.values()), FILES["JPEG"]]
    result = predictor({"bytes": objects(cells)})
    assert result["error"][0] == result["error"][-1] == ""
    for row, (name, (_, message)) in enumerate(BROKEN.items(), 1):
        assert result["error"][row], name
        assert re.search(message, result["error"][row]), name
        for column in ("embedding", "top5_score", "tokens", "token_size"):
            assert np.isnan(result[column][row]).all()
        assert (result["top5_class"][row] == -1).all() and (result["token_source"][row] == -1).all()
        assert result["top5_name"][row] == [""] * 5
    alone = predictor({"bytes": objects([FILES["PNG"], FILES["JPEG"]])})
    for column in predictor.columns:
        assert np.array_equal(
            np.stack(list(alone[column])), np.stack([result[column][0], result[column][-1]])
        )


def test_all_batches_have_the_same_types(predictor):
    pa = pytest.importorskip("pyarrow")

    def types(batch):
        found = {}
        for name, column in predictor(batch).items():
            assert len(column) == len(batch["bytes"])
            of = column.dtype if column.dtype.kind not in "OU" else pa.array(column).type
            found[name] = (str(of), column.shape[1:])
        return found

    whole = types({"bytes": objects([FILES["PNG"]] * 3)})
    assert types({"bytes": objects([b"", b"1"])}) == whole
    assert types({"bytes": objects([FILES["PNG"], b""])}) == whole
    empty = types({"bytes": objects([])})
    assert {n: t for n, t in empty.items() if n != "top5_name"} == {
        n: t for n, t in whole.items() if n != "top5_name"
    }


def test_columns_of_pictures(model):
    png, jpeg = FILES["PNG"], FILES["JPEG"]
    named = dsm_ext.Predictor(model, image_column="photo")
    plain = dsm_ext.Predictor(model)
    wanted = plain({"bytes": objects([png])})["embedding"]
    of_hub = {"photo": objects([{"bytes": png, "path": "a.png"}]), "bytes": objects([jpeg])}
    result = named(of_hub)
    assert np.array_equal(result["embedding"], wanted) and result["bytes"][0] == jpeg
    assert np.array_equal(plain({"image": np.array([png])})["embedding"], wanted)
    both = plain({"image": objects([jpeg]), "bytes": objects([png])})
    assert np.array_equal(both["embedding"], wanted) and both["image"][0] == jpeg
    result = named({"photo": objects([{"bytes": None, "path": "a.png"}])})
    assert result["error"].tolist() == ["there is no picture"]


@pytest.mark.parametrize(
    "error, message, batch",
    [
        (ValueError, "expected a column bytes or image with pictures, got path", {"path": ["a"]}),
        (ValueError, "expected a column bytes or image with pictures, got no columns", {}),
        (ValueError, "without the column embedding", {"image": [b""], "embedding": [0]}),
        (ValueError, "without the column error", {"image": [b""], "error": [0]}),
        (TypeError, "or as pixels of uint8, got 'a.png'", {"image": ["a.png"]}),
        (TypeError, "or as pixels of uint8, got float32", {"image": [np.zeros((9, 9, 3), "f")]}),
        (TypeError, "or as pixels of uint8, got float32", {"image": np.zeros((1, 9, 9, 3), "f")}),
    ],
)
def test_bad_batches(predictor, error, message, batch):
    batch = {n: c if isinstance(c, np.ndarray) else objects(c) for n, c in batch.items()}
    with pytest.raises(error, match=message):
        predictor(batch)


def test_threads_decode_the_same(model, predictor):
    before = torch.get_num_threads()
    cells = objects([*FILES.values(), b""])
    alone = predictor({"bytes": cells})
    try:
        torch.set_num_threads(3)
        together = predictor({"bytes": cells})
    finally:
        torch.set_num_threads(before)
    assert together["error"].tolist() == alone["error"].tolist()
    assert np.allclose(together["embedding"], alone["embedding"], atol=1e-5, equal_nan=True)
