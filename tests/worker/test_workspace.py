import pytest

from worker.study.workspace import list_workspaces, remove_workspaces, workspace_of


def test_files_appear_only_when_the_step_has_ended_well(tmp_path):
    workspace = workspace_of(tmp_path, 7)
    with workspace.publish("prepare", 1) as folder:
        (folder / "stack").write_text("whole")
        assert not workspace.of("prepare").exists()
    assert (workspace.of("prepare") / "stack").read_text() == "whole"


def test_a_step_that_fails_leaves_nothing(tmp_path):
    workspace = workspace_of(tmp_path, 7)

    def fail():
        with workspace.publish("prepare", 1) as folder:
            (folder / "stack").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(workspace.folder.iterdir()) == []


def test_the_first_to_publish_stays(tmp_path):
    workspace = workspace_of(tmp_path, 7)
    with workspace.publish("prepare", 1) as zombie:
        (zombie / "stack").write_text("zombie")
        with workspace.publish("prepare", 2) as second:
            (second / "stack").write_text("second")
    assert (workspace.of("prepare") / "stack").read_text() == "second"
    assert len(list(workspace.folder.iterdir())) == 1


def test_workspaces_are_listed_and_removed_by_job(tmp_path):
    for job_id in (1, 2):
        with workspace_of(tmp_path, job_id).publish("prepare", 1):
            pass
    assert list_workspaces(tmp_path) == {1, 2}
    remove_workspaces(tmp_path, {1})
    assert list_workspaces(tmp_path) == {2}
    assert list_workspaces(tmp_path / "absent") == set()
