"""The packages of the wheel: pyproject.toml cannot map configs/ and tfds_builders/ into jaxvsr/."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class WithoutTests(build_py):
    """Leaves out the builders' tests, which TFDS wants beside them."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if not module[1].endswith("_test")]


setup(
    packages=[
        *find_packages(include=["jaxvsr", "jaxvsr.*"]),
        "jaxvsr._configs",
        "jaxvsr._builders",
        *(f"jaxvsr._builders.{name}" for name in find_packages("tfds_builders")),
    ],
    package_dir={"jaxvsr._configs": "configs", "jaxvsr._builders": "tfds_builders"},
    cmdclass={"build_py": WithoutTests},
)
