"""Which pictures ``find_images`` finds in a folder, and which class ``label_images`` gives them."""

import os
import random
import shutil

import pytest
from PIL import Image
from timm.data import ImageNetInfo, create_dataset

from dsm_ext.images import find_images, label_images, read_image
from dsm_ext_reader import folders

TENCH, SHARK = "n01440764", "n01484850"  # classes 0 and 2 of ImageNet-1k


def put(root, *names):
    """Make empty files: ``find_images`` does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root):
    return [str(path.relative_to(root)) for path in find_images(root)]


def labels(root, num_classes, label_names=None):
    """The class of the pictures in each folder."""
    paths = find_images(root)
    given = label_images(paths, root, num_classes, label_names)
    return {str(p.relative_to(root).parent): k for p, k in zip(paths, given, strict=True)}


def test_endings_are_those_that_pillow_reads(tmp_path, capsys):
    names = ["a.jfif", "b.jpe", "c.gif", "d.pgm", "e.JPG", "f.mpo", "g.tga", "h.jp2", "i.WebP"]
    put(tmp_path, *names)
    assert found(tmp_path) == names
    assert capsys.readouterr().err == ""
    others = {".pdf", ".eps", ".ps", ".mpg", ".wmf", ".h5", ".txt", ""}
    assert not folders.suffixes() & others
    assert (".avif" in folders.suffixes()) == ("AVIF" in Image.OPEN)


def test_found_endings_are_decoded(tmp_path):
    for suffix in ("jfif", "jpe", "gif", "pgm", "tga", "mpo", "bmp", "ico"):
        Image.new("RGB", (16, 16), (90, 90, 90)).save(tmp_path / f"x.{suffix}")
    assert [read_image(path).getpixel((3, 3))[1] for path in find_images(tmp_path)] == [90] * 8


def test_files_passed_over_are_counted(tmp_path, capsys):
    put(tmp_path, "a/1.png", "a/labels.txt", "b/notes.TXT", "b/film.mp4", "b/LICENSE")
    assert found(tmp_path) == ["a/1.png"]
    said = capsys.readouterr().err
    assert (
        "4 of 5 files (" in said and "2 .txt" in said and "1 .mp4" in said and "1 no ending" in said
    )
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"no pictures in .* 1 \.mp4, 1 \.txt, 1 no ending"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_images(tmp_path / "none")


def test_hidden_names_are_passed_over(tmp_path, capsys):
    root = tmp_path / ".cache"  # a hidden folder above the pictures does not hide them
    put(root, "a/1.png", "a/._1.png", "a/.hidden.png", ".ipynb_checkpoints/1-checkpoint.png")
    put(root, "a/.ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "b/2.png", ".DS_Store")
    assert found(root) == ["a/1.png", "b/2.png"]
    assert labels(root, 2) == {"a": 0, "b": 1}
    assert capsys.readouterr().err == ""


def test_links_are_followed(tmp_path, capsys):
    put(tmp_path, "store/cats/1.png", "store/dogs/2.png", "pictures/mice/3.png", "one.png")
    root = tmp_path / "pictures"
    (root / "cat").symlink_to(tmp_path / "store" / "cats")
    (root / "dog").symlink_to("../store/dogs")
    (root / "fox").symlink_to("../store/dogs")
    (root / "mice" / "4.png").symlink_to(tmp_path / "one.png")
    assert found(root) == ["cat/1.png", "dog/2.png", "fox/2.png", "mice/3.png", "mice/4.png"]
    assert labels(root, 4) == {"cat": 0, "dog": 1, "fox": 2, "mice": 3}
    os.mkfifo(root / "pipe.png")
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert len(find_images(linked)) == 5
    assert "linked, as they are not files: 1 pipe" in capsys.readouterr().err


def test_links_that_lead_back_are_not(tmp_path, capsys):
    put(tmp_path, "pictures/a/1.png", "pictures/b/2.png")
    root = tmp_path / "pictures"
    (root / "a" / "self").symlink_to(".")
    (root / "a" / "parent").symlink_to("..")
    (root / "a" / "above").symlink_to(tmp_path)
    (root / "nothing").symlink_to("nothing")
    assert [name for name in found(root) if name.endswith(".png")] == ["a/1.png", "b/2.png"]
    assert capsys.readouterr().err.count("leads back") == 3
    # Two folders that link to each other.
    for name in ("self", "parent", "above"):
        (root / "a" / name).unlink()
    (root / "a" / "b").symlink_to("../b")
    (root / "b" / "a").symlink_to("../a")
    assert found(root) == ["a/1.png", "a/b/2.png", "b/2.png", "b/a/1.png"]


def test_a_folder_that_cannot_be_listed_ends_the_run(tmp_path, monkeypatch):
    """Without the pictures of this folder, the other classes would get other numbers."""
    put(tmp_path, "a/1.png", "b/1.png")
    real = folders.os.scandir

    def scandir(folder):
        if str(folder).endswith("a"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    with pytest.raises(PermissionError, match=r"dsm_ext: .*a cannot be listed: Permission denied"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    "names, num_classes",
    [
        (["0", "1", "2", "10", "100"], 101),
        (["000", "001", "010", "100"], 1000),
        (["3", "7"], 8),
        ([str(i) for i in range(1000)], 1000),
    ],
)
def test_numbers_are_the_classes(names, num_classes, tmp_path):
    put(tmp_path, *(f"{name}/x.png" for name in names))
    assert labels(tmp_path, num_classes) == {name: int(name) for name in names}


@pytest.mark.parametrize(
    "names, num_classes, message",
    [
        (["1", "2", "3"], 3, "folder 3 in .* is not a class of the model.*expected 0 to 2"),
        (["-1", "0"], 3, "folder -1 in .* expected 0 to 2"),
        (["20260101"], 3, "folder 20260101 in"),
        (["0", "1", "2"], 2, "has 3 folders, the model 2 classes"),
    ],
)
def test_numbers_that_are_no_classes(names, num_classes, message, tmp_path):
    put(tmp_path, *(f"{name}/x.png" for name in names))
    with pytest.raises(ValueError, match=message):
        labels(tmp_path, num_classes)


@pytest.mark.parametrize(
    "names",
    [
        ["class 1", "class 2", "class 10"],
        ["b", "A", "c", "B2", "a10", "a9"],
        ["1st", "2nd", "10th", "other"],
        ["0", "1", "10", "2", "other"],
        ["animals/cat", "animals/dog", "plants/fern", "plants/oak/old"],
        ["x/day", "x/night", "y/day"],
        ["2\u00b2", "\u00b2", "a\u00b2", "\u0663", "4"],
    ],
)
def test_other_names_are_in_timms_order(names, tmp_path):
    root = tmp_path / "root"
    put(root, *(f"{name}/{i}.png" for i, name in enumerate(names)))
    if "\u00b2" in names:  # timm takes a superscript 2 for a digit, and fails
        ours = labels(root, 10)
        assert sorted(ours, key=ours.get) == ["2\u00b2", "\u0663", "4", "a\u00b2", "\u00b2"]
        return
    reader = create_dataset("", str(root)).reader
    expected = {name: reader.class_to_idx[name.rsplit("/", 1)[-1]] for name in names}
    assert labels(root, 10) == expected
    assert [str(path) for path in find_images(root)] == [path for path, _ in reader.samples]


def test_labels_do_not_depend_on_the_order_of_paths(tmp_path):
    put(tmp_path, *(f"k{i}/x.png" for i in range(12)))
    paths = find_images(tmp_path)
    random.Random(0).shuffle(paths)
    expected = [int(path.parent.name[1:]) for path in paths]
    assert label_images(paths, tmp_path, 12) == expected
    assert label_images(list(map(str, paths)), str(tmp_path), 12) == expected


def test_fewer_folders_than_classes_are_said(tmp_path, capsys):
    put(tmp_path, "a/1.png", "b/2.png")
    assert labels(tmp_path, 2) == {"a": 0, "b": 1}
    assert capsys.readouterr().err == ""
    labels(tmp_path, 10)
    assert "has 2 folders of pictures, the model 10 classes" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has 2 folders, the model 1 classes"):
        labels(tmp_path, 1)


def test_one_name_in_several_places_is_said(tmp_path, capsys):
    put(tmp_path, "cats/images/1.png", "dogs/images/2.png")
    assert labels(tmp_path, 1) == {"cats/images": 0, "dogs/images": 0}
    assert "2 folders named images in" in capsys.readouterr().err


def test_wordnet_ids_are_the_classes_of_imagenet(tmp_path, capsys):
    put(tmp_path, f"{SHARK}/1.png", f"train/{TENCH}/images/1.png", f"any/{SHARK}_shark.png")
    put(tmp_path, f"ILSVRC2012_val_00000001_{TENCH}.JPEG")
    assert labels(tmp_path, 1000) == {SHARK: 2, f"train/{TENCH}/images": 0, "any": 2, ".": 0}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("subset, count", [("imagenet-21k-goog", 21843), ("imagenet-12k", 11821)])
def test_wordnet_ids_of_larger_imagenets(subset, count, tmp_path):
    put(tmp_path, f"{SHARK}/1.png", f"{TENCH}/1.png")
    names = ImageNetInfo(subset).label_names()
    assert labels(tmp_path, count) == {name: names.index(name) for name in (SHARK, TENCH)}


@pytest.mark.parametrize(
    "kind", [list, tuple, lambda names: {str(i): n for i, n in enumerate(names)}]
)
def test_wordnet_ids_in_a_models_own_order(kind, tmp_path):
    put(tmp_path, f"{SHARK}/1.png", f"{TENCH}/1.png")
    own = kind([SHARK, "n01494475", TENCH])
    assert labels(tmp_path, 3, own) == {SHARK: 0, TENCH: 2}
    turned = ImageNetInfo().label_names()[::-1]
    assert labels(tmp_path, 1000, turned) == {SHARK: 997, TENCH: 999}


def test_a_models_own_names(tmp_path, capsys):
    put(tmp_path, "bird/1.png", "cat/1.png", "dog/1.png")
    assert labels(tmp_path, 3, ["dog", "bird", "cat"]) == {"bird": 1, "cat": 2, "dog": 0}
    assert capsys.readouterr().err == ""
    assert labels(tmp_path, 3, ["Hund", "Vogel", "Katze"]) == {"bird": 0, "cat": 1, "dog": 2}
    assert "no folder in" in capsys.readouterr().err  # the message goes on: has the name of a class
    assert labels(tmp_path, 3, ["dog", "cat"]) == {"bird": 0, "cat": 1, "dog": 2}
    assert "2 label names are not used: the model has 3 classes" in capsys.readouterr().err
    with pytest.raises(ValueError, match="folder bird in .* is not one of the model's label names"):
        labels(tmp_path, 4, ["dog", "cat", "cow", "pig"])
    with pytest.raises(ValueError, match="folder dog in .* is not one of the model's label names"):
        labels(tmp_path, 4, ["dog", "cat", "bird", "dog"])  # two classes are named dog


def test_what_people_call_a_class(tmp_path, capsys):
    put(tmp_path, "bird/1.png", "cat, tom/1.png", "dog/1.png")
    paths = find_images(tmp_path)
    given = label_images(paths, tmp_path, 3, ["n1", "n2", "n3"], ["dog, hound", "cat, tom", "bird"])
    assert dict(zip((p.parent.name for p in paths), given, strict=True)) == {
        "bird": 2, "cat, tom": 1, "dog": 0,
    }  # fmt: skip
    assert capsys.readouterr().err == ""


def test_a_models_own_names_that_are_numbers(tmp_path):
    put(tmp_path, "1/x.png", "5/x.png", "7/x.png")
    assert labels(tmp_path, 3, ["7", "5", "1"]) == {"1": 2, "5": 1, "7": 0}


def test_a_number_and_a_wordnet_id(tmp_path):
    put(tmp_path, f"0/{TENCH}_1.png", f"2/{SHARK}_1.png", "7/x.png")
    assert labels(tmp_path, 1000) == {"0": 0, "2": 2, "7": 7}
    put(tmp_path, f"5/{SHARK}_1.png")
    with pytest.raises(ValueError, match="class 5 by its folder's number and of class 2 by its"):
        labels(tmp_path, 1000)


def test_pictures_without_a_label(tmp_path):
    put(tmp_path, "a/1.png", "2.png")
    with pytest.raises(ValueError, match=r"no label for .*2\.png"):
        labels(tmp_path, 10)
    (tmp_path / "2.png").unlink()
    put(tmp_path, "a/n99999999_x.png")
    with pytest.raises(ValueError, match=r"no label for .*n99999999_x\.png"):
        labels(tmp_path, 1000)
    (tmp_path / "a" / "n99999999_x.png").unlink()
    put(tmp_path, f"{SHARK}/1.png")
    with pytest.raises(ValueError, match=r"no label for .*a/1\.png: other pictures have WordNet"):
        labels(tmp_path, 1000)
    with pytest.raises(ValueError, match="is not below"):
        label_images([tmp_path / "x.png"], tmp_path / "a", 10)


def test_a_walk_is_in_natural_order_where_a_folder_has_few_files(tmp_path, monkeypatch):
    put(tmp_path, "b10/2.png", "b10/10.png", "b9.png", "A/x.png")
    expected = ["A/x.png", "b9.png", "b10/2.png", "b10/10.png"]
    assert list(folders.walk(tmp_path, folders.Passed())) == expected
    monkeypatch.setattr(folders, "MANY", 1)
    expected = ["A/x.png", "b10/10.png", "b10/2.png", "b9.png"]
    assert list(folders.walk(str(tmp_path), folders.Passed())) == expected
    names = folders.walk(tmp_path, folders.Passed(), endings={".png"}, ordered=False)
    assert sorted(names) == expected
