"""Limits of a container, read from made-up trees of both versions of control groups."""

from pathlib import Path

import pytest

from bench.system.cgroup import cpu_quota, memory_left, memory_limit, throttling_file

GIB = 2**30
NO_LIMIT = "9223372036854771712\n"  # what version 1 writes for none


class Tree:
    """Folders like /proc and /sys/fs/cgroup, of a process in the group whose lines `groups` are."""

    def __init__(self, folder: Path, *groups: str, memory: int = 16 * GIB) -> None:
        self.proc, self.root = folder / "proc", folder / "cgroup"
        self.root.mkdir()
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in groups))
        (self.proc / "meminfo").write_text(f"MemTotal:       {memory // 1024} kB\nMemFree:  1 kB\n")

    def add(self, group: str, **files: str | int) -> None:
        """A group with these files; in a name, the first underscore is a dot."""
        folder = self.root / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def test_smallest_quota_of_the_own_group_and_those_above_holds(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/jobs/mine/part")
    tree.add("jobs", cpu_max="150000 100000")
    tree.add("jobs/mine", cpu_max="50000 20000")
    tree.add("jobs/mine/part", cpu_max="max 100000")
    tree.add("jobs/other", cpu_max="1000 100000")
    assert cpu_quota(tree.proc, tree.root) == 1.5


def test_quota_of_version_1_is_found_in_the_tree_of_its_controller(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/", "2:cpu,cpuacct:/docker/abc", "0::/docker/abc")
    tree.add("cpu,cpuacct/docker/abc", cpu_cfs_quota_us=250000, cpu_cfs_period_us=100000)
    tree.add("cpu,cpuacct", cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    tree.add("docker/abc", cpu_max="10000 100000")  # of version 2, which doesn't have the controller here
    assert cpu_quota(tree.proc, tree.root) == 2.5


@pytest.mark.parametrize("group", ["/docker/abc", "/../../abc", "/"])
def test_group_that_is_called_otherwise_outside_is_the_top_of_the_tree_within(tmp_path: Path, group: str) -> None:
    tree = Tree(tmp_path, f"0::{group}")
    tree.add("", cpu_max="300000 100000", memory_max=GIB)
    assert cpu_quota(tree.proc, tree.root) == 3.0
    assert memory_limit(tree.proc, tree.root) == GIB


def test_tree_of_version_2_beside_those_of_version_1_has_its_own_folder(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/a", "0::/a")
    tree.add("unified/a", cpu_max="100000 100000")
    tree.add("memory/a", memory_limit_in_bytes=2 * GIB)
    assert (cpu_quota(tree.proc, tree.root), memory_limit(tree.proc, tree.root)) == (1.0, 2 * GIB)


def test_without_limits_or_control_groups_there_are_none(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/a", "2:cpu:/a", "0::/a")
    tree.add("memory/a", memory_limit_in_bytes=NO_LIMIT.strip(), memory_usage_in_bytes=5)
    tree.add("cpu/a", cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    for proc, root in ((tree.proc, tree.root), (tree.proc, tmp_path / "x"), (tmp_path / "x", tree.root)):
        assert cpu_quota(proc, root) is None
        assert memory_limit(proc, root) is None
        assert memory_left(proc, root) is None
        assert throttling_file(proc, root) is None


def test_smallest_memory_limit_holds_and_one_beyond_the_machines_memory_is_none(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a/b", memory=8 * GIB)
    tree.add("a/b", memory_max=16 * GIB)
    assert memory_limit(tree.proc, tree.root) is None
    tree.add("a", memory_max=3 * GIB)
    assert memory_limit(tree.proc, tree.root) == 3 * GIB
    tree.add("a", memory_max="max")
    tree.add("a/b", memory_max=2 * GIB)
    assert memory_limit(tree.proc, tree.root) == 2 * GIB


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("0::/a/b", ("", "memory_max", "memory_current", "inactive_file")),
        (
            "4:memory:/a/b",
            ("memory/", "memory_limit_in_bytes", "memory_usage_in_bytes", "inactive_file 0\ntotal_inactive_file"),
        ),
    ],
)
def test_memory_left_is_that_of_the_fullest_group_and_idle_files_count_as_free(
    tmp_path: Path, group: str, names: tuple[str, str, str, str]
) -> None:
    top, limit, used, idle = names
    tree = Tree(tmp_path, group)
    tree.add(f"{top}a/b", **{limit: 4 * GIB, used: GIB})
    tree.add(f"{top}a/b", memory_stat=f"active_file 7\n{idle} {GIB // 4}")
    assert memory_left(tree.proc, tree.root) == 3 * GIB + GIB // 4
    tree.add(f"{top}a", **{limit: 3 * GIB, used: 2 * GIB})
    assert memory_left(tree.proc, tree.root) == GIB
    tree.add(f"{top}a", **{used: 3 * GIB + 5})
    assert memory_left(tree.proc, tree.root) == 0


def test_throttling_is_counted_at_the_nearest_quota_else_at_the_own_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a/b/c")
    for group in ("a", "a/b", "a/b/c"):
        tree.add(group, cpu_max="max 100000", cpu_stat="usage_usec 1\nthrottled_usec 2")
    assert throttling_file(tree.proc, tree.root) == tree.root / "a" / "b" / "c" / "cpu.stat"
    for group in ("a", "a/b"):
        tree.add(group, cpu_max="100000 100000")
    assert throttling_file(tree.proc, tree.root) == tree.root / "a" / "b" / "cpu.stat"
    for group in ("a", "a/b", "a/b/c"):
        tree.add(group, cpu_stat="usage_usec 1")  # as at the top of a machine's own tree
    assert throttling_file(tree.proc, tree.root) is None
