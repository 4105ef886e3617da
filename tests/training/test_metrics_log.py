"""The file of metrics, opened again after a run was stopped."""

from cnnpool.training.metrics_log import open_log


def write(workdir, columns, *epochs, resume=99, **values):
    with open_log(workdir, resume_epoch=resume, columns=columns, tensorboard=False) as log:
        for epoch in epochs:
            log.append(epoch, 0, **values)
    return (workdir / "metrics.csv").read_text().splitlines()


def test_rows_that_will_be_computed_again_go(tmp_path):
    write(tmp_path, ("a",), 1, 2, 3, a=0.5)
    assert write(tmp_path, ("a",), resume=2) == ["epoch,seed,a", "1,0,0.5", "2,0,0.5"]


def test_a_row_that_was_torn_by_a_kill_goes(tmp_path):
    write(tmp_path, ("a", "b"), 1, a=0.25, b=0.125)
    for torn in ("2,0", "2,0,0.25,0.1"):
        with (tmp_path / "metrics.csv").open("a", newline="") as file:
            file.write(torn)
        assert write(tmp_path, ("a", "b")) == ["epoch,seed,a,b", "1,0,0.25,0.125"]


def test_other_columns_than_before_lose_no_number(tmp_path):
    write(tmp_path, ("a", "b"), 1, a=1.0, b=2.0)
    assert write(tmp_path, ("b", "c"), 2, b=3.0, c=4.0) == [
        "epoch,seed,b,c,a",
        "1,0,2.0,,1.0",
        "2,0,3.0,4.0,",
    ]
