"""Which distribution brings a module: the names that differ, for messages and for `samebits init`."""

_NAMED_OTHERWISE = {
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "github": "pygithub",
    "google.protobuf": "protobuf",
    "hydra": "hydra-core",
    "imblearn": "imbalanced-learn",
    "IPython": "ipython",
    "jwt": "pyjwt",
    "keras_tuner": "keras-tuner",
    "kerastuner": "keras-tuner",
    "MeCab": "mecab-python3",
    "mpl_toolkits": "matplotlib",
    "OpenSSL": "pyopenssl",
    "osgeo": "gdal",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "pylab": "matplotlib",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "slugify": "python-slugify",
    "talib": "ta-lib",
    "tensorflow_addons": "tensorflow-addons",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_hub": "tensorflow-hub",
    "tensorflow_probability": "tensorflow-probability",
    "tensorflow_text": "tensorflow-text",
    "umap": "umap-learn",
    "usb": "pyusb",
    "vis": "keras-vis",
    "wx": "wxpython",
    "yaml": "pyyaml",
    "Xlib": "python-xlib",
    "zmq": "pyzmq",
}


def distribution_of(module: str) -> str:
    """The distribution to require of a missing module; a dotted name counts by its longest known part."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    known = next((_NAMED_OTHERWISE[name] for name in names if name in _NAMED_OTHERWISE), None)
    # Most distributions are named like their module, with `-` where an import needs `_`.
    return known or parts[0].lower().replace("_", "-")


def how_to_add(module: str) -> str:
    """The commands that add a module's distribution to a project."""
    return f"echo {distribution_of(module)} >> requirements.in && samebits lock"
