"""What lies beside a model on the page, with the real runtime: its tokeniser for texts, the names of its classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import expect

from nnjit_build import demo_model

from . import small_models
from .page_actions import load, run_once, saved_output

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

WORDS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "mat", "on"]
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {
            "id": index,
            "content": WORDS[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index in range(5)
    ],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: index for index, word in enumerate(WORDS)},
    },
}
CLASSES = ["calm", "curious", "sleepy", "hungry"]


def text_classifier(length: int | str) -> onnx.ModelProto:
    """input_ids, attention_mask int64 [batch, length] → ids × mask f32, logits f32 [batch, 4], a sum of rows of a table."""
    table = np.random.default_rng(3).standard_normal((len(WORDS), 4)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"], "mask"),
        helper.make_node("Cast", ["masked"], ["seen"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "masked"], ["rows"], "lookup"),
        helper.make_node("ReduceSum", ["rows", "axis"], ["logits"], "sum", keepdims=0),
    ]
    initializers = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [
        helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["batch", length]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4]),
    ]
    graph = helper.make_graph(nodes, "text_classifier", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def page(module_page: Page, site: SiteServer) -> Page:
    """The page, open for all tests of this module."""
    module_page.goto(site.url)
    return module_page


def published(site: SiteServer, folder: str, model: onnx.ModelProto, tokenizer: bool = True) -> str:
    """The address of a model in a repository as Hugging Face has them, with its companions or without."""
    if tokenizer:
        site.publish("tokenizer.json", json.dumps(TOKENIZER).encode(), folder)
        site.publish("tokenizer_config.json", b'{"pad_token": "[PAD]", "mask_token": "[MASK]"}', folder)
        config = {"id2label": {str(index): name for index, name in enumerate(CLASSES)}}
        site.publish("config.json", json.dumps(config).encode(), folder)
    return site.publish("onnx/model.onnx", model.SerializeToString(), folder)


def write(page: Page, text: str) -> None:
    group = page.get_by_role("group", name="input_ids", exact=True)
    group.get_by_label("Fill with").select_option("Text")
    group.get_by_label("Text", exact=True).fill(text)


def test_a_text_becomes_ids_by_the_tokeniser_beside_the_model(page: Page, site: SiteServer) -> None:
    load(page, published(site, "texts", text_classifier("sequence")), "CPU")
    write(page, "The cats sat.")
    run_once(page)
    np.testing.assert_array_equal(saved_output(page, "seen"), [[2, 5, 6, 8, 7, 0, 3]])
    expect(page.get_by_label("sequence")).to_have_value("7")


def test_the_highest_scores_have_the_names_of_the_model_s_classes(page: Page, site: SiteServer) -> None:
    model = text_classifier("sequence")
    load(page, published(site, "names", model), "CPU")
    write(page, "the cat sat on the mat")
    run_once(page)
    ids = np.array([[2, 5, 6, 7, 10, 5, 9, 3]])
    logits = small_models.reference(model, {"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"][
        0
    ]
    expected = [CLASSES[index] for index in np.argsort(-logits)]
    rows = page.get_by_label("Output logits").locator("tbody tr")
    expect(rows.first).to_contain_text(expected[0])
    assert [row.split("\t")[1] for row in rows.all_inner_texts()] == expected


def test_scores_are_shown_while_the_names_of_classes_do_not_come(page: Page, site: SiteServer) -> None:
    load(page, published(site, "silent", text_classifier("sequence")), "CPU")
    page.route("**/silent/config.json", lambda route: None)
    write(page, "the cat")
    run_once(page)
    expect(page.get_by_label("Output logits").locator("tbody tr")).to_have_count(len(CLASSES))
    expect(page.get_by_label("Output logits")).not_to_contain_text("Name")


def test_what_the_site_knows_is_not_beside_a_model_is_not_asked_for(page: Page, site: SiteServer) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    load(page, f"{site.url}/models/{demo_model.FILE_NAME}", "CPU")
    run_once(page)
    expect(page.get_by_label("Output probabilities").locator("tbody tr").first).to_be_visible()
    page.wait_for_timeout(200)
    assert f"{site.url}/models/{demo_model.FILE_NAME}" in asked
    assert not [url for url in asked if url.endswith("config.json")]


def test_a_text_shorter_than_a_fixed_length_is_padded_and_masked(page: Page, site: SiteServer) -> None:
    load(page, published(site, "fixed", text_classifier(6)), "CPU")
    mask = page.get_by_role("group", name="attention_mask", exact=True)
    write(page, "cat")
    expect(mask.get_by_label("Fill with")).to_have_value("mask")
    run_once(page)
    np.testing.assert_array_equal(saved_output(page, "seen"), [[2, 6, 3, 0, 0, 0]])
    write(page, "the cat sat on the mat")
    run_once(page)
    expect(page.get_by_role("alert")).to_contain_text(
        "The text has 8 tokens, and the model takes 6. Shorten it."
    )
    # Without the text, its mask would hide everything.
    page.get_by_role("group", name="input_ids", exact=True).get_by_label("Fill with").select_option(
        "Random ids"
    )
    expect(mask.get_by_label("Fill with")).to_have_value("ones")


def test_a_model_without_a_tokeniser_asks_for_its_file(page: Page, site: SiteServer) -> None:
    load(page, published(site, "bare", text_classifier("sequence"), tokenizer=False), "CPU")
    write(page, "the mat")
    run_once(page)
    expect(page.get_by_role("alert")).to_contain_text("tokenizer.json")
    group = page.get_by_role("group", name="input_ids", exact=True)
    picker = group.get_by_label("Tokeniser")
    picker.set_input_files([{"name": "notes.json", "mimeType": "application/json", "buffer": b"nothing"}])
    expect(group).to_contain_text("notes.json is not a JSON file.")
    file = {
        "name": "tokenizer.json",
        "mimeType": "application/json",
        "buffer": json.dumps(TOKENIZER).encode(),
    }
    picker.set_input_files([file])  # type: ignore[list-item]
    expect(group).to_contain_text(f"A tokeniser of {len(WORDS)} tokens.")
    run_once(page)
    np.testing.assert_array_equal(saved_output(page, "seen"), [[2, 5, 9, 3]])
