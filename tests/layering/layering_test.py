"""The layering check must be able to fail: bad trees, each with the one breach it has."""

import tempfile
import unittest
from pathlib import Path

import layering


def problems_of(files: dict[str, str]) -> list[str]:
    """What check_tree says of a tree with these files (path under src/dojo -> text)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dojo"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return layering.check_tree(root)


GOOD = {
    "base/CMakeLists.txt": "dojo_library(base LINK fmt::fmt)\n",
    "base/units.h": "#pragma once\n",
    "mesh/CMakeLists.txt": "dojo_library(mesh\n  DEPS base  # enough\n  LINK Threads::Threads)\n",
    "mesh/mesh.cc": '#include "dojo/mesh/mesh.h"\n\n#include "dojo/base/units.h"\n',
    "tools/CMakeLists.txt": "add_executable(dojo main.cc)\n",
    "tools/main.cc": '#include "dojo/base/units.h"\n#include "dojo/mesh/mesh.h"\n',
}


class Layering(unittest.TestCase):
    def assert_one_problem(self, changes: dict[str, str], *expected: str) -> None:
        problems = problems_of(GOOD | changes)
        self.assertEqual(len(problems), 1, problems)
        for words in expected:
            self.assertIn(words, problems[0])

    def test_a_good_tree_has_no_problem(self):
        self.assertEqual(problems_of(GOOD), [])

    def test_an_include_that_is_not_declared_is_named_with_its_line(self):
        self.assert_one_problem(
            {"base/bad.cc": '#include "dojo/base/units.h"\n#include "dojo/mesh/mesh.h"\n'},
            "base/bad.cc:2:",
            '"dojo/mesh/mesh.h"',
            "not in DEPS of base",
        )

    def test_angle_brackets_spaces_and_subfolders_do_not_hide_an_include(self):
        self.assert_one_problem(
            {"base/internal/bad.h": "  #  include <dojo/mesh/mesh.h>\n"}, "base/internal/bad.h:1:"
        )

    def test_tests_are_held_to_the_same_dependencies(self):
        self.assert_one_problem(
            {"base/units_test.cc": '#include "dojo/mesh/mesh.h"\n'}, "base/units_test.cc:1:"
        )

    def test_a_cycle_is_named(self):
        self.assert_one_problem(
            {"base/CMakeLists.txt": "dojo_library(base DEPS mesh)\n"}, "base -> mesh -> base"
        )

    def test_a_longer_cycle_is_named(self):
        self.assert_one_problem(
            {
                "base/CMakeLists.txt": "dojo_library(base DEPS node)\n",
                "node/CMakeLists.txt": "dojo_library(node DEPS mesh)\n",
            },
            "base -> node -> mesh -> base",
        )

    def test_a_commented_dependency_is_not_declared(self):
        self.assert_one_problem(
            {"mesh/CMakeLists.txt": "dojo_library(mesh  # DEPS base\n)\n"}, "not in DEPS of mesh"
        )

    def test_link_targets_are_not_dependencies(self):
        self.assert_one_problem(
            {"mesh/CMakeLists.txt": "dojo_library(mesh LINK base)\n"}, "not in DEPS of mesh"
        )

    def test_private_headers_stay_private_even_at_the_edge(self):
        self.assert_one_problem(
            {"tools/peek.cc": '#include "dojo/mesh/internal/queue.h"\n'}, "private to mesh"
        )

    def test_a_folder_must_declare_itself(self):
        self.assert_one_problem({"node/CMakeLists.txt": ""}, "dojo_library(node")

    def test_an_unknown_dependency_is_named(self):
        self.assert_one_problem(
            {"mesh/CMakeLists.txt": "dojo_library(mesh DEPS base bse)\n"}, "bse", "no library"
        )

    def test_no_library_uses_the_edge(self):
        self.assert_one_problem(
            {"mesh/CMakeLists.txt": "dojo_library(mesh DEPS base tools)\n"}, "only uses others"
        )

    def test_place_and_system_never_meet(self):
        self.assert_one_problem(
            {
                "system/CMakeLists.txt": "dojo_library(system)\n",
                "place/CMakeLists.txt": "dojo_library(place DEPS system)\n",
            },
            "place must never use",
        )


if __name__ == "__main__":
    unittest.main()
