"""All package metadata; pyproject.toml holds tool sections only."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "mmnet/__init__.py").read_text()).group(1)
PROJECT_URLS: dict[str, str] = {}  # empty until the project is published
PYTHONS = range(10, 14)  # for which TensorFlow 2.21 has wheels
DOCS = [
    "ipykernel>=6.29,<8",
    "jupytext>=1.16,<2",
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=0.29,<2",
    "nbconvert>=7.16,<8",
]
BASELINES = ["lightgbm>=4.5,<5", "catboost>=1.2.7,<2"]
FAST = ["onnx>=1.21,<2", "onnxruntime>=1.20,<2", "openvino>=2025,<2027", "tf2onnx>=1.17,<2"]
GPU = ["tensorflow[and-cuda]>=2.21,<2.22"]  # with NVIDIA's libraries; Linux only
HPO = ["optuna>=4,<6"]
# Private parts of MLServer are used, and it needs protobuf 6: best in its own environment.
SERVING = ["mlserver>=1.7,<1.8", "httptools>=0.6.4,<1"]
UMAP = ["umap-learn>=0.5.5,<0.6"]
LAKEHOUSE = ["deltalake>=1,<2"]
MLFLOW = ["mlflow-skinny>=3.1,<4", "alembic>=1.13,<2", "sqlalchemy>=2,<3"]  # the latter for SQLite
SPARK = ["pyspark>=4,<5"]  # and Java 17

# Lower bounds have no known vulnerability, and upper bounds are majors that have not been tried:
# "Dependencies" in SECURITY.md. The versions that CI installs are in constraints.txt.
setup(
    name="mmnet",
    version=VERSION,
    description="Item-level share rate prediction: MMNet, from tables of counts to a decision",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The mmnet developers",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in PYTHONS),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls=PROJECT_URLS,
    entry_points={"console_scripts": ["mmnet = mmnet.__main__:main"]},
    python_requires=">=3.10",
    packages=find_packages(include=["mmnet", "mmnet.*"]),
    package_data={
        "mmnet": [
            "py.typed",
            *("evaluation/*.jinja", "evaluation/*.css", "evaluation/*.js"),
            "recipes/*.txt",
            "experiments/rows/*.txt",
            "mma4ctr/experiments/rows/*.txt",
        ]
    },
    install_requires=[
        "absl-py>=2,<3",
        "duckdb>=1.4,<2",  # Ibis 12 does not know 2.0
        "ibis-framework[duckdb]>=12,<13",
        "jinja2>=3.1.6,<4",
        "keras>=3.15.1,<3.16",
        "keras-tcn==3.5.6",  # 3.5.7 wants tensorflow-macos
        "lark>=1.2,<2",
        "matplotlib>=3.8,<4",
        "numpy>=2,<3",
        "pandas>=2.2,<4",
        "pillow>=12.3,<14",
        "pyarrow>=17,<27",
        "pydantic>=2.7,<3",
        "rich>=13,<16",
        "scikit-learn>=1.5,<2",
        "scipy>=1.12,<2",
        "setuptools>=78.1.1,<82",  # tensorflow-hub imports pkg_resources
        "tensorboard>=2.20,<2.22",  # TensorFlow 2.21 no longer installs it
        "tensorflow>=2.21,<2.22",
        "tensorflow-hub>=0.16.1,<0.17",
        "tensorflow-serving-api>=2.21,<2.22",  # messages of the warm-up file and of its clients
        "tensorflow-text>=2.21,<2.22",
        "tzdata>=2024.1,<2100",
    ],
    extras_require={
        "baselines": BASELINES,
        "docs": DOCS,
        "fast": FAST,
        "gpu": GPU,
        "hpo": HPO,
        "lakehouse": LAKEHOUSE,
        "mlflow": MLFLOW,
        "serving": SERVING,
        "spark": SPARK,
        "umap": UMAP,
        "test": [
            "build>=1.2,<2",
            "hypothesis>=6.100,<7",
            "pytest>=8",
            "pytest-xdist>=3.5",  # the tests run in several processes
            "ruff>=0.6",
            "mypy>=1.10",
            "codespell>=2.4",
            "statsmodels>=0.14,<0.16",  # what the tests of significance compare with
            "twine>=6,<8",
            *BASELINES,
            *FAST,
            *HPO,
            *LAKEHOUSE,
        ],
    },
)
