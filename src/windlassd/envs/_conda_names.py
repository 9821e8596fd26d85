"""What is known of conda packages by their names: PyPI's names for them, and what PyPI does not have."""

from __future__ import annotations

# Conda's name → PyPI's, where they differ and the contents are the same for a job.
PYPI_NAMES = {
    "pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch", "torchvision-cpu": "torchvision",
    "matplotlib-base": "matplotlib", "pytables": "tables", "msgpack-python": "msgpack", "dask-core": "dask",
    "ruamel_yaml": "ruamel.yaml", "py-xgboost": "xgboost", "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless", "python-graphviz": "graphviz", "tensorflow-base": "tensorflow",
    "tensorflow-mkl": "tensorflow", "pyarrow-core": "pyarrow", "lightgbm-cpu": "lightgbm", "brotlipy": "brotli",
    "importlib_metadata": "importlib-metadata", "typing_extensions": "typing-extensions",
    "sqlalchemy-base": "sqlalchemy", "seaborn-base": "seaborn", "py-xgboost-cpu": "xgboost", "py-lief": "lief",
    "redis-py": "redis", "jupyter_core": "jupyter-core", "jupyter_client": "jupyter-client", "pyqt": "PyQt5",
    "ipython_genutils": "ipython-genutils", "prompt_toolkit": "prompt-toolkit", "backports.csv": "backports.csv",
}  # fmt: skip

PUBLIC = ("conda-forge", "defaults", "anaconda", "main", "pkgs/main", "free", "pkgs/free", "pytorch", "nvidia")
"""Channels whose Python packages PyPI has under the same names."""

FRAMEWORKS = frozenset((
    "torch", "torchvision", "torchaudio", "tensorflow", "tensorflow-gpu", "tensorflow-cpu", "jax", "jaxlib", "mxnet",
    "cupy", "chainer", "onnxruntime-gpu", "paddlepaddle-gpu", "keras",
))  # fmt: skip
"""PyPI's names of what comes with its own CUDA libraries, or takes the machine's."""

_CUDA = frozenset(("cudatoolkit", "cudatoolkit-dev", "cudnn", "nccl", "pytorch-cuda", "cuda-toolkit", "cuda", "cupti",
                   "pytorch-mutex", "tensorflow-gpu-base"))  # fmt: skip
_CUDA_BEGIN = ("cuda-", "cudatoolkit-", "libcublas", "libcudnn", "libcufft", "libcurand", "libcusolver", "libcusparse",
               "libnvjitlink")  # fmt: skip
BUILD_CHOICES = frozenset(
    ("nomkl", "blas", "libblas", "liblapack", "libcblas", "mkl_fft", "mkl_random", "_openmp_mutex")
)
"""They only choose how conda's own packages are built."""
_NATIVE = frozenset((
    "openmpi", "mpich", "openssl", "gcc", "gxx", "gfortran", "compilers", "c-compiler", "cxx-compiler", "make",
    "graphviz", "r-base", "r", "openjdk", "openblas", "hdf5", "hdf4", "gdal", "geos", "proj", "boost", "boost-cpp",
    "zlib", "ffmpeg",
    "bzip2", "xz", "sqlite", "curl", "git", "conda", "anaconda", "miniconda", "mamba", "readline", "tk", "nodejs",
    "pandoc", "imagemagick", "ghostscript", "poppler", "tesseract", "maven", "perl", "ruby", "julia", "rust", "go",
    "wget", "unzip", "zip", "rsync", "jq", "parallel", "bash", "pkg-config", "autoconf", "automake", "bison", "flex",
    "eigen", "gsl", "fftw", "glib", "cairo", "pango", "gtk3", "qt", "sysroot_linux-64", "binutils", "icu", "freetype",
    "fontconfig", "jpeg", "giflib", "snappy", "lz4-c", "zstd", "samtools", "bcftools", "htslib", "bedtools", "bwa",
    "blast", "bowtie2", "star", "hisat2", "salmon", "fastqc", "mafft", "muscle", "redis-server", "postgresql", "mysql",
    "opencl-headers", "ocl-icd", "ncurses", "sox", "portaudio", "swig-bin", "tmux", "vim", "tree", "screen",
))  # fmt: skip
_NATIVE_BEGIN = ("r-", "perl-", "bioconductor-", "xorg-", "gcc_", "gxx_", "gfortran_", "m2w64-", "font-ttf-", "lib")
_NO_LIBRARY = frozenset(("librosa", "libcst", "libclang", "libsvm", "libsass", "libtmux", "libpysal", "libarchive-c",
                         "libusb1"))  # fmt: skip

