"""A classifier of texts and a language model, tiny and with random numbers, through transformers as a function loads them."""

# transformers and tokenizers are in the trees on which this runs, and nowhere else.
import string
from pathlib import Path
from typing import Any

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TEXTS = ("the film was very good", "a bad film")


def make(folder: Path) -> None:
    """Save both with their tokenizers, as `save_pretrained` does."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": len(_words()), "max_position_embeddings": 64}
    bert: Any = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_labels=3, **sizes
    )
    transformers.BertForSequenceClassification(bert).save_pretrained(folder / "classifier")
    _tokenizer().save_pretrained(folder / "classifier")
    gpt: Any = transformers.GPT2Config(
        vocab_size=len(_words()), n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=2, eos_token_id=3
    )
    transformers.GPT2LMHeadModel(gpt).save_pretrained(folder / "language")
    _tokenizer().save_pretrained(folder / "language")


def _words() -> list[str]:
    letters = string.ascii_lowercase
    return [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), "the", "film", "good", "bad"]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(_words())}
    tokenizer: Any = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))  # noqa: S106 -- a token of a text
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(names, _SPECIAL, strict=True))
    )


def use(folder: Path) -> dict[str, str]:
    """Load both, and answer: the classifier's numbers, and the tokens that the language model goes on with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "classifier")
    classifier = AutoModelForSequenceClassification.from_pretrained(folder / "classifier").eval()
    with torch.inference_mode():
        numbers = classifier(**tokenizer(list(_TEXTS), return_tensors="pt", padding=True)).logits
    tokenizer = AutoTokenizer.from_pretrained(folder / "language")
    language = AutoModelForCausalLM.from_pretrained(folder / "language").eval()
    tokens = language.generate(**tokenizer(_TEXTS[0], return_tensors="pt"), max_new_tokens=8, do_sample=False)
    return {
        "classifier": numbers.numpy().tobytes().hex(),
        "language": repr(tokens.tolist()),
        "text": repr(tokenizer.batch_decode(tokens)),
    }
