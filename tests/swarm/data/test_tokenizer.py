from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.data.source import DataError
from swarm.data.tokenizer import EOS, VOCABULARY, ByteTokenizer, FileTokenizer, decode, encode, load_tokenizer
from tests.swarm.data.prepared import trained_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


class TestBytes:
    @given(TEXT)
    def test_text_survives_and_never_holds_an_end(self, text: str) -> None:
        tokens_N = encode(text)
        assert tokens_N.dtype == np.uint8
        assert EOS not in tokens_N
        assert decode(tokens_N) == text

    def test_one_token_is_one_byte(self) -> None:
        assert encode("né").size == 3
        assert ByteTokenizer().vocabulary == VOCABULARY == 256

    def test_a_cut_character_does_not_raise(self) -> None:
        assert decode(encode("né")[:-1]) == "n�"

    def test_it_has_no_other_end(self) -> None:
        with pytest.raises(DataError, match="--bos and --eos are for a tokenizer file"):
            load_tokenizer("bytes", eos="</s>")


class TestFile:
    @given(texts=st.lists(TEXT, max_size=5))
    def test_text_survives(self, file: Path, texts: list[str]) -> None:
        tokenizer = load_tokenizer(str(file))
        encoded = tokenizer.encode_all(texts)
        assert [tokenizer.decode(tokens_N) for tokens_N in encoded] == texts
        assert all(int(tokens_N.max()) < tokenizer.vocabulary for tokens_N in encoded if tokens_N.size)

    def test_the_end_of_a_well_known_model_is_known(self, file: Path) -> None:
        tokenizer = load_tokenizer(str(file))
        assert (tokenizer.bos, tokenizer.eos) == (None, 1)
        assert tokenizer.file == file.read_bytes()
        assert len(bytes.fromhex(tokenizer.digest)) == 32

    @pytest.mark.parametrize("bos", ["<|begin_of_text|>", {"content": "<|begin_of_text|>", "special": True}])
    def test_the_settings_beside_it_name_its_first_and_last_token(
        self, file: Path, tmp_path: Path, bos: object
    ) -> None:
        (tmp_path / "tokenizer.json").write_bytes(file.read_bytes())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": "!"}))
        tokenizer = load_tokenizer(str(tmp_path))
        assert tokenizer.bos == 0
        assert tokenizer.decode(np.array([tokenizer.eos], dtype=np.uint32)) == "!"
        assert load_tokenizer(str(tmp_path), eos="<|end_of_text|>").eos == 1

    def test_a_text_that_mentions_the_end_does_not_end(self, file: Path) -> None:
        tokenizer = load_tokenizer(str(file))
        (tokens_N,) = tokenizer.encode_all(["a <|end_of_text|> b"])
        assert tokenizer.eos not in tokens_N
        assert tokenizer.decode(tokens_N) == "a <|end_of_text|> b"

    def test_a_length_limit_in_the_file_drops_nothing(self, file: Path) -> None:
        content = json.loads(file.read_bytes())
        content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        content["padding"] = {
            "strategy": {"Fixed": 64},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "<|end_of_text|>",
        }
        tokenizer = FileTokenizer(json.dumps(content).encode(), "limited", None, None)
        text = "a text of more than four tokens, to be sure " * 3
        assert tokenizer.decode(tokenizer.encode_all([text])[0]) == text

    @pytest.mark.parametrize(
        ("where", "options", "complaint"),
        [
            ("nowhere", {}, r"there is no tokenizer nowhere: give bytes, a tokenizer\.json"),
            ("{file}", {"eos": "</s>"}, "has no token '</s>': name one that it has with --eos"),
            ("{file}", {"bos": "<s>"}, "name one that it has with --bos"),
            ("{broken}", {}, "is no tokenizer"),
            ("{endless}", {}, "does not say which token ends a document: name it with --eos"),
        ],
    )
    def test_a_mistake_is_named(
        self, file: Path, tmp_path: Path, where: str, options: dict[str, str], complaint: str
    ) -> None:
        (tmp_path / "broken").write_text("{}")
        (tmp_path / "endless").write_bytes(file.read_bytes().replace(b"<|end_of_text|>", b"<|other|>"))
        place = where.format(file=file, broken=tmp_path / "broken", endless=tmp_path / "endless")
        with pytest.raises(DataError, match=complaint):
            load_tokenizer(place, **options)

    @pytest.mark.parametrize(("where", "package"), [("{file}", "tokenizers"), ("owner/name", "huggingface_hub")])
    def test_a_missing_package_says_what_to_install(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, where: str, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(DataError, match=r"pip install 'swarm-node\[hf\]'"):
            load_tokenizer(where.format(file=file))
