"""Package metadata: the one place for name, version, dependencies and commands."""

from pathlib import Path

from setuptools import find_packages, setup

# The torch that is installed stays: torchaudio 2.11, its last release, asks for 2.11 or newer, and pip finds the
# torchvision that fits. 0.26.0 to 0.29.0 ask for exactly one torch each, 0.29.1 for 2.14 or newer.
CORE = [
    "torch>=2.11,<3",
    "torchaudio>=2.11,<3",
    "speechbrain>=1.1.2,<1.2",
    "fsspec>=2024.6",
    "hyperpyyaml>=1.2",
    "jinja2>=3.1",
    "jiwer>=4",
    "markupsafe>=2.1",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "packaging>=23",
    "pandas>=2",
    "ruamel.yaml>=0.17.28",
    "safetensors>=0.4",
    "scipy>=1.11",
    "sentencepiece>=0.2",
    "soundfile>=0.13",
    "tensorboard>=2.16",
    "tqdm>=4.66",
]
IMAGES = ["torchvision>=0.26,<1", "pillow>=10"]
DEMO = ["espeakng-loader>=0.2"]
LM = ["flashlight-text>=0.0.7"]
HYBRID = ["kaldifst>=1.8", "kaldi-decoder>=0.3", "kaldilm>=1.15", "kaldi-native-io>=1.22"]
EXPORT = ["onnx>=1.17", "onnxscript>=0.6", "onnxruntime>=1.20", "openvino>=2025"]
NORMALIZER = ["whisper-normalizer>=0.1.15"]
COMPLETION = ["shtab>=1.13"]
# Ray 2.64 gives up an argument that transcription needs.
SCALE = ["ray[data]>=2.51,<2.64"]
SERVE = ["starlette>=0.47", "uvicorn>=0.35", "h11>=0.14", "websockets>=13", "python-multipart>=0.0.20"]
DOCS = ["zensical>=0.0.73,<0.1", "mkdocstrings-python>=2,<3"]
# What each is for stands in biglittle_asr/extras.py.
EXTRAS = {
    "images": IMAGES,
    "storage": ["s3fs", "gcsfs", "adlfs"],
    "hub": ["huggingface_hub>=0.23"],
    "normalizer": NORMALIZER,
    "completion": COMPLETION,
    "lm": LM,
    "hybrid": HYBRID,
    "export": EXPORT,
    "scale": SCALE,
    "serve": SERVE,
    "demo": DEMO,
    "docs": DOCS,
    # torchvision judges our image models in the tests; the demo's synthesizer makes the tests' speech, and
    # decoding graphs are made and searched in them; kaldi-native-fbank judges our features; hypothesis damages
    # files; sherpa-onnx and onnx-asr run our exported models; openai's client talks to our server; s3fs reads shards
    # from moto's S3.
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff>=0.6",
        "mypy>=1.11",
        "hypothesis>=6.100",
        "kaldi-native-fbank>=1.22",
        "s3fs>=2024.6",
        "moto[server]>=5",
        *IMAGES,
        *DEMO,
        *LM,
        *HYBRID,
        *EXPORT,
        *SCALE,
        *SERVE,
        "openai>=1.50",
        "sherpa-onnx>=2.0,<3",
        "onnx-asr>=0.12",
        *NORMALIZER,
        *COMPLETION,
        *DOCS,
    ],
}

setup(
    name="biglittle-asr",
    version="0.1.0",
    description="Big-Little networks for speech and images: acoustic encoders and classifiers, trained and measured",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["biglittle_asr*"]),
    package_data={
        "biglittle_asr": [
            "py.typed",
            "corpora/images/imagenet_wnids.txt",
            "export/page/*",
            "page.css",
            "pretrained/*/*",
            "profiling/named.json",
            "report/page/*",
        ]
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["biglittle = biglittle_asr.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
