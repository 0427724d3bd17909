"""What a program says becomes events of its run, and nobody notices."""

import logging
import logging.config
import os
import subprocess
import sys
import textwrap
import threading

import pytest

import mlobs
from mlobs.events import Log

ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith(("MLOBS_", "PYTEST_"))}


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker("said", store=tmp_path / "store", capture_logs=True, on_error="raise")


@pytest.fixture(autouse=True)
def _root_level():
    before = logging.root.level
    logging.root.setLevel(logging.INFO)
    yield
    logging.root.setLevel(before)


def logs_of(run):
    return list(mlobs.load_run(run.id, store=run._opened.folder.store).logs())


def messages(run):
    return [log.message for log in logs_of(run)]


def run_program(folder, source, **env):
    """Run a program; what it printed and, of its one run, the log."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env={**ENVIRONMENT, "MLOBS_STORE": str(folder / "store"), "MLOBS_REPRO": "off", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, list(mlobs.load_run("latest", store=folder / "store").logs())


def test_a_record_is_recorded_with_level_logger_and_traceback(tracker):
    with tracker.start_run() as run:
        logging.getLogger("train.data").warning("%d rows are %s", 3, "empty")
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logging.getLogger("train").exception("this fails")

    first, second = logs_of(run)
    assert (first.message, first.level, first.logger, first.stream) == (
        "3 rows are empty", "WARNING", "train.data", "logging",
    )  # fmt: skip
    assert (second.message, second.level) == ("this fails", "ERROR")
    assert second.exception.endswith("ZeroDivisionError: division by zero")


def test_without_the_setting_nothing_is_recorded(tmp_path):
    with mlobs.Tracker("said", store=tmp_path / "store").start_run() as run:
        logging.getLogger("train").error("nobody listens")
    assert messages(run) == []


def test_a_record_below_the_level_that_the_user_set_is_not_made(tracker):
    logging.root.setLevel(logging.WARNING)
    with tracker.start_run() as run:
        logging.getLogger("train").info("quiet")
        logging.getLogger("train").warning("loud")
    assert messages(run) == ["loud"]


def test_debug_records_count_where_the_user_asks_for_them(tracker):
    logging.root.setLevel(logging.DEBUG)
    with tracker.start_run() as run:
        logging.getLogger("train").debug("in detail")
    assert messages(run) == ["in detail"]


def test_logging_stays_what_it_was(tracker):
    handlers, before = list(logging.root.handlers), logging.root.hasHandlers()
    with tracker.start_run():
        assert logging.root.handlers == handlers
        assert logging.root.hasHandlers() is before
        assert logging.getLogger("train").getEffectiveLevel() == logging.INFO
    assert logging.root.parent is None


def test_a_configuration_that_throws_all_handlers_away_changes_nothing(tracker):
    with tracker.start_run() as run:
        handlers = list(logging.root.handlers)
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        logging.getLogger("train").warning("still here")
        logging.root.handlers = handlers
    assert messages(run) == ["still here"]


def test_without_any_handler_python_still_prints_warnings_itself(tmp_path):
    source = """
        import logging, mlobs
        with mlobs.start_run():
            logging.warning("a warning of the last resort")
            logging.getLogger("x").info("not shown")
    """
    plain, _ = run_program(tmp_path, source)
    done, logs = run_program(tmp_path, source, MLOBS_CAPTURE_LOGS="true")

    assert done.returncode == 0
    assert done.stderr == plain.stderr
    assert "a warning of the last resort" in done.stderr
    assert [log.message for log in logs] == ["a warning of the last resort"]


def test_basic_config_inside_of_a_run_still_works(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import logging, mlobs
        with mlobs.start_run():
            logging.basicConfig(level="INFO", format="FORMAT %(message)s")
            logging.getLogger("train").info("formatted")
        """,
        MLOBS_CAPTURE_LOGS="true",
    )
    assert "FORMAT formatted" in done.stderr
    assert [log.message for log in logs] == ["formatted"]


