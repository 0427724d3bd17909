"""What programs were captured with is compared, too."""

import pytest
from programs import eventually, run, run_ids

import mlobs

TRAIN = """
import mlobs
with mlobs.Tracker("churn", store="store").start_run("train") as run:
    run.log_param("lr", 0.1)
"""


@pytest.mark.slow  # three environments are captured
def test_code_environment_and_start_are_told_as_they_differ_from_the_first_run(tmp_path):
    for addition, *arguments in ([""], [""], ["print('more')\n", "--fast"]):
        threads = "2" if addition else "1"
        done = run(tmp_path, TRAIN + addition, *arguments, MLOBS_REPRO="auto", OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        newest = run_ids(tmp_path)[-1]
        eventually(lambda: "mlobs.recipe" in mlobs.load_run(newest, store=tmp_path / "store").tags)  # noqa: B023 - called here
    first, same, other = run_ids(tmp_path)

    found = mlobs.compare([first, same, other], store=tmp_path / "store")

    assert (found.code[same], found.environment[same], found.start[same]) == ((), (), ())
    assert "+print('more')" in found.code[other]
    assert any("OMP_NUM_THREADS" in line for line in found.environment[other])
    assert any("--fast" in line for line in found.start[other])
    assert f"code: {other}" in str(found)
    assert found.params.empty
