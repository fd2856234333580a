import json
import shutil

import pytest
import torch

from dicom_node.installation import open_installation
from model.card import CARD_NAME, WEIGHTS_NAME, CheckpointError, default_checkpoint_folder, read_card, verify
from model.checkpoint import save_checkpoint
from model.network import AttentionVGG16
from tests.command import gliograde
from worker.checkpoints import (
    SHIPPED,
    add_checkpoint,
    checkpoints_folder,
    chosen_checkpoint,
    list_checkpoints,
    read_choice,
    use_checkpoint,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(5)
    card = read_card(default_checkpoint_folder()).model_copy(update={"name": "site", "version": "7"})
    save_checkpoint(folder, AttentionVGG16(batch_norm=False), card)
    return folder


@pytest.fixture
def brought(tmp_path, trained):
    """A checkpoint that a test may damage."""
    return shutil.copytree(trained, tmp_path / "brought")


def edit_card(folder, **changes):
    path = folder / CARD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_chosen_is_the_shipped_one(tmp_path):
    assert chosen_checkpoint(tmp_path) == default_checkpoint_folder()
    assert [each.name for each in list_checkpoints(tmp_path)] == [SHIPPED]


def test_add_use_and_back(tmp_path, trained):
    added = add_checkpoint(trained, tmp_path)
    assert added.name == f"site-7-{added.card.weights_sha256[:12]}"
    assert verify(added.folder) == added.card
    assert chosen_checkpoint(tmp_path) == default_checkpoint_folder()
    assert use_checkpoint(added.name, tmp_path).previous == SHIPPED
    assert chosen_checkpoint(tmp_path) == added.folder
    use_checkpoint(added.name, tmp_path)
    assert read_choice(tmp_path).previous == SHIPPED
    assert use_checkpoint(SHIPPED, tmp_path).previous == added.name
    assert chosen_checkpoint(tmp_path) == default_checkpoint_folder()
    assert added.folder.is_dir()


def test_adding_twice_changes_nothing(tmp_path, trained):
    first = add_checkpoint(trained, tmp_path)
    assert add_checkpoint(trained, tmp_path) == first
    assert [path.name for path in checkpoints_folder(tmp_path).iterdir()] == [first.name]


def test_the_same_weights_with_another_card_need_another_version(tmp_path, brought):
    first = add_checkpoint(brought, tmp_path)
    edit_card(brought, threshold=0.1)
    with pytest.raises(CheckpointError, match="installed with another card: give"):
        add_checkpoint(brought, tmp_path)
    assert read_card(first.folder) == first.card


def change_a_byte(folder):
    content = bytearray((folder / WEIGHTS_NAME).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.pt").write_bytes(b"x"), "is a pickle"),
        (change_a_byte, "changed or damaged; install"),
        (lambda folder: edit_card(folder, architecture="resnet50"), r"no card of schema 1 \(architecture"),
        (lambda folder: edit_card(folder, architecture="attention-vgg16-bn"), "not those of attention-vgg16"),
        (lambda folder: edit_card(folder, self_test=[0.25, -7.5]), "computes .* where its card states"),
        (lambda folder: edit_card(folder, self_test=None), "states no self-test: write"),
        (lambda folder: (folder / CARD_NAME).unlink(), r"no readable card\.json"),
    ],
)
def test_what_must_not_be_used_is_refused_and_leaves_no_trace(tmp_path, brought, damage, message):
    damage(brought)
    with pytest.raises(CheckpointError, match=message):
        add_checkpoint(brought, tmp_path / "data")
    assert [each.name for each in list_checkpoints(tmp_path / "data")] == [SHIPPED]
    folder = checkpoints_folder(tmp_path / "data")
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("name", ["nowhere", "../brought", ""])
def test_an_unknown_name_is_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(CheckpointError, match="there are shipped; add one"):
        use_checkpoint(name, tmp_path)


def test_damage_after_adding_is_seen_before_use(tmp_path, trained):
    added = add_checkpoint(trained, tmp_path)
    change_a_byte(added.folder)
    with pytest.raises(CheckpointError, match="changed or damaged"):
        use_checkpoint(added.name, tmp_path)
    assert chosen_checkpoint(tmp_path) == default_checkpoint_folder()


@pytest.mark.parametrize("content", ["", '{"in_use": "../../elsewhere"}'])
def test_a_damaged_choice_is_not_guessed(tmp_path, content):
    checkpoints_folder(tmp_path).mkdir()
    (checkpoints_folder(tmp_path) / "in-use.json").write_text(content)
    with pytest.raises(CheckpointError, match="remove it, and choose again"):
        chosen_checkpoint(tmp_path)


def test_commands_say_what_they_did_or_why_not(tmp_path, trained, brought):
    data = {"GLIOGRADE_DATA_FOLDER": str(tmp_path / "data")}
    added = gliograde("model", "add", trained, **data)
    assert added.returncode == 0, added.stderr
    name = added.stdout.split()[1].rstrip(".")
    assert gliograde("model", "use", name, **data).returncode == 0
    listed = gliograde("model", "list", **data).stdout
    assert any(name in line and "in use" in line for line in listed.splitlines())
    assert any("shipped" in line and "previous" in line for line in listed.splitlines())
    open_installation(tmp_path / "data")
    (brought / "model.pt").write_bytes(b"x")
    refused = gliograde("model", "add", brought, **data)
    assert refused.returncode == 2
    assert refused.stderr.startswith("gliograde: model.pt is a pickle")
    assert refused.stderr.count("\n") == 1