def test_a_record_whose_arguments_do_not_fit_is_kept_all_the_same(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import logging, mlobs
        with mlobs.start_run():
            logging.getLogger("train").warning("%d things", "many")
        """,
        MLOBS_CAPTURE_LOGS="true",
    )
    assert done.returncode == 0
    assert [log.message for log in logs] == ["%d things ('many',)"]


def test_secrets_are_taken_out_of_lines(tracker):
    with tracker.start_run() as run:
        logging.getLogger("train").warning("connect with password=hunter2hunter2")
        logging.getLogger("train").warning("postgresql://me:hunter2hunter2@db/x")
    assert "hunter2" not in "".join(messages(run))


def test_lines_go_to_the_run_that_is_current_where_they_are_made(tracker):
    with tracker.start_run() as run:
        logging.getLogger("train").info("outer")
        with run.child("fold") as child:
            logging.getLogger("train").info("inner")
        logging.getLogger("train").info("outer again")
        thread = threading.Thread(target=lambda: logging.getLogger("train").info("from a thread"))
        thread.start()
        thread.join()
    logging.getLogger("train").info("too late")

    assert messages(run) == ["outer", "outer again", "from a thread"]
    assert messages(child) == ["inner"]


def test_what_mlobs_says_and_what_vendors_say_at_delivery_is_not_taken(tmp_path):
    backend = mlobs.backends.MLflow(f"sqlite:///{tmp_path}/mlflow.db")
    tracker = mlobs.Tracker(
        "said",
        backends=[backend],
        store=tmp_path / "store",
        delivery="thread",
        capture_logs=True,
        finish_timeout_s=200,
    )
    logging.root.setLevel(logging.DEBUG)
    with tracker.start_run() as run:
        run.log_metric("loss", object())
        logging.getLogger("train").warning("mine")
        assert run.delivery()["mlflow"] is not None
    assert run.delivery()["mlflow"].is_settled
    assert messages(run) == ["mine"]


def test_a_log_of_a_forked_child_goes_to_nobodys_journal_but_its_own(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import logging, os, mlobs
        logging.basicConfig(level="INFO")
        with mlobs.start_run() as run:
            logging.info("parent")
            pid = os.fork()
            if pid == 0:
                logging.info("child")
                os._exit(0)
            os.waitpid(pid, 0)
        """,
        MLOBS_CAPTURE_LOGS="true",
    )
    assert done.returncode == 0, done.stderr
    assert [log.message for log in logs] == ["parent", "child"]
    assert len(list((tmp_path / "store").rglob("*.journal"))) == 2


def test_many_threads_log_at_once_and_each_line_is_there(tracker):
    def say(number):
        for line in range(500):
            logging.getLogger("train").info("%d:%d", number, line)

    with tracker.start_run() as run:
        threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said = messages(run)
    assert len(said) == len(set(said)) == 4000


PRINTS = """
    import logging, sys, mlobs
    with mlobs.start_run():
        print("to stdout")
        print("to stderr", file=sys.stderr)
        print("no end", end="")
        print(" ... and its end")
        logging.basicConfig(level="INFO")
        logging.info("a record is no output as well")
        sys.stdout.write("the last line has no end")
    print("after the run")
"""


def test_what_is_printed_is_taken_on_request_and_printed_as_before(tmp_path):
    plain, none = run_program(tmp_path, PRINTS, MLOBS_CAPTURE_LOGS="false")
    done, logs = run_program(tmp_path, PRINTS, MLOBS_CAPTURE_LOGS="all")

    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
    assert none == []
    assert [(log.stream, log.message) for log in logs] == [
        ("stdout", "to stdout"),
        ("stderr", "to stderr"),
        ("stdout", "no end ... and its end"),
        ("logging", "a record is no output as well"),
        ("stdout", "the last line has no end"),
    ]


def test_a_progress_bar_counts_as_it_is_at_its_end(tmp_path):
    pytest.importorskip("tqdm")
    source = """
        import sys, time, mlobs
        from tqdm import tqdm
        with mlobs.start_run():
            for i in tqdm(range(50), desc="epoch", mininterval=0, miniters=1):
                if i == 25:
                    tqdm.write("a line between")
            print("done")
    """
    done, logs = run_program(tmp_path, source, MLOBS_CAPTURE_LOGS="all")

    assert done.returncode == 0
    assert done.stderr.count("epoch: ") >= 50  # the bar is drawn as ever
    said = [log.message for log in logs]
    assert [line for line in said if "50/50" in line] == [said[-2]]
    assert said[-1] == "done"
    assert "a line between" in said
    assert len(said) <= 4


