import json
import subprocess
import sys

import pytest

from model.card import CARD_NAME, WEIGHTS_NAME, CheckpointError, read_card, verify


def edit_card(folder, **changes):
    path = folder / CARD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_label_and_statement_come_from_the_card(checkpoint_folder):
    card = read_card(checkpoint_folder)
    assert card.label == f"test 1 {card.weights_sha256[:12]}"
    assert card.is_simulated
    assert "simulated" in card.training_statement
    assert "not for clinical use" in card.training_statement
    real = card.model_copy(update={"training": card.training.model_copy(update={"kind": "real"})})
    assert not real.is_simulated
    assert "simulated" not in real.training_statement


def test_card_and_digest_need_no_torch(checkpoint_folder):
    code = (
        "import sys; from pathlib import Path; from model.card import verify; "
        "verify(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(checkpoint_folder)], check=True)


@pytest.mark.parametrize("position", [0, 5_000, -1])
def test_one_changed_byte_is_refused(checkpoint_folder, position):
    path = checkpoint_folder / WEIGHTS_NAME
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="changed or damaged; install"):
        verify(checkpoint_folder)


def test_absent_folder_card_or_weights_are_told_apart(checkpoint_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"no readable card\.json"):
        verify(tmp_path / "nowhere")
    (checkpoint_folder / WEIGHTS_NAME).unlink()
    assert read_card(checkpoint_folder)
    with pytest.raises(CheckpointError, match=r"no readable model\.safetensors"):
        verify(checkpoint_folder)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "pytorch_model.bin"])
def test_pickles_are_refused_unread(checkpoint_folder, name):
    pickle = checkpoint_folder / name
    pickle.write_bytes(b"not even a pickle")
    for place in (checkpoint_folder, pickle):
        with pytest.raises(CheckpointError, match="is a pickle"):
            verify(place)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"architecture": "resnet50"},
        {"unheard_of": 1},
        {"threshold": 1.5},
        {"temperature": 0},
        {"name": "a b/../c"},
    ],
)
def test_a_card_of_another_schema_is_refused(checkpoint_folder, changes):
    edit_card(checkpoint_folder, **changes)
    field = next(iter(changes))
    with pytest.raises(CheckpointError, match=f"no card of schema 1 .*{field}"):
        read_card(checkpoint_folder)


def test_a_damaged_card_is_refused(checkpoint_folder):
    (checkpoint_folder / CARD_NAME).write_bytes(b'{"name": "\xff')
    with pytest.raises(CheckpointError, match="no card of schema 1"):
        read_card(checkpoint_folder)
