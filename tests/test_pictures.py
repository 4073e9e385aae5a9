"""Pictures of merged patches, and ``dsm-ext show``, which draws them."""

import numpy as np
import pytest
import torch
from commands import run
from models import prepared
from PIL import Image

import dsm_ext
from dsm_ext.cli import main, model_arguments
from dsm_ext.drawing.sheets import GAP, HEAD, _font
from dsm_ext.images import read_image, transform_for
from dsm_ext.pictures import enlarge, filmstrip, sheet, to_image, visualize

NAME = "vit_tiny_patch16_224"
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
SIDE, FRAME = 448, 336  # sides of the pictures that the command draws


def plain(color, height, width):
    return (torch.tensor(color).float() / 255)[:, None, None].expand(3, height, width)


def cells(color, grid, patch, border):
    """Patches of one colour that did not merge, with lines of two pixels between them."""
    pixels = np.full((grid[0] * patch, grid[1] * patch, 3), color, dtype=np.uint8)
    for row in range(1, grid[0]):
        pixels[row * patch - 1 : row * patch + 1] = border
    for column in range(1, grid[1]):
        pixels[:, column * patch - 1 : column * patch + 1] = border
    return pixels


def test_an_outline_lies_between_groups():
    image = torch.zeros(3, 4, 6)
    image[:, :, 3:] = 0.8
    d, g = BLACK, (204, 204, 204)
    columns = np.array(visualize(image, torch.tensor([4, 9, 4, 9]), (2, 2), outline=RED))
    assert (columns == np.array([[d, d, RED, g, g, g]] * 4)).all()
    rows = np.array(visualize(image, torch.tensor([0, 0, 1, 1]), (2, 2), outline=RED))
    m = (102, 102, 102)
    assert (rows == np.array([[m] * 6, [RED] * 6, [m] * 6, [m] * 6])).all()


def test_without_a_colour_outlines_show_on_either_side():
    image = torch.zeros(3, 2, 8)
    image[:, :, 4:] = 0.8
    d, g = BLACK, (204, 204, 204)
    picture = np.array(visualize(image, torch.tensor([0, 1, 2, 3]), (1, 4)))
    assert (picture == np.array([[d, WHITE, d, WHITE, g, BLACK, g, g]] * 2)).all()
    together = visualize(image, torch.zeros(4), (1, 4))
    assert together.getcolors() == [(16, (102, 102, 102))]


@pytest.mark.parametrize("color, border", [((0, 0, 200), WHITE), ((250, 230, 200), BLACK)])
def test_outlines_are_wider_between_large_patches(color, border):
    image = plain(color, 34, 85)
    picture = np.array(visualize(image, torch.arange(10), (2, 5)))
    assert (picture == cells(color, (2, 5), 17, border)).all()


def test_patches_of_a_group_share_a_colour_wherever_they_are():
    image = torch.zeros(1, 6, 4)  # 3 x 2 patches
    image[:, :2, :2] = 1
    picture = visualize(image, torch.tensor([7, 2, 2, 2, 2, 7]), (3, 2), outline=RED)
    assert picture.size == (4, 6)
    assert picture.getpixel((0, 0)) == picture.getpixel((3, 5)) == (128, 128, 128)
    assert picture.getpixel((3, 0)) == picture.getpixel((0, 5)) == BLACK


@pytest.mark.parametrize(
    "shape, grid, side, size",
    [
        ((3, 224, 224), (14, 14), 448, (448, 448)),
        ((3, 518, 518), (37, 37), 448, (444, 444)),
        ((1, 24, 40), (3, 5), 100, (60, 100)),
        ((3, 40, 20), (10, 10), 200, (200, 100)),
        ((3, 16, 64), (2, 8), 8, (16, 64)),
    ],
)
def test_enlarged_patches_are_whole(shape, grid, side, size):
    image = torch.rand(shape)
    large = enlarge(image, grid, side)
    assert large.shape == (shape[0], *size)
    assert large.min() >= 0 and large.max() <= 1
    assert enlarge(torch.full(shape, 0.25), grid, side) == pytest.approx(0.25)
    assert all(size[i] % grid[i] == 0 for i in range(2))


