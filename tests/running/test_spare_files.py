"""Files that are written into those of earlier ones."""

import errno
import fcntl
import mmap
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import call
from small import REPOSITORY

from f110_fl.files import SPARE, being_written
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory, spare_files
from f110_fl.training.state_file import saved_progress
from run import main

needs_leases = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")


def write(path: Path, data: bytes, spares: Path) -> int:
    """Write a file and return its inode."""
    with being_written(path, [data], spares):
        pass
    assert path.read_bytes() == data
    return path.stat().st_ino


@pytest.fixture
def spares(tmp_path):
    folder = tmp_path / "spares"
    folder.mkdir()
    return folder


@needs_leases
def test_what_is_replaced_is_written_anew(tmp_path, spares):
    a, b = tmp_path / "a", tmp_path / "b"
    first, second = write(a, b"first of a", spares), write(b, b"first of b", spares)
    assert not list(spares.iterdir())
    write(a, b"second of a", spares)
    assert [path.stat().st_ino for path in spares.iterdir()] == [first]
    assert write(b, b"second of b is longer", spares) == first
    assert write(a, b"short", spares) == second
    assert len(list(spares.iterdir())) == 1
    assert b.read_bytes() == b"second of b is longer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "spares"]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=40)), max_size=30))
@settings(deadline=None, max_examples=40)
def test_every_file_holds_what_was_written_to_it_last(tmp_path_factory, writes):
    folder = tmp_path_factory.mktemp("files")
    (folder / "spares").mkdir()
    last = {}
    for number, data in writes:
        last[number] = data
        write(folder / str(number), data, folder / "spares")
    assert {int(path.name): path.read_bytes() for path in folder.glob("[0-9]")} == last
    assert len(list((folder / "spares").iterdir())) <= 1


@pytest.mark.parametrize("mapped", [False, True])
def test_who_reads_a_file_goes_on_reading_what_it_was(tmp_path, spares, mapped):
    path = tmp_path / "a"
    read = write(path, b"old " * 9999, spares)
    with path.open("rb") as file:
        reader = (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if mapped
            else os.dup(file.fileno())
        )
    inodes = [write(path, bytes([k]) * 39996, spares) for k in range(4)]
    assert read not in inodes
    assert (reader[:] if mapped else os.pread(reader, 39996, 0)) == b"old " * 9999
    reader.close() if mapped else os.close(reader)


def test_another_name_of_a_file_keeps_what_it_was(tmp_path, spares):
    path = tmp_path / "a"
    write(path, b"old", spares)
    os.link(path, tmp_path / "backup")
    for data in (b"one", b"two", b"three"):
        write(path, data, spares)
    assert (tmp_path / "backup").read_bytes() == b"old"


def test_a_kill_before_a_file_was_replaced_leaves_it_what_it_is(tmp_path, spares):
    path = tmp_path / "a"
    write(path, b"old", spares)
    os.link(path, spares / f".killed{SPARE}")  # as if the other name had got its last ending
    write(tmp_path / "b", b"new", spares)
    assert path.read_bytes() == b"old"
    assert not list(spares.iterdir())


@pytest.mark.parametrize("reason", [errno.EINVAL, errno.ENOLCK])
def test_without_leases_files_are_made(tmp_path, spares, monkeypatch, reason):
    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    path = tmp_path / "a"
    write(path, b"old", spares)
    with path.open("rb") as reader:
        for data in (b"one", b"two", b"three"):
            write(path, data, spares)
        assert reader.read() == b"old"


def test_without_the_folder_files_are_made(tmp_path):
    for data in (b"one", b"two", b"three"):
        write(tmp_path / "a", data, tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_folder_is_there_only_as_long_as_it_is_used(tmp_path):
    rundir = RunDir(tmp_path / "run")
    with spare_files(rundir):
        for data in (b"one", b"two"):
            write(rundir.clients / "a", data, rundir.spares)
        assert len(list(rundir.spares.iterdir())) == 1
    assert [path.name for path in rundir.clients.iterdir()] == ["a"]
    (tmp_path / "file").touch()
    with spare_files(RunDir(tmp_path / "file")):  # no folder can be made there
        pass


def test_what_cannot_be_opened_is_not_written(tmp_path, spares):
    """Such as a file of another user, whose run was killed; here a link, which is not followed."""
    (tmp_path / "other").write_bytes(b"other")
    (spares / f".link{SPARE}").symlink_to(tmp_path / "other")
    write(tmp_path / "a", b"new", spares)
    assert (tmp_path / "other").read_bytes() == b"other"
    assert not (tmp_path / "a").is_symlink()
    assert not list(spares.iterdir())


@needs_leases
@pytest.mark.slow
def test_a_simulation_writes_states_into_spare_files(tmp_path, write_scenario):
    scenario, rundir = write_scenario(episodes=1), RunDir(tmp_path / "run")
    rundir.spares.mkdir(parents=True)
    spare = rundir.spares / f".spare{SPARE}"
    spare.write_bytes(bytes(10_000_000))  # longer than a state
    spare.chmod(0o604)  # which new files are not
    flags = ["--max-parallel", "1", "--scenario", scenario]
    made = call(main, tmp_path, *flags, FED_ROOT=str(rundir.root))
    assert made.returncode == 0, made.stderr
    modes = [stat.S_IMODE(rundir.state(client).stat().st_mode) for client in (0, 1)]
    assert modes.count(0o604) == 1
    for client in (0, 1):
        assert saved_progress(rundir.client(client)).round == 1
    assert not rundir.spares.exists()


def test_a_resumed_run_removes_what_a_killed_simulation_left(tmp_path, write_scenario):
    rundir = RunDir(tmp_path / "run")
    rundir.spares.mkdir(parents=True)
    (rundir.spares / f".left{SPARE}").touch()
    with prepare_directory(load_scenario(write_scenario()), rundir, resumed=True):
        assert not rundir.spares.exists()


WRITER = """
import sys
from pathlib import Path
from f110_fl.files import being_written
folder, name = Path(sys.argv[1]), sys.argv[2]
for version in range(100_000):
    path = folder / f"{name}{version % 3}"
    text = b"%s %06d\\n" % (path.name.encode(), version)
    with being_written(path, [text] * (1000 + 37 * (version % 5)), folder / "spares"):
        pass
    print(version, flush=True)
"""


def test_files_are_whole_whenever_two_writers_are_killed(tmp_path, spares):
    most = 0
    for kills in range(6):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, tmp_path, name],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
            )
            for name in ("a", "b")
        ]
        for writer in writers:
            for _ in range(9 + kills):
                assert writer.stdout.readline()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        files = sorted(tmp_path.glob("[ab][0-9]"))
        assert len(files) == 6
        for file in files:
            lines = file.read_bytes().splitlines()
            name, version = lines[0].split()
            assert name == file.name.encode()
            assert len(lines) == 1000 + 37 * (int(version) % 5)
            assert set(lines) == {lines[0]}
            most = max(most, int(version))
    assert most > 9
    assert len(list(spares.glob(f"*{SPARE}"))) <= 2
