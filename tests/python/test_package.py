import importlib.metadata
import os
import subprocess
import sys

import opendojo
import opendojo._core


def test_the_extension_and_the_metadata_are_of_one_version():
    assert opendojo.__version__ == importlib.metadata.version("opendojo")


def test_formats_lists_the_cfloat8_pair():
    formats = {format.name: format for format in opendojo._core.formats()}
    for name, exponent_bits, mantissa_bits in [("cf8_1_4_3", 4, 3), ("cf8_1_5_2", 5, 2)]:
        assert formats[name].bytes == 1
        assert formats[name].exponent_bits == exponent_bits
        assert formats[name].mantissa_bits == mantissa_bits
        assert formats[name].has_bias
    assert not formats["f32"].has_bias


def wait_policy_after_import(environment: dict[str, str]) -> str:
    script = "import os, opendojo; print(os.environ['OMP_WAIT_POLICY'])"
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_openmp_threads_sleep_unless_the_user_says_otherwise():
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    assert wait_policy_after_import(environment) == "PASSIVE"
    assert wait_policy_after_import(environment | {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE"
