"""What is trained on: the answer and its end, and nothing else."""

from typing import Any

import pytest
import torch

from phisight.core.errors import DataError, EmptyFieldError
from phisight.core.geometry import image_tokens
from phisight.data.dataset.image_groups import IMAGE_ROWS
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.tokenize import split_by_length
from tests.helpers.training_examples import TASK, noise_image


def load_seed(row: Any) -> Any:
    return noise_image(row["seed"])


def test_labels_are_the_answer_and_its_end(examples: ExampleSet, processor: Any) -> None:
    example = examples[0]
    trained = example["labels"][example["labels"] != -100]
    assert processor.tokenizer.decode(trained) == TASK.render(examples.rows[0]) + "<|end|>"
    assert torch.equal(example["input_ids"][-len(trained) :], trained)


def test_the_prompt_is_chat_text_with_all_slots(examples: ExampleSet, processor: Any) -> None:
    example = examples[0]
    prompt = example["input_ids"][example["labels"] == -100]
    slots = int((prompt == processor.image_token_id).sum())
    assert slots == image_tokens(120, 100, 1, crop_size=112)
    assert TASK.prompt in processor.decode(prompt)


def test_the_same_ids_as_the_processor_makes(examples: ExampleSet, processor: Any) -> None:
    text = f"<|user|>\n<|image_1|>\n{TASK.prompt}<|end|>\n<|assistant|>\n{TASK.render(examples.rows[2])}<|end|>"
    whole = processor(text=text, images=noise_image(2), return_tensors="pt")
    example = examples[2]
    assert torch.equal(whole["input_ids"][0], example["input_ids"])
    assert torch.equal(whole["pixel_values"][0], example["pixel_values"][0])


def test_the_prompt_is_rendered_once_for_each_number_of_images(
    rows: list[dict[str, Any]], processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids and labels are those of each row's own rendering."""
    two = {**rows[1], IMAGE_ROWS: [rows[1], rows[2]]}
    every = [*rows, two]
    apart = [ExampleSet([row], load_seed, processor, TASK)[0] for row in every]
    render, rendered = processor.apply_chat_template, []

    def counted(messages: Any, **options: Any) -> Any:
        rendered.append(len(messages[0]["content"]) - 1)
        return render(messages, **options)

    monkeypatch.setattr(processor, "apply_chat_template", counted)
    examples = ExampleSet(every, load_seed, processor, TASK)
    for index, expected in enumerate(apart):
        assert torch.equal(examples[index]["input_ids"], expected["input_ids"])
        assert torch.equal(examples[index]["labels"], expected["labels"])
    assert rendered == [1, 2]
    assert examples.lengths == [len(one["input_ids"]) for one in apart]
    assert rendered == [1, 2, 1, 2]


def test_padding_is_masked_by_length_even_where_it_equals_the_end(examples: ExampleSet, processor: Any) -> None:
    lengths = [len(examples[index]["input_ids"]) for index in range(6)]
    assert len(set(lengths)) > 1
    batch = Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(6)])
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        assert (batch["labels"][row, length:] == -100).all()
        assert (batch["input_ids"][row, length:] == processor.tokenizer.pad_token_id).all()


def test_padding_changes_no_loss(model: Any, examples: ExampleSet, processor: Any) -> None:
    collate = Collator(processor.tokenizer.pad_token_id)
    model.eval()
    with torch.no_grad():
        alone = [
            (model(**collate([examples[index]])).loss, int((examples[index]["labels"] != -100).sum()))
            for index in (0, 5)
        ]
        together = model(**collate([examples[0], examples[5]])).loss
    expected = sum(loss * count for loss, count in alone) / sum(count for _, count in alone)
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6)


def test_kept_images_are_read_once(rows: list[dict[str, Any]], processor: Any) -> None:
    reads: list[int] = []

    def load(row: Any) -> Any:
        reads.append(row["seed"])
        return noise_image(row["seed"])

    size = 3 * 112 * 112 * 4  # one tile, which is its thumbnail too
    kept = ExampleSet(rows, load, processor, TASK, keep_bytes=2 * size)
    first = [kept[index]["pixel_values"][0] for index in range(4)]
    again = [kept[index]["pixel_values"][0] for index in range(4)]
    assert reads == [0, 1, 2, 3, 2, 3]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


def test_an_example_is_tokenized_once_for_the_same_targets(
    rows: list[dict[str, Any]], processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, encode, encoded = ExampleSet(rows, load_seed, processor, TASK), processor.encode, []

    def counted(*args: Any) -> Any:
        encoded.append(args)
        return encode(*args)

    monkeypatch.setattr(processor, "encode", counted)
    first, again = examples[1], examples[1]
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert len(encoded) == 2, "prompt, and prompt with answer"
    examples.targets = lambda _row, labels: {"numbers": torch.zeros(len(labels))}  # type: ignore[assignment]
    assert "numbers" not in first
    assert len(examples[1]["numbers"]) == len(first["input_ids"])
    assert len(encoded) == 4
    monkeypatch.setattr(examples, "_free_tokens", 0)
    assert torch.equal(examples[2]["input_ids"], examples[2]["input_ids"])
    assert len(encoded) == 8, "no room"


@pytest.mark.parametrize("title", ["A <|end|> B", "A <|image_1|> B", "A <|assistant|>"])
def test_special_tokens_in_the_table_are_refused(title: str, rows: list[dict[str, Any]], processor: Any) -> None:
    rows[0]["title"] = title
    with pytest.raises(DataError, match="special token"):
        ExampleSet(rows, lambda row: noise_image(0), processor, TASK)[0]


def test_an_empty_field_is_named(rows: list[dict[str, Any]], processor: Any) -> None:
    rows[0]["title"] = ""
    with pytest.raises(EmptyFieldError, match="'title' is empty"):
        ExampleSet(rows, lambda row: noise_image(0), processor, TASK)[0]


def test_lengths_are_known_without_opening_a_image(examples: ExampleSet, processor: Any) -> None:
    lengths = [len(examples[index]["input_ids"]) for index in range(6)]
    limit = sorted(lengths)[2]
    assert examples.lengths == lengths
    kept, fitting, too_long = split_by_length(examples.rows, processor, TASK, 1, limit)
    assert fitting == [length for length in lengths if length <= limit]
    assert [row["seed"] for row in kept] == [index for index, length in enumerate(lengths) if length <= limit]
    assert sorted(too_long) == sorted(length for length in lengths if length > limit)


def test_several_images_go_into_one_prompt(rows: list[dict[str, Any]], processor: Any) -> None:
    joined = [{**rows[0], IMAGE_ROWS: rows[:2]}, rows[2]]
    examples = ExampleSet(joined, lambda row: noise_image(row["seed"]), processor, TASK)
    text = f"<|user|>\n<|image_1|>\n<|image_2|>\n{TASK.prompt}<|end|>\n<|assistant|>\n{TASK.render(rows[0])}<|end|>"
    whole = processor(text=text, images=[noise_image(0), noise_image(1)], return_tensors="pt")
    assert torch.equal(examples[0]["input_ids"], whole["input_ids"][0])
    assert list(examples.lengths) == [len(examples[index]["input_ids"]) for index in range(2)]
    batch = Collator(processor.tokenizer.pad_token_id)([examples[0], examples[1]])
    assert torch.equal(batch["image_sizes"][:2], whole["image_sizes"])
    assert torch.equal(batch["pixel_values"][:2], whole["pixel_values"])
    assert len(batch["image_sizes"]) == 3