def test_a_sheet_keeps_shapes():
    wide = Image.new("RGB", (40, 20), RED)
    drawn = sheet([[wide, wide], [wide, wide], [wide, wide]], ["a", "b"], tile=80)
    assert drawn.size == (GAP + 2 * (80 + GAP), HEAD + 3 * (40 + GAP))
    assert drawn.getpixel((GAP, HEAD)) == drawn.getpixel((GAP + 79, HEAD + 39)) == RED
    assert drawn.getpixel((GAP + 80, HEAD)) == drawn.getpixel((GAP, HEAD + 40)) == WHITE
    assert sheet([[wide.resize((30, 30))]], ["a"]).size == (GAP + 224 + GAP, HEAD + 224 + GAP)
    assert sheet([], ["a", "b"], tile=30).size == (GAP + 2 * (30 + GAP), HEAD)


def test_a_title_stays_in_its_column():
    long = "dsm:r=16,skip=1,local=6,window=7 - 21 tokens"
    assert _font("dsm", 224).size == 18
    assert _font(long, 300).getlength(long) <= 300
    assert _font(long, 20).size == 9


@pytest.mark.parametrize(
    "count, columns, across, down",
    [(12, 7, 7, 2), (24, 7, 7, 4), (8, 7, 5, 2), (4, 7, 5, 1), (0, 7, 1, 1), (2, 1, 1, 3)],
)
def test_a_filmstrip_fills_its_rows(count, columns, across, down):
    image = plain(RED, 16, 24)
    sources = [torch.zeros(6)] * count
    strip = filmstrip(image, sources, ["a"] * count, (2, 3), columns=columns)
    assert strip.size == (GAP + across * (24 + GAP), down * (HEAD + 16 + GAP))
    for frame in range(across * down):
        corner = (
            GAP + frame % across * (24 + GAP),
            HEAD + frame // across * (HEAD + 16 + GAP),
        )
        assert strip.getpixel(corner) == (RED if frame <= count else WHITE)


def test_a_filmstrip_starts_with_the_input():
    image = torch.rand(3, 8, 8)
    strip = filmstrip(image, [torch.arange(4)], ["one"], outline=RED)
    frames = [strip.crop((left, HEAD, left + 8, HEAD + 8)) for left in (GAP, GAP + 8 + GAP)]
    assert frames[0] == to_image(image)
    assert frames[1] == visualize(image, torch.arange(4), outline=RED)


@pytest.mark.parametrize(
    "titles, columns, source, message",
    [
        ([], 7, torch.zeros(4), r"filmstrip: .* each of 1 sources .* got 0 titles"),
        (["a"], 0, torch.zeros(4), "columns to be positive, got 1 titles and 0"),
        (["a"], 7, torch.zeros(5), "visualize: expected source to be"),
    ],
)
def test_filmstrip_refuses_what_does_not_fit(titles, columns, source, message):
    with pytest.raises(ValueError, match=message):
        filmstrip(torch.zeros(3, 4, 4), [source], titles, (2, 2), columns=columns)