def test_streams_that_a_program_replaces_and_puts_back_are_left_alone(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import contextlib, io, sys, mlobs
        before = sys.stdout
        with mlobs.start_run():
            with contextlib.redirect_stdout(io.StringIO()) as kept:
                print("redirected")
            print("shown", sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding)
            sys.stdout.flush()
            print("bytes", flush=True)
        assert sys.stdout is before
        assert kept.getvalue() == "redirected\\n"
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    assert [log.message for log in logs] == ["shown False 1 utf-8", "bytes"]


def test_a_stream_can_be_copied_entered_and_asked_what_it_is(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import copy, sys, mlobs
        with mlobs.start_run():
            again = copy.copy(sys.stdout)
            print("to the copy", file=again)
            print("readable" if sys.stdout.readable() else "writable")
            with sys.stdout as entered:
                entered.write("inside\\n")
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "to the copy\nwritable\ninside\n"
    assert [log.message for log in logs][-2:] == ["writable", "inside"]


def test_a_line_that_a_fork_cuts_is_the_parents(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import os, sys, mlobs
        with mlobs.start_run():
            print("epoch 1: ", end="", flush=True)
            pid = os.fork()
            if pid == 0:
                print("the child says", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print("done", flush=True)
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(log.message for log in logs) == ["epoch 1: done", "the child says"]


def test_lines_of_runs_that_end_in_other_threads_stay_in_their_own(tmp_path):
    done, _ = run_program(
        tmp_path,
        """
        import sys, mlobs
        from concurrent.futures import ThreadPoolExecutor
        sys.setswitchinterval(1e-5)
        def train(number):
            with mlobs.start_run(f"run-{number}"):
                for line in range(50):
                    print(number, line)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(train, range(24)))
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    for name, run_id in mlobs.runs(store=tmp_path / "store").set_index("name")["run_id"].items():
        said = [log.message for log in mlobs.load_run(run_id, store=tmp_path / "store").logs()]
        number = name.removeprefix("run-")
        assert said == [f"{number} {line}" for line in range(50)]


def test_threads_that_print_while_runs_come_and_go_hurt_nobody(tmp_path):
    """`print` of CPython 3.11 crashed the process: the stream in `sys.stdout` was gone under its hands."""
    done, _ = run_program(
        tmp_path,
        """
        import sys, threading, mlobs
        sys.setswitchinterval(1e-5)
        is_over = threading.Event()
        def talk():
            while not is_over.is_set():
                print("talk", 1)
        threads = [threading.Thread(target=talk) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(400):
            with mlobs.start_run():
                pass
        is_over.set()
        for thread in threads:
            thread.join()
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_a_signal_handler_that_prints_in_the_middle_of_a_line_is_recorded_too(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import signal, sys, mlobs
        count = 0
        def handler(*_):
            global count
            count += 1
            sys.stderr.write(f"handled {count}\\n")
        with mlobs.start_run():
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(20_000):
                sys.stderr.write(f"a\\nb\\n\\x1b[2Aa{number}\\nb\\n")
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(count)
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    handled = {int(log.message.split()[1]) for log in logs if log.message.startswith("handled ")}
    assert handled == set(range(1, int(done.stdout) + 1))


def test_a_stream_that_was_kept_from_an_earlier_run_is_read_along_again(tmp_path):
    done, _ = run_program(
        tmp_path,
        """
        import logging, sys, mlobs
        own = logging.getLogger("own")
        own.propagate = False
        with mlobs.start_run("one"):
            own.addHandler(logging.StreamHandler(sys.stderr))
        with mlobs.start_run("two"):
            own.warning("said by the kept stream")
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    two = mlobs.load_run("latest", store=tmp_path / "store")
    assert (two.start.name, [log.message for log in two.logs()]) == ("two", ["said by the kept stream"])


def test_capsys_and_capfd_of_pytest_see_everything(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import logging, mlobs

            def test_it(capsys, caplog, tmp_path):
                tracker = mlobs.Tracker("t", store=tmp_path / "store", capture_logs="all")
                with tracker.start_run() as run:
                    print("hello")
                    logging.getLogger("x").warning("careful")
                assert capsys.readouterr().out == "hello\\n"
                assert [r.getMessage() for r in caplog.records] == ["careful"]
                said = [log.message for log in mlobs.load_run(run.id, store=tmp_path / "store").logs()]
                assert said == ["hello", "careful"]
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


def test_a_notebook_shows_and_records_what_is_printed(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    store = str(tmp_path / "store")
    cells = [
        f"import logging, mlobs\nrun = mlobs.Tracker(store={store!r}, capture_logs='all').start_run()",
        "print('in a cell')\nlogging.getLogger('x').warning('careful')",
        "run.finish()\nprint('after the run')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])

    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [
        "".join(one["text"] for one in cell["outputs"] if one["name"] == "stdout") for cell in notebook.cells
    ]
    assert shown[1:] == ["in a cell\n", "after the run\n"]
    said = [(log.stream, log.message) for log in mlobs.load_run("latest", store=tmp_path / "store").logs()]
    assert said == [("stdout", "in a cell"), ("logging", "careful")]


def test_a_full_disk_is_said_once_and_the_line_is_shown_as_ever(tmp_path):
    pytest.importorskip("resource")
    done, _ = run_program(
        tmp_path,
        """
        import logging, resource, signal, mlobs
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        logging.basicConfig(level="INFO", format="%(message)s")
        run = mlobs.start_run()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
        for number in range(300):
            logging.info("%d %s", number, "x" * 10_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        logging.info("room again")
        run.finish()
        """,
        MLOBS_CAPTURE_LOGS="true",
    )
    assert done.returncode == 0
    assert done.stderr.count("a line of the log was not recorded") == 1
    assert "calls could not be kept" in done.stderr or "not recorded" in done.stderr
    logs = list(mlobs.load_run("latest", store=tmp_path / "store").logs())
    assert logs[-1].message == "room again"
    assert "299 x" in done.stderr


def test_a_message_that_is_not_utf_8_is_kept_as_far_as_it_is(tracker):
    class Odd:
        def __str__(self):
            return "odd \ud800 text"

    with tracker.start_run() as run:
        logging.getLogger("train").info(Odd())
    [log] = logs_of(run)
    assert isinstance(log, Log)
    assert log.message.startswith("odd ")
    log.message.encode("utf-8")


def test_a_stream_that_is_closed_does_not_hurt(tmp_path):
    done, logs = run_program(
        tmp_path,
        """
        import sys, mlobs
        run = mlobs.start_run()
        print("said")
        sys.stdout.close()
        try:
            print("nobody hears")
        except ValueError:
            pass
        run.finish()
        """,
        MLOBS_CAPTURE_LOGS="all",
    )
    assert done.returncode == 0, done.stderr
    assert [log.message for log in logs] == ["said", "nobody hears"]
