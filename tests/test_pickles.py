"""All public objects can be pickled and copied, so that other processes can take them."""

import copy
import pickle

import pytest
import torch
from models import small

import dsm_ext
from dsm_ext import Global, Local, Schedule

SCHEDULE = Schedule([None, Local(8, 7), [Local(8, 7), Global(4)], Global(2)], proportional=False)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    fast = dsm_ext.from_timm(small(num_classes=3), SCHEDULE)
    dsm_ext.export(fast, folder)
    unknown = dsm_ext.model_info(folder)
    fast.pretrained_cfg = {
        "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "label_names": ["a", "b", "c"],
    }  # fmt: skip
    dsm_ext.export(fast, folder)
    info = dsm_ext.model_info(folder)
    images = torch.randn(2, 3, 56, 56)
    return {
        "BuildInfo": dsm_ext.build_info(),
        "Config": fast.config,
        "Intermediate": fast.forward_intermediates(images, [0])[0],
        "MergeRule": SCHEDULE.rule,
        "ModelInfo": info,
        "ModelInfo, unknown": unknown,
        "Outputs": fast.forward_with_features(images),
        "Plan": fast.plan,
        "PlannedBlock": fast.plan.blocks[2],
        "Preprocessing": info.preprocessing,
        "Preprocessing, unknown": unknown.preprocessing,
        "Schedule": SCHEDULE,
        "Step": SCHEDULE[2][0],
        "Trace": fast.trace(images),
    }


NAMES = [
    "BuildInfo", "Config", "Intermediate", "MergeRule", "ModelInfo", "ModelInfo, unknown",
    "Outputs",
    "Plan", "PlannedBlock", "Preprocessing", "Preprocessing, unknown", "Schedule", "Step", "Trace",
]  # fmt: skip


def state_of(thing):
    """The values of all properties."""
    if isinstance(thing, tuple):
        return [value.nan_to_num(nan=-1).tolist() for value in thing]  # NaN equals nothing
    names = [n for n in dir(type(thing)) if isinstance(getattr(type(thing), n), property)]
    return {name: getattr(thing, name) for name in names} | {"text": str(thing)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_has_the_same_values(things, name, protocol):
    thing = things[name]
    for twin in (
        pickle.loads(pickle.dumps(thing, protocol)),
        copy.deepcopy(thing),
        copy.copy(thing),
    ):
        assert type(twin) is type(thing)
        before, after = state_of(thing), state_of(twin)
        if name.startswith("ModelInfo"):  # its text has the addresses of its parts
            before.pop("text"), after.pop("text")
        if name in ("Plan", "PlannedBlock", "BuildInfo"):
            before.pop("text", None), after.pop("text", None)
        assert before == after


def test_every_public_class_is_tried():
    classes = {n for n in dsm_ext.__all__ if isinstance(getattr(dsm_ext, n), type)}
    elsewhere = {"Predictor", "VisionTransformer"}  # test_predictor_models.py, test_model.py
    assert classes - elsewhere <= set(NAMES)


def test_a_spawned_process_takes_preprocessing(things):
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Pictures(things["Preprocessing"]), num_workers=1, multiprocessing_context="spawn"
    )
    (batch,) = loader
    expected = things["Preprocessing"](torch.full((60, 70, 3), 7, dtype=torch.uint8))
    assert torch.equal(batch[0], expected)


class Pictures:
    def __init__(self, preprocessing):
        self.preprocessing = preprocessing

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.preprocessing(torch.full((60, 70, 3), 7, dtype=torch.uint8))
