import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from small import REPOSITORY

from f110_fl.errors import UserError
from f110_fl.files import append_line, being_written, replacing, write_atomic
from f110_fl.tensors import (
    map_arrays,
    read_metadata,
    read_tensors,
    tensors_being_written,
    write_tensors,
)
from sim.settings import find_file


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    write_atomic(file, "first")
    write_atomic(file, b"second \xff")
    assert file.read_bytes() == b"second \xff"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_write_atomic_keeps_the_umask_of_ordinary_files(tmp_path):
    write_atomic(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_private_file_is_never_anybody_elses(tmp_path):
    file = tmp_path / "key"
    with replacing(file, mode=0o600) as opened:
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.stat().st_mode & 0o777 == 0o600
        opened.write(b"secret")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == b"secret"


def test_a_file_takes_its_name_after_what_is_done_meanwhile(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    with being_written(file, [b"n", memoryview(b"ew")]):
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    with pytest.raises(KeyError), being_written(file, [b"newer"]):
        raise KeyError

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"), being_written(file, [b"newer"]):
        pass
    assert file.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_a_forked_process_has_a_disk_to_wait_for(tmp_path):
    with being_written(tmp_path / "parent", [b"first"]):
        pass
    child = os.fork()
    if not child:
        signal.alarm(20)  # instead of waiting for ever
        try:
            with being_written(tmp_path / "child", [b"second"]):
                pass
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "child").read_bytes() == b"second"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, broken):
    file = tmp_path / "a.txt"
    write_atomic(file, "old")

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="no space"):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_appended_lines_of_many_writers_do_not_mix(tmp_path):
    file = tmp_path / "rounds.jsonl"

    def write(who):
        for number in range(50):
            append_line(file, json.dumps([who, number] + [who] * 200), sync=number == 49)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(row[:2] for row in rows) == [[w, n] for w in range(4) for n in range(50)]
    assert all(set(row[2:]) == {row[0]} for row in rows)


@pytest.mark.parametrize("text", ["a\nb", "a\r"])
def test_append_line_takes_one_line(tmp_path, text):
    with pytest.raises(ValueError, match="line break"):
        append_line(tmp_path / "x", text)
    assert not (tmp_path / "x").exists()


@given(
    shapes=st.dictionaries(
        st.text(min_size=1, max_size=8, alphabet="abc./_é"),
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3),
            st.sampled_from(["float32", "float64", "int64", "uint8", "bool"]),
        ),
        max_size=5,
    ),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
)
def test_tensors_come_back_as_they_were(tmp_path_factory, shapes, metadata):
    file = tmp_path_factory.mktemp("t") / "x.safetensors"
    rng = np.random.default_rng(0)
    arrays = {n: rng.integers(0, 2, shape).astype(kind) for n, (shape, kind) in shapes.items()}
    tensors = {
        name: torch.from_numpy(array) if i % 2 else array
        for i, (name, array) in enumerate(arrays.items())
    }
    write_tensors(file, tensors, metadata)
    first = file.read_bytes()
    back = read_tensors(file)
    assert list(back) == sorted(back)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        assert back[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(back[name].numpy(), array)
    mapped = map_arrays(file)
    assert mapped.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (mapped[name].dtype, mapped[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(mapped[name], array)
    assert read_metadata(file) == metadata
    with tensors_being_written(file, tensors, metadata) as digest:
        pass
    assert file.read_bytes() == first
    assert hashlib.sha256(first).hexdigest() == digest
    write_tensors(file, dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert file.read_bytes() == first


def test_tensors_that_share_memory_or_are_strided_or_need_gradients(tmp_path):
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    write_tensors(
        tmp_path / "x", {"base": base, "turned": base.T, "row": base[1], "one": base[0, 1]}
    )
    back = read_tensors(tmp_path / "x")
    assert torch.equal(back["turned"], base.T)
    assert torch.equal(back["row"], base[1])
    assert back["one"].shape == ()


def test_other_processes_write_the_same_bytes(tmp_path):
    code = (
        "import numpy as np, sys; from pathlib import Path\n"
        "from f110_fl.tensors import write_tensors\n"
        "write_tensors(Path(sys.argv[1]), {k: np.ones(3) for k in 'bca'},"
        " {str(i): 'x' for i in range(9)})"
    )
    for name, seed in (("a", "1"), ("b", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            check=True,
            env=env,
            cwd=REPOSITORY,
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_lie_as_the_library_lays_them(tmp_path):
    """With at most one text, whose order the library cannot change."""
    rng = np.random.default_rng(0)
    arrays = {
        "b/ü": rng.integers(0, 9, (3, 1)).astype(np.int64),
        "flag": np.array([True, False, True]),
        "a": rng.standard_normal((2, 5)).astype(np.float32),
        "half": np.full((), 0.5, np.float16),
        "none": np.zeros((0, 4), np.float32),
    }
    for metadata in ({}, {"k": 'a "text"\n'}):
        write_tensors(tmp_path / "x", arrays, metadata)
        assert (tmp_path / "x").read_bytes() == save(arrays, metadata or None)


def test_a_type_that_has_no_place_in_a_file(tmp_path):
    with pytest.raises(TypeError, match="'z' has type complex128"):
        write_tensors(tmp_path / "x", {"z": np.ones(2, complex)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [read_tensors, read_metadata])
@pytest.mark.parametrize("content", [b"", b"not tensors", b"\xff" * 64, None, "cut"])
def test_an_unreadable_tensor_file_is_one_line(tmp_path, read, content):
    file = tmp_path / "x.safetensors"
    if content == "cut":
        write_tensors(file, {"a": np.ones(100)})
        file.write_bytes(file.read_bytes()[:-1])
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match="not a readable safetensors file") as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["none", "", "folder", "nul\0", "x" * 300])
def test_find_file_finds_only_files(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "here").write_text("")
    assert find_file(name, tmp_path) is None
    assert find_file("folder/../folder/here", tmp_path) == (tmp_path / "folder/here").resolve()