# Names that conda and PyPI share: asked of PyPI without a thought. Any other name may be conda's alone.
_SHARED_TEXT = """
absl-py accelerate aiohttp alembic altair argon2-cffi arrow astropy asyncio attrs autograd azure-core azure-identity
azure-storage-blob babel bcrypt beautifulsoup4 black bleach bokeh boto3 botocore bottleneck cachetools catboost celery
certifi cffi chainer chardet click cloudpickle cmake colorama coverage cryptography cupy cvxpy cycler cython dask
datasets decorator deepspeed dill distributed django docker einops elasticsearch emcee entrypoints evaluate
fastai fastapi fastparquet filelock fire flake8 flask folium fsspec future gensim geopandas geopy gevent gitpython
google-cloud-storage gpy greenlet grpcio gunicorn gym gymnasium h5py holoviews horovod httpx huggingface_hub
hyperopt imageio imbalanced-learn importlib-metadata ipykernel ipython ipywidgets isort jax jaxlib jedi jinja2 joblib
jsonschema jupyter jupyterlab keras keras-applications keras-preprocessing kiwisolver lightfm lightgbm lime llvmlite
lxml mako markdown markupsafe matplotlib mkl mkl-service mlflow mlxtend mock more-itertools mpi4py mpmath msgpack
multidict mxnet mypy nbconvert nbformat netcdf4 networkx ninja nltk nose notebook numba numexpr numpy numpydoc onnx
onnxruntime onnxmltools openpyxl opencv-python opencv-python-headless optuna orjson packaging pandas paramiko
parso pathlib2 patsy peewee pickleshare pillow pip pipenv plotly pluggy portalocker prettytable prometheus_client
prophet protobuf psutil psycopg2 psycopg2-binary py ptvsd pyarrow pyasn1 pybind11 pycodestyle pycparser pycrypto
pycryptodome pydantic pydot pyflakes pygments pyinstaller pyjwt pylint pymc pymc3 pymongo pymysql pyodbc pyomo
pyopenssl pyparsing pyproj pysocks pyspark pystan pytest pytest-cov python-dateutil python-dotenv pytorch-lightning
pytz pywavelets pyyaml pyzmq qtconsole ray redis regex requests requests-oauthlib responses rich s3fs sacremoses
scikit-image scikit-learn scikit-optimize scipy scrapy seaborn sentencepiece setuptools setuptools_scm shap shapely
simplejson six skl2onnx slicer smart_open snakeviz sortedcontainers spacy sphinx sqlalchemy sqlparse statsmodels
sympy tables tabulate tblib tenacity tensorboard tensorboardx tensorflow tensorflow-cpu tensorflow-estimator
tensorflow-gpu tensorflow-hub tensorflow-datasets tensorflow-probability termcolor textblob theano threadpoolctl
timm tokenizers toml toolz torch torchaudio torchmetrics torchtext torchvision tornado tox tqdm traitlets
transformers typer typing-extensions tzdata ujson umap-learn urllib3 uvicorn virtualenv wandb watchdog wcwidth
webencodings websockets werkzeug wheel widgetsnbextension wordcloud wrapt xarray xgboost xlrd xlsxwriter xlwt yapf
yarl zict zipp
"""
_SHARED = frozenset(_SHARED_TEXT.split())


def is_cuda(name: str) -> bool:
    """True for conda's packages of CUDA libraries."""
    return name in _CUDA or name.startswith(_CUDA_BEGIN)


def is_native(name: str) -> bool:
    """True for a library or program that PyPI does not have, or has something else under that name."""
    if name in _NO_LIBRARY:
        return False
    return name in _NATIVE or name.startswith(_NATIVE_BEGIN) or name.endswith(("_linux-64", "-devel", "-cos6-x86_64"))


def is_shared(name: str) -> bool:
    """True for a name that PyPI is known to have."""
    return name in _SHARED or name in PYPI_NAMES or name in _NO_LIBRARY