@pytest.fixture
def weights(vit_tiny_file):
    return vit_tiny_file


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        pixels = torch.randint(256, (20, 25, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((250, 200)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def tiny(monkeypatch):
    """A function that makes the command take this model in place of the named one."""

    def use(model):
        monkeypatch.setattr(model_arguments, "trained_model", lambda args: model)

    return use


def size_of(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def cut(path, column, row=0, size=(SIDE, SIDE)):
    """One picture of a sheet."""
    left, top = GAP + column * (size[0] + GAP), HEAD + row * (size[1] + GAP)
    with Image.open(path) as image:
        return np.array(image.crop((left, top, left + size[0], top + size[1])))


def test_show(capsys, weights, pictures, tmp_path):
    out = tmp_path / "new" / "out"
    printed = run(
        capsys, "show", NAME, *pictures, "--weights", weights, "--schedule",
        "dense dsm:r=16 tome:r=13", "-o", out,
    ).out  # fmt: skip
    names = [f"{i}-{s}.png" for i in (0, 1) for s in ("dense", "dsm_r=16", "tome_r=13")]
    assert {p.name for p in out.iterdir()} == {"sheet.png", *names}
    assert printed.splitlines() == [str(out / name) for name in (*names, "sheet.png")]
    assert size_of(out / "sheet.png") == (GAP + 4 * (SIDE + GAP), HEAD + 2 * (SIDE + GAP))
    for name in names:
        assert size_of(out / name) == (GAP + 7 * (FRAME + GAP), 2 * (HEAD + FRAME + GAP))
    drawn = [cut(out / "sheet.png", column, row) for row in range(2) for column in range(4)]
    assert len({picture.tobytes() for picture in drawn}) == 8


def test_show_draws_the_groups_that_the_model_makes(capsys, tiny, tmp_path):
    timm_model = prepared(img_size=(24, 40), patch_size=8, num_classes=0)  # 3 x 5 patches, no head
    tiny(timm_model)
    color = (200, 100, 50)
    Image.new("RGB", (90, 60), color).save(tmp_path / "x.png")
    out = tmp_path / "out"
    run(capsys, "show", "any", tmp_path / "x.png", "--schedule", "dense tome:r=2", "-o", out)
    size = (450, 270)  # patches of 90 x 90
    image, dense, merged = (cut(out / "sheet.png", column, size=size) for column in range(3))
    assert (image == color).all()
    assert (dense == cells(color, (3, 5), 90, WHITE)).all()

    model = dsm_ext.from_timm(timm_model, "tome:r=2")
    source = model.trace(transform_for(timm_model)(read_image(tmp_path / "x.png"))[None]).source[0]
    assert len(source.unique()) == 15 - 4 * 2
    expected = visualize(plain(color, 270, 450), source, (3, 5))
    assert (merged == np.array(expected)).all()
    frame = (GAP + 5 * (335 + GAP), HEAD + 201 + GAP)  # patches of 67 x 67, the input and 4 blocks
    assert size_of(out / "x-tome_r=2.png") == frame


def test_show_names_what_cannot_be_decoded(capsys, tiny, pictures, tmp_path):
    tiny(prepared())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    out = tmp_path / "out"
    given = [broken, pictures[0], tmp_path / "none.png"]
    output = run(capsys, "show", "any", *given, "-o", out, status=1)
    assert "broken.png cannot be decoded" in output.err
    assert "no such picture" in output.err
    assert "2 of 3 pictures could not be used" in output.err
    assert {p.name for p in out.iterdir()} == {"sheet.png", "0-dsm.png"}
    assert size_of(out / "sheet.png")[1] == HEAD + SIDE + GAP

    nothing = tmp_path / "nothing"
    assert run(capsys, "show", "any", broken, "-o", nothing, status=1).out == ""
    assert list(nothing.iterdir()) == []


def test_show_splits_sheets_and_tells_pictures_of_one_name_apart(capsys, tiny, pictures, tmp_path):
    tiny(prepared())
    out = tmp_path / "out"
    run(capsys, "show", "any", *[pictures[0]] * 9, "--schedule", "dense dense", "-o", out)
    strips = {"0-dense.png", *(f"0-{i}-dense.png" for i in range(2, 10))}
    assert {p.name for p in out.iterdir()} == {"sheet-1.png", "sheet-2.png", *strips}
    assert size_of(out / "sheet-1.png")[1] == HEAD + 8 * (SIDE + GAP)
    assert size_of(out / "sheet-2.png") == (GAP + 2 * (SIDE + GAP), HEAD + SIDE + GAP)


def test_show_refuses_before_it_writes(capsys, tiny, pictures, tmp_path):
    out = tmp_path / "out"
    command = ["any", pictures[0], "-o"]
    for arguments, message in [
        ([], "expected --weights FILE or --pretrained"),
        (["--weights", "none.pt"], "timm has no model named 'any'"),
        (["--threads", "0"], "--threads to be positive"),
    ]:
        output = run(capsys, "show", *command, out, *arguments, status=2)
        assert message in output.err
        assert len(output.err.splitlines()) == 1
    tiny(prepared())
    assert "r of block 0" in run(
        capsys, "show", *command, out, "--schedule", "dense tome:r=150", status=2
    ).err  # fmt: skip
    assert not out.exists()
    file = tmp_path / "file"
    file.write_text("")
    for blocked in (file, file / "below"):
        output = run(capsys, "show", *command, blocked, status=2)
        assert str(file) in output.err
        assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["-o", "out"], ["x.png"], ["x.png", "-o", "out", "--schedule", " "]]
)
def test_show_usage_errors(arguments):
    with pytest.raises(SystemExit) as error:
        main(["show", NAME, *arguments])
    assert error.value.code == 2
